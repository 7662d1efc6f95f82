"""One Ray cluster of two nodes for all tests that need Ray; most need none."""

import gc
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster as Nodes

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # Ray reads it at its import; the nodes are this process's own
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# What is ignored where the tests are started (nohup, `&`) would be by every command that they start, and send signals.
for number in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

NODE_CPUS = 9
HANGING = 120  # seconds

# Machines that run tests are busy ones: no example is too slow there. `--hypothesis-profile=thorough` tries more.
hypothesis.settings.register_profile("quick", max_examples=50, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=1000, deadline=None)
hypothesis.settings.load_profile("quick")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests with a Ray cluster go to one process, as they share it."""
    for item in items:
        if "ray_nodes" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("ray"))


def pytest_collection_finish() -> None:
    """All tests and what they import stay: the search for cycles need not go through them again and again."""
    gc.freeze()


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
    """Two nodes of nine CPUs each, the driver attached to the first; eight workers leave room on both."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster as Nodes

    node = {"num_cpus": NODE_CPUS, "object_store_memory": 100 << 20}
    nodes = Nodes(initialize_head=True, head_node_args={**node, "include_dashboard": False, "resources": {"first": 1}})
    nodes.add_node(**node, resources={"second": 1})
    ray.init(address=nodes.address, logging_level="error", log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="session")
def ray_address(ray_nodes: "Nodes") -> str:
    """Where this cluster is found."""
    return str(ray_nodes.address)
