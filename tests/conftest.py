"""One Ray cluster of two nodes for all tests that need Ray; most need none."""

import gc
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.helpers import ray_nodes as shared_nodes
from tests.helpers.limits import HANGING

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster as Nodes

for name, value in shared_nodes.ENVIRONMENT.items():
    os.environ.setdefault(name, value)

gc.disable()  # until all tests are collected

# What is ignored where the tests are started (nohup, `&`) would be by every command that they start, and send signals.
for number in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

# Tests that share what takes long to make, by the first letters of their names: each group runs in one process.
TOGETHER = {
    "ray": (
        "tests/parallel/on_ray/test_ray.py",
        "tests/parallel/on_ray/test_attach.py",
        "tests/nn/test_user_layers.py::test_workers_run_user_layers_without_having_their_files",
    ),
    "kernel": ("tests/report/test_notebook.py",),
    "compared runs": ("tests/run/test_compare.py",),
    "report": ("tests/run/test_report.py",),
    "export": ("tests/cli/test_export.py",),
    "predict": ("tests/run/test_predict_inputs.py", "tests/run/test_predict_outputs.py"),
    "simulation": ("tests/scripts/test_simulation.py",),
}

# Machines that run tests are busy ones: no example is too slow there. `--hypothesis-profile=thorough` tries more.
hypothesis.settings.register_profile("quick", max_examples=50, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=1000, deadline=None)
hypothesis.settings.load_profile("quick")


def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores: many tests wait, for Ray or for a program that they start."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test with the Ray nodes must be named among those that share them."""
    for item in items:
        if "ray_nodes" in getattr(item, "fixturenames", ()) and _group(item.nodeid) != "ray":
            raise pytest.UsageError(f"{item.nodeid} has the Ray nodes: add it to TOGETHER")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Send the tests of a group to one process, each other test to any.

    `--dist loadgroup` would do it by marks, but with pytest 9.2 it does not (pytest-xdist 3.8, its issue 1386).
    """
    from xdist.scheduler import LoadScopeScheduling

    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = _group
    return scheduler


def _group(test: str) -> str:
    return next((group for group, names in TOGETHER.items() if test.startswith(names)), test)


def pytest_collection_finish() -> None:
    """All tests and what they import stay: the search for cycles need not go through them again and again."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def in_time() -> Iterator[None]:
    """Fails a test that hangs, with the place where it does."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("the test hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(HANGING)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True, scope="session")
def without_word_of_waiting() -> None:
    """Whether a busy machine starts workers in ten seconds is not what tests are about; one has it told."""
    from cnnpar.parallel import server

    server._PATIENCE = float(HANGING)


@pytest.fixture(autouse=True)
def without_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes ten times as long as a tiny run; tests/report/test_plots.py has a run in its own process draw it."""
    monkeypatch.setattr("cnnpar.run.recorder.draw_accuracy", lambda *_: None)


@pytest.fixture(scope="session")
def alone() -> str:
    """The digest of the run of `made_runs.made_run` in this process."""
    from tests.helpers.made_runs import in_process, made_run, trained

    settings, work, data = made_run()
    return trained(settings, work, in_process(work, data)).digest


@pytest.fixture(scope="session")
def ray_nodes() -> Iterator["Nodes"]:
    """Start two nodes, the driver attached to the first; on each is room for eight workers."""
    ray = pytest.importorskip("ray")
    nodes = shared_nodes.started_nodes()
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="session")
def ray_address(ray_nodes: "Nodes") -> str:
    """Return the address of this cluster."""
    return str(ray_nodes.address)
