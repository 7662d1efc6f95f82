"""Real Ray workers on two nodes: the same weights as one process, whatever their number, transport and fate."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from ray.util import placement_group, remove_placement_group

from cnnpar import config
from cnnpar.errors import RunError
from cnnpar.parallel import cluster as crew_module
from cnnpar.parallel.cluster import Cluster
from cnnpar.parallel.direct import Direct
from cnnpar.parallel.fingerprint import fingerprint
from cnnpar.parallel.ray_store import RayStore
from cnnpar.parallel.server import Server
from cnnpar.parallel.start import start
from cnnpar.parallel.transport import Transport
from cnnpar.parallel.wire import Endpoint
from cnnpar.parallel.work import Kind
from cnnpar.report.progress import Progress
from tests import tiny
from tests.conftest import HANGING
from tests.ray_start import NODE_CPUS
from tests.toys import At, fail, in_process, made_run, opened, step_until, trained

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster as Nodes

pytestmark = pytest.mark.usefixtures("in_time", "kept_workers")

TRANSPORTS = pytest.mark.parametrize("transport", ["direct", "ray"])
LOST = r"worker {} is lost: (its process died|its connection broke.*)"


class Keeping(Cluster):
    """A cluster whose workers, while they live, are there for the next test: to start one costs Ray a second."""

    kept: ClassVar[list[tuple[str, Any]]] = []  # node and actor

    def __init__(self, settings: config.Engine) -> None:
        """With the work and the samples of `toys.made_run`."""
        _, work, data = made_run()
        self.endpoints: list[Endpoint] = []
        super().__init__(settings, work, data)
        self._new, self._actor = self._actor, self
        self._last = ""

    def remote(self, *arguments: object) -> Any:
        """An actor, where Ray's class of actors would make a new one; from all nodes by turns."""
        if not self.kept:
            return self._new.remote(*arguments)
        other = next((place for place, (node, _) in enumerate(self.kept) if node != self._last), 0)
        self._last, actor = self.kept.pop(other)
        return actor

    def serve(self, worker: int, endpoint: Endpoint, key: bytes) -> None:
        self.endpoints.append(endpoint)
        super().serve(worker, endpoint, key)

    def kill_process(self, worker: int) -> None:
        os.kill(self.descriptions[worker].pid, signal.SIGKILL)

    def close(self) -> None:
        self._orders.put(None)
        self._thread.join()
        for worker, description in self.descriptions.items():
            self.kept.append((description.node, self.actors.pop(worker)))
        super().close()


@contextmanager
def serving(transport: str, warn: Callable[[str], None] = fail, **engine: Any) -> Iterator[tuple[Server, Keeping]]:
    """A server of which no worker is ever late, and the cluster that its workers come from."""
    settings = config.Engine(**{"deadline_floor": 60.0, "start_timeout": 2.0 * HANGING, **engine})
    _, work, _ = made_run()
    crew = Keeping(settings)
    made: Transport = RayStore(crew) if transport == "ray" else Direct(work, crew, settings.start_timeout)
    with closing(opened(Server(work, made, settings, warn))) as server:
        yield server, crew


@pytest.fixture(scope="session")
def kept_workers(ray_address: str) -> None:
    """Eight workers on both nodes, holding the work and the samples of `toys.made_run`."""
    with serving("direct", workers=8):
        pass


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room in the cluster is found soon; a worker that starts slowly is not taken for one without room."""
    monkeypatch.setattr(crew_module, "_LONGEST_LOOK", crew_module._LOOK)
    monkeypatch.setattr(crew_module, "_PLACING_SECONDS", float(HANGING))


@TRANSPORTS
@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8])
def test_worker_count_and_transport_leave_the_weights_unchanged(alone: str, workers: int, transport: str) -> None:
    settings, work, _ = made_run()
    with serving(transport, workers=workers) as (server, _):
        assert server.workers == workers
        assert trained(settings, work, server).digest == alone
        assert server.exact


@TRANSPORTS
def test_evaluation_over_workers_counts_each_sample_once(transport: str) -> None:
    _, work, data = made_run()
    parameters = work.network.init(0)
    expected, counts = in_process(work, data).evaluate(parameters, Kind.TEST)
    with serving(transport, workers=3) as (server, _):
        sums, counted = server.evaluate(parameters, Kind.TEST)
        assert (sums, counted.tolist()) == (expected, counts.tolist())
        assert expected.count == len(data[Kind.TEST])


def test_workers_are_on_both_nodes_and_only_the_drivers_share_its_memory() -> None:
    with serving("direct", workers=8) as (_, crew):
        assert len({worker.node for worker in crew.descriptions.values()}) == 2
        assert {endpoint.shared for endpoint in crew.endpoints} == {False, True}


def test_one_core_means_one_blas_thread() -> None:
    with serving("direct", workers=4) as (_, crew):
        assert {tuple(worker.fingerprint.items()) for worker in crew.descriptions.values()} == {
            tuple(fingerprint().items())
        }


@TRANSPORTS
def test_killed_workers_are_replaced_and_leave_the_weights_unchanged(alone: str, transport: str) -> None:
    settings, work, _ = made_run()
    warnings: list[str] = []
    with serving(transport, warnings.append, workers=3) as (server, crew):

        def kill_all() -> None:
            for worker in list(crew.descriptions):
                crew.kill_process(worker)

        deeds = {3: lambda: crew.kill_process(1), 8: kill_all}
        assert trained(settings, work, server, At(deeds)).digest == alone
        lost = [LOST.format(worker) for worker in range(3)]
        step_until(server, lambda: all(any(re.fullmatch(words, text) for text in warnings) for words in lost))
        step_until(server, lambda: server.workers == 3)


def test_too_many_workers_for_the_cluster_are_refused_with_what_there_is() -> None:
    _, work, data = made_run()
    cpus = 2 * NODE_CPUS
    with pytest.raises(RunError, match=f"100 workers need 100 CPUs, and the Ray cluster has {cpus} in 2 node"):
        start(config.Engine(workers=100), work, data, fail, lambda: False)


@contextmanager
def room(workers: int, *bundles: dict[str, float]) -> Iterator[None]:
    """All CPUs but those of some kept workers are taken, the first ones as the bundles say."""
    free = 2 * NODE_CPUS - len(Keeping.kept) - len(bundles)
    Keeping.kept, rest = Keeping.kept[:workers], Keeping.kept[workers:]
    group = placement_group([*bundles, *[{"CPU": 1.0}] * free])
    try:
        assert group.wait(HANGING)
        yield
    finally:
        remove_placement_group(group)
        Keeping.kept += rest


def test_a_cluster_that_is_busy_ends_the_wait_with_what_is_free() -> None:
    _, work, data = made_run()
    with room(0), pytest.raises(RunError, match=r"only 0 of 2 workers started within 0.5 s .* and 0 are free"):
        start(config.Engine(workers=2, start_timeout=0.5), work, data, fail, lambda: False)


@pytest.mark.slow
def test_a_node_that_is_added_is_used_and_its_loss_is_survived(ray_nodes: "Nodes") -> None:
    with (
        room(2),
        growing("direct") as (direct, direct_crew, direct_warnings),
        growing("ray") as (stored, stored_crew, stored_warnings),
    ):
        node = ray_nodes.add_node(num_cpus=2, object_store_memory=100 << 20)
        step_until(direct, lambda: direct.workers == 2)
        step_until(stored, lambda: stored.workers == 2)
        for crew in (direct_crew, stored_crew):
            assert crew.descriptions[1].node != crew.descriptions[0].node
        ray_nodes.remove_node(node)
        step_until(direct, lambda: direct.workers == 1)
        step_until(stored, lambda: stored.workers == 1)
    for warnings in (direct_warnings, stored_warnings):
        assert warnings[0] == "worker 1 has come"
        assert re.fullmatch(LOST.format(1), warnings[1])
        assert len(warnings) == 2


@contextmanager
def growing(transport: str) -> Iterator[tuple[Server, Keeping, list[str]]]:
    """A server with one worker or two, as there is room, the cluster, and the warnings."""
    warnings: list[str] = []
    with serving(transport, warnings.append, workers="1:2") as (server, crew):
        assert server.workers == 1
        yield server, crew, warnings


@pytest.mark.slow
def test_an_actor_that_cannot_be_placed_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "_PLACING_SECONDS", 0.3)
    warnings: list[str] = []
    halves = {"CPU": 0.5, "first": 0.1}, {"CPU": 0.5, "second": 0.1}
    with room(2, *halves):  # half a CPU is free on each node, which looks like one
        with serving("ray", warnings.append, workers="2:3") as (server, crew):
            step_until(server, lambda: 2 in crew.actors)
            tried = crew.actors[2]
            step_until(server, lambda: crew.actors.get(2, tried) is not tried)
        assert server.workers == 2
    assert not warnings


@pytest.mark.slow
def test_a_worker_of_another_fingerprint_is_refused_by_name_while_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warnings: list[str] = []
    with serving("direct", warnings.append, workers=2) as (server, crew):
        monkeypatch.setenv("OPENBLAS_L2_SIZE", "77")  # those who joined before have what they had
        crew.kill_process(1)
        step_until(server, lambda: any("other bits" in text for text in warnings))
        assert server.workers == 1
        monkeypatch.undo()
        step_until(server, lambda: server.workers == 2)
        assert server.exact
    refused = [text for text in warnings if "other bits" in text]
    assert re.match(
        r"worker 2 is lost: worker 2 on \S+ would compute other bits \(blas_l2_kb: \d+ instead of 77\)", refused[0]
    )


def test_a_worker_of_another_fingerprint_ends_the_start_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "77")
    refusal = (
        r"worker 0 did not start: worker 0 on \S+ would compute other bits \(blas_l2_kb: \d+ instead of 77\); install"
    )
    with pytest.raises(RunError, match=refusal), serving("direct", workers=1):
        pass


@TRANSPORTS
def test_a_worker_of_another_fingerprint_that_is_allowed_makes_the_run_inexact(
    monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "77")
    warnings: list[str] = []
    with serving(transport, warnings.append, workers=1, allow_inexact=True) as (server, _):
        assert not server.exact
    (text,) = warnings
    assert re.search(r"worker 0 on \S+ would compute other bits .*: this run is not exact", text)


class StopAfter(Progress):
    """Asks its own process to end, as `kill` does, after some steps."""

    def __init__(self, steps: int) -> None:
        super().__init__("quiet")
        self._left = steps

    def step(self, epoch: int, step: int, loss: float, accuracy: float, samples_per_second: float) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_a_run_stopped_and_resumed_with_other_workers_and_transports_ends_with_the_same_weights(tmp_path: Path) -> None:
    csv = tiny.write_csv(tmp_path / "train.csv")
    whole = tiny.train(tiny.settings(csv), tmp_path / "whole")
    run = tmp_path / "parts"

    def engine(workers: int, transport: str) -> config.Config:
        return tiny.settings(csv, engine={"workers": workers, "transport": transport})

    first = tiny.train(engine(2, "direct"), run, progress=StopAfter(7))
    assert (first.steps, first.stopped_by) == (7, "SIGTERM")
    second = tiny.train(engine(1, "ray"), run, run / "model.json", StopAfter(4))
    assert (second.steps, second.stopped_by) == (11, "SIGTERM")
    last = tiny.train(engine(0, "direct"), run, run / "model.json")
    assert last.stopped_by is None
    assert last.weights_sha256 == whole.weights_sha256
    assert last.exact
