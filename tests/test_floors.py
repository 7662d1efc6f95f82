"""The building plan: one column of folders, in which imports go only downwards, and one folder that imports ray."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "cnnpar"

# From the roof to the ground. A file imports from rows below its own, and from its own folder.
COLUMN = (
    {"__main__", "__init__"},
    {"sklearn"},
    {"cli", "api"},
    {"run"},
    {"report", "exchange"},
    {"storage"},
    {"training"},
    {"parallel"},
    {"nn", "optim", "data"},
    {"config"},
    {"fingerprint", "blas", "rng", "compiling", "errors", "files", "machine", "text", "version"},
)
GROUND = len(COLUMN) - 1  # its files may import each other
SEEN_BY_THE_ENGINE = {"cnnpar.nn.shapes", "cnnpar.nn.sums", "cnnpar.data.dataset"}
MOST_FILES_AT_THE_ROOT = 12
MOST_LINES_OF_A_FILE, MOST_LINES_OF_A_FUNCTION = 300, 60
MOST_PARAMETERS_OF_THE_LOOP = 7


@cache
def modules() -> dict[str, Path]:
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


@cache
def imports(path: Path) -> set[str]:
    """The modules that a file imports, inside functions too; `from package import name` gives the submodule, if any."""
    found, known = set(), modules()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            submodules = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else str(node.module) for name in submodules.values()}
    return found


def ours(module: str) -> set[str]:
    """The modules of cnnpar that one of them imports."""
    known = modules()
    return {name for name in imports(known[module]) if name in known and name != module}


def room(module: str) -> str:
    """The folder, or the file at the root, that a module is in."""
    return [*module.split("."), "__init__"][1]


def floor(module: str) -> int:
    return next(row for row, rooms in enumerate(COLUMN) if room(module) in rooms)


def upward(module: str, imported: str) -> bool:
    same = room(module) == room(imported) or floor(module) == floor(imported) == GROUND
    return not same and floor(imported) <= floor(module)


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_go_only_downwards(module: str) -> None:
    assert not {name for name in ours(module) if upward(module, name)}


def test_no_imports_go_round_in_a_circle() -> None:
    graph = {name: ours(name) for name in modules()}
    assert list(TopologicalSorter(graph).static_order())


def test_ray_is_imported_in_one_folder() -> None:
    users = {name for name, path in modules().items() if "ray" in {found.split(".")[0] for found in imports(path)}}
    assert users
    assert {name for name in users if not name.startswith("cnnpar.parallel.on_ray.")} == set()


def test_the_engine_knows_vectors_not_layers() -> None:
    below = {name for module in modules() if room(module) == "parallel" for name in ours(module)}
    assert {name for name in below if room(name) in ("nn", "optim", "data")} == SEEN_BY_THE_ENGINE


def test_the_check_sees_an_upward_import() -> None:
    assert upward("cnnpar.data.load", "cnnpar.nn.network")
    assert upward("cnnpar.parallel.server", "cnnpar.training.loop")
    assert upward("cnnpar.storage.packing", "cnnpar.run.train")
    assert upward("cnnpar.cli.commands", "cnnpar.api")
    assert upward("cnnpar.nn.sums", "cnnpar")
    assert not upward("cnnpar.training.loop", "cnnpar.nn.network")
    assert not upward("cnnpar.parallel.server", "cnnpar.parallel.tree")


def test_the_root_holds_few_files() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_FILES_AT_THE_ROOT


def test_files_and_functions_stay_short() -> None:
    long = {
        name: lines
        for name, path in modules().items()
        if (lines := path.read_text().count("\n")) > MOST_LINES_OF_A_FILE
    }
    assert not long
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
                length = int(node.end_lineno or 0) - first + 1
                if length > MOST_LINES_OF_A_FUNCTION:
                    long[f"{name}.{node.name}"] = length
    assert not long


def test_the_training_loop_takes_few_parameters() -> None:
    tree = ast.parse((PACKAGE / "training" / "loop.py").read_text(encoding="utf-8"))
    (train,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "train")
    assert len(train.args.args + train.args.kwonlyargs) <= MOST_PARAMETERS_OF_THE_LOOP
