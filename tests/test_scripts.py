"""The scripts: each says what it is for, and answers --help; both sides of a benchmark are the same network."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnpar.nn.network import Network
from tests.conftest import HANGING

FOLDER = Path(__file__).parents[1] / "scripts"
SCRIPTS = sorted(FOLDER.glob("*.py"))
WITH_OPTIONS = [path for path in SCRIPTS if "ArgumentParser" in path.read_text(encoding="utf-8")]


def skip_without_torch(path: Path) -> None:
    if "import torch\n" in path.read_text(encoding="utf-8") and importlib.util.find_spec("torch") is None:
        pytest.skip("needs torch")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_script_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.slow
@pytest.mark.parametrize("path", WITH_OPTIONS, ids=lambda path: path.name)
def test_every_script_with_options_explains_them(path: Path) -> None:
    skip_without_torch(path)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, str(path), "--help"],
        capture_output=True,
        text=True,
        timeout=HANGING,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"usage: {path.name}" in done.stdout


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a test import scripts as they import each other."""
    monkeypatch.syspath_prepend(FOLDER)


def test_the_peer_of_the_benchmark_computes_the_same_loss_and_gradient(scripts: None) -> None:
    torch: Any = pytest.importorskip("torch")
    import bench_networks
    import peer_ddp

    random = np.random.default_rng(0)
    for task in bench_networks.TASKS.values():  # in float64: rounding then turns no comparison around
        network = Network.from_tables(task.layers, task.shape, task.classes, np.float64)
        parameters = network.init(0)
        images = random.standard_normal((8, *task.shape))
        labels = random.integers(0, task.classes, 8)
        gradient = np.empty_like(parameters)
        sums = network.loss_and_gradient(parameters, images, labels, None, gradient)

        twin, expected = peer_ddp.build(network).double(), peer_ddp.build(network).double()
        peer_ddp.load(twin, network, parameters)
        peer_ddp.load(expected, network, gradient / 8)
        loss = peer_ddp.WithLoss(twin)(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels))
        loss.backward()
        assert loss.item() == pytest.approx(sums.loss / 8, rel=1e-10)
        for ours, theirs in zip(expected.parameters(), twin.parameters(), strict=True):
            np.testing.assert_allclose(theirs.grad.numpy(), ours.detach().numpy(), rtol=1e-6, atol=1e-10)
