"""The building plan: imports go only downwards, and only the control plane knows Ray."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "cnnpar"

# The longest prefix decides. A module may import those of lower floors, and its own package's.
FLOORS = {
    "cnnpar.__main__": 7,
    "cnnpar.cli": 6,
    "cnnpar.options": 5.5,
    "cnnpar.api": 5.5,
    "cnnpar.run": 5,
    "cnnpar.training": 4,
    "cnnpar.range_test": 4.5,
    "cnnpar.recorder": 4,
    "cnnpar.summary": 4,
    "cnnpar.resume": 4,
    "cnnpar.parallel": 3,
    "cnnpar.checkpoint": 3,
    "cnnpar.position": 2.7,
    "cnnpar.saver": 3.5,
    "cnnpar.rundir": 3,
    "cnnpar.transfer": 3.5,
    "cnnpar.report": 3,
    "cnnpar.report.inspection": 3.5,
    "cnnpar.report.scores": 3.5,
    "cnnpar.state": 2.5,
    "cnnpar.nn": 2,
    "cnnpar.data": 2,
    "cnnpar.nn.layers": 1,
    "cnnpar.nn.losses": 1,
    "cnnpar.optim": 1,
    "cnnpar.config": 0.5,
    "cnnpar.presets": 0.6,
    "cnnpar.settings": 0.7,
    "cnnpar.rates": 0.5,
    "cnnpar.lock": 0.5,
    "cnnpar.console": 0.5,
    "cnnpar.atomic": 0,
    "cnnpar.errors": 0,
    "cnnpar.compiling": -1,
    "cnnpar.nn.formulas": -1,
    "cnnpar.nn.reference": -0.7,
    "cnnpar.nn.loops": -0.5,
    "cnnpar.nn.compiled": -0.5,
    "cnnpar.nn.compiled_pixels": -0.6,
    "cnnpar.nn.arena": 0,
    "cnnpar.nn.kernels": 0,
    "cnnpar.nn.winograd": 0.5,
    "cnnpar.nn.bands": 0.5,
    "cnnpar.nn.depthwise": 0.5,
    "cnnpar.nn.convolve": 0.7,
    "cnnpar": 0,
}
MAY_IMPORT_RAY = {
    "cnnpar.parallel.attach",
    "cnnpar.parallel.cluster",
    "cnnpar.parallel.actor",
    "cnnpar.parallel.parcel",
    "cnnpar.parallel.ray_store",
}


def modules() -> dict[str, Path]:
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(path: Path) -> set[str]:
    """All that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def prefix(name: str) -> str:
    """The entry of FLOORS that a dotted name belongs to."""
    while name not in FLOORS:
        name = name.rpartition(".")[0]
    return name


def upward(module: str, imported: str) -> bool:
    here, there = prefix(module), prefix(imported)
    return here != there and FLOORS[there] >= FLOORS[here]


@pytest.mark.parametrize("module", sorted(set(modules()) - {"cnnpar"}))  # the door, behind which everything is
def test_imports_go_only_downwards(module: str) -> None:
    known = modules()
    ours = {name for name in imports(known[module]) if name.split(".")[0] == "cnnpar" and name in known}
    wrong = {name for name in ours if name != "cnnpar" and upward(module, name)}
    assert not wrong, f"{module} (floor {FLOORS[prefix(module)]}) imports {wrong}"


@pytest.mark.parametrize("module", sorted(set(modules()) - MAY_IMPORT_RAY))
def test_only_the_control_plane_imports_ray(module: str) -> None:
    assert not {name for name in imports(modules()[module]) if name.split(".")[0] == "ray"}


def test_the_check_sees_an_upward_import() -> None:
    assert upward("cnnpar.data.sources", "cnnpar.nn.network")
    assert upward("cnnpar.nn.layers.conv", "cnnpar.nn.network")
    assert upward("cnnpar.checkpoint", "cnnpar.training")
    assert not upward("cnnpar.training", "cnnpar.nn.network")
    assert not upward("cnnpar.parallel.server", "cnnpar.parallel.plan")


def test_files_stay_short() -> None:
    long = {name: lines for name, path in modules().items() if (lines := len(path.read_text().splitlines())) > 300}
    assert not long
