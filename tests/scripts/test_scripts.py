"""The scripts: each says what it is for, and answers --help; both sides of a benchmark are the same network."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnpar.nn.network import Labels, Network
from cnnpar.nn.shapes import Array
from scripts.bench.networks import TASKS, Task
from scripts.harness import Report
from tests.helpers.limits import HANGING
from tests.helpers.tiny_runs import ROOT

SCRIPTS = sorted((ROOT / "scripts").rglob("*.py"))
WITH_OPTIONS = [path for path in SCRIPTS if "def main(" in path.read_text(encoding="utf-8")]


Batch = tuple[Array, Labels]


def module_of(path: Path) -> str:
    """Return the name of a script's module, as `python -m` takes it."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def missing_library(path: Path) -> str | None:
    """Return the name of the library that a script needs and that is not installed."""
    text = path.read_text(encoding="utf-8")
    libraries = {"torch": "PyTorch", "jax": "JAX"}
    needed = [name for name in libraries if f"    import {name}\n" in text]
    return next((libraries[name] for name in needed if importlib.util.find_spec(name) is None), None)


@pytest.mark.parametrize("path", SCRIPTS, ids=module_of)
def test_every_script_has_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.slow
@pytest.mark.parametrize("path", WITH_OPTIONS, ids=module_of)
def test_every_script_with_options_answers_help(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module_of(path), "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANGING,
        check=False,
    )
    if library := missing_library(path):
        assert (done.returncode, done.stderr.partition(":")[0]) == (1, f"{module_of(path)} needs {library}")
        return
    assert done.returncode == 0, done.stderr
    assert f"usage: python -m {module_of(path)} " in done.stdout


def test_the_readme_names_all_scripts_with_options() -> None:
    text = (ROOT / "scripts" / "README.md").read_text(encoding="utf-8")
    modules = {f"scripts.{name}" for name in re.findall(r"scripts\.([a-z_.]+)", text)}
    assert {module_of(path) for path in WITH_OPTIONS if "peer" not in path.name} == modules


@pytest.mark.parametrize(("measured", "code", "verdict"), [(1.0, 0, "all aims met"), (1.5, 1, "1 of 2 aims MISSED")])
def test_a_missed_aim_is_exit_code_1(
    measured: float, code: int, verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report()
    report.check("a ratio", 2.0, "at least", 2.0)
    report.check("a time", measured, "at most", 1.0, "s")
    assert report.end({"time_s": measured}, True) == code
    *_, said, last = capsys.readouterr().out.splitlines()
    assert said == verdict
    found = json.loads(last)
    assert (found["time_s"], [aim["met"] for aim in found["aims"]]) == (measured, [True, not code])
    assert found["machine"]["processor"]


def of_cnnpar(task: Task) -> tuple[Network, Batch, Array, float, Array]:
    """Return a network in float64, where rounding turns no comparison around, with a batch, mean loss and gradient."""
    random = np.random.default_rng(0)
    network = Network.from_tables(task.layers, task.shape, task.classes, np.float64)
    parameters = network.init(0)
    images, labels = random.standard_normal((8, *task.shape)), random.integers(0, task.classes, 8)
    gradient = np.empty_like(parameters)
    sums = network.loss_and_gradient(parameters, images, labels, None, gradient)
    return network, (images, labels), parameters, sums.loss / 8, gradient / 8


@pytest.mark.parametrize("name", TASKS)
def test_pytorch_computes_the_same_loss_and_gradient(name: str) -> None:
    torch: Any = pytest.importorskip("torch")
    from scripts.bench import torch_layers, torch_network

    network, (images, labels), parameters, loss, gradient = of_cnnpar(TASKS[name])
    twin, expected = torch_layers.build(network).double(), torch_layers.build(network).double()
    torch_network.load(twin, network, parameters)
    torch_network.load(expected, network, gradient)
    found = torch_layers.WithLoss(twin)(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels))
    found.backward()
    assert found.item() == pytest.approx(loss, rel=1e-10)
    for ours, theirs in zip(expected.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(theirs.grad.numpy(), ours.detach().numpy(), rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("name", TASKS)
def test_jax_computes_the_same_loss_and_gradient(name: str, channels_first: bool) -> None:
    jax: Any = pytest.importorskip("jax")
    from scripts.bench import jax_network

    network, (images, labels), parameters, loss, gradient = of_cnnpar(TASKS[name])
    if channels_first:
        images = images.transpose(0, 3, 1, 2)
    with jax.enable_x64(True):
        trained, buffers = jax_network.arrays(network, parameters, channels_first)
        expected, _ = jax_network.arrays(network, gradient, channels_first)

        def found(values: Any) -> Any:
            return jax_network.mean_loss(network.tables(), {**values, **buffers}, images, labels, channels_first)

        (own, _), slopes = jax.value_and_grad(found, has_aux=True)(trained)
        assert float(own) == pytest.approx(loss, rel=1e-10)
        for key, slope in slopes.items():
            np.testing.assert_allclose(slope, expected[key], rtol=1e-6, atol=1e-10)
