"""Ray workers on two nodes: the weights of one process, for any number, transport and failure of the workers."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from ray.util import placement_group, remove_placement_group

from cnnpar.config.sections import Config, Engine
from cnnpar.errors import RunError
from cnnpar.fingerprint import fingerprint
from cnnpar.parallel.direct.handshake import Endpoint
from cnnpar.parallel.direct.samples import Samples
from cnnpar.parallel.direct.transport import DirectTransport
from cnnpar.parallel.on_ray import cluster as cluster_module
from cnnpar.parallel.on_ray.cluster import Cluster
from cnnpar.parallel.on_ray.orders import Begin
from cnnpar.parallel.on_ray.pickling import pickle_work
from cnnpar.parallel.server import Server
from cnnpar.parallel.start import start
from cnnpar.parallel.work import Kind
from cnnpar.report.progress import Progress
from tests.helpers import tiny_runs
from tests.helpers.limits import HANGING
from tests.helpers.made_runs import At, fail, in_process, made_run, opened, step_until, trained
from tests.helpers.ray_nodes import NODE_CPUS

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster as Nodes

pytestmark = pytest.mark.usefixtures("in_time", "kept_workers")

TRANSPORTS = pytest.mark.parametrize("transport", ["direct", "ray"])
LOST = r"worker {} is lost: (its process died|its connection broke.*)"


class Keeping(Cluster):
    """A cluster that keeps its living workers for the next test, as Ray needs a second to start one."""

    kept: ClassVar[list[tuple[str, Any]]] = []  # node and actor

    def __init__(self, settings: Engine) -> None:
        """Take the work and the samples of `made_run`."""
        _, work, data = made_run()
        self.endpoints: list[Endpoint] = []
        self.reasons: dict[int, str] = {}
        self.shared = Samples.of(data)
        order = Begin(settings, pickle_work(work), self.shared.layout, fingerprint(), "standing", "", 0, None)
        super().__init__(order, self.shared)
        self._new, self._actor = self._actor, self
        self._last = ""

    def why_ended(self, worker: int, seconds: float) -> str | None:
        """Wait for the end of a worker's call, as the run waits for its report."""
        wait([call for number, call in self._serving.items() if number == worker], seconds)
        self.reasons |= self.ended()
        return self.reasons.get(worker)

    def remote(self, *arguments: object) -> Any:
        """Return a kept actor, from the nodes by turns; without any, what Ray's class of actors makes."""
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
        self._relays.shutdown()
        for worker, description in self.descriptions.items():
            self.kept.append((description.node, self.actors.pop(worker)))
        super().close()


@contextmanager
def serving(transport: str, warn: Callable[[str], None] = fail, **engine: Any) -> Iterator[tuple[Server, Keeping]]:
    """Give a server with a deadline that no worker misses, and the cluster that its workers come from."""
    settings = Engine(**{"transport": transport, "deadline_floor": 60.0, "start_timeout": 2.0 * HANGING, **engine})
    _, work, _ = made_run()
    cluster = Keeping(settings)
    made = DirectTransport(work, cluster, settings.start_timeout, cluster.shared)
    with closing(opened(Server(work, made, settings, warn))) as server:
        yield server, cluster


@pytest.fixture(scope="session")
def kept_workers(ray_address: str) -> None:
    """Start eight workers, on both nodes, with the work and the samples of `made_run`."""
    with serving("direct", workers=8):
        pass


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for room in the cluster often."""
    monkeypatch.setattr(cluster_module, "_LONGEST_LOOK", cluster_module._LOOK)


@TRANSPORTS
@pytest.mark.parametrize("workers", [1, 2, 8, *(pytest.param(number, marks=pytest.mark.slow) for number in (3, 4))])
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


def test_only_workers_on_the_drivers_node_share_its_memory() -> None:
    with serving("direct", workers=8) as (_, cluster):
        assert len({worker.node for worker in cluster.descriptions.values()}) == 2
        assert {endpoint.shared for endpoint in cluster.endpoints} == {False, True}


def test_workers_have_the_fingerprint_of_the_driver() -> None:
    with serving("direct", workers=4) as (_, cluster):
        assert {tuple(worker.fingerprint.items()) for worker in cluster.descriptions.values()} == {
            tuple(fingerprint().items())
        }


@pytest.mark.parametrize("transport", ["direct", pytest.param("ray", marks=pytest.mark.slow)])
def test_killed_workers_leave_the_weights_unchanged(alone: str, transport: str) -> None:
    settings, work, _ = made_run()
    warnings: list[str] = []
    with serving(transport, warnings.append, workers=3) as (server, cluster):

        def kill_all() -> None:
            for worker in list(cluster.descriptions):
                cluster.kill_process(worker)

        deeds = {3: lambda: cluster.kill_process(1), 8: kill_all}
        assert trained(settings, work, server, At(deeds)).digest == alone
        lost = [LOST.format(worker) for worker in range(3)]
        step_until(server, lambda: all(any(re.fullmatch(words, text) for text in warnings) for words in lost))
        step_until(server, lambda: server.workers == 3)


def test_more_workers_than_cpus_are_refused_with_both_counts() -> None:
    _, work, data = made_run()
    cpus = 2 * NODE_CPUS
    with pytest.raises(RunError, match=f"100 workers need 100 CPUs, and the Ray cluster has {cpus} in 2 node"):
        start(Engine(workers=100), work, data, fail, lambda: False)


@contextmanager
def room(workers: int, *bundles: dict[str, float]) -> Iterator[None]:
    """Leave only some kept workers and no CPU free: `bundles` say how much of the first free CPUs is taken."""
    free = 2 * NODE_CPUS - len(Keeping.kept) - len(bundles)
    Keeping.kept, rest = Keeping.kept[:workers], Keeping.kept[workers:]
    group = placement_group([*bundles, *[{"CPU": 1.0}] * free])
    try:
        assert group.wait(HANGING)
        yield
    finally:
        remove_placement_group(group)
        Keeping.kept += rest


def test_start_on_a_busy_cluster_fails_with_the_free_cpus() -> None:
    words = r"only 0 of 2 workers started within 0.5 s .* and 0 are free"
    with room(0), pytest.raises(RunError, match=words), serving("direct", workers=2, start_timeout=0.5):
        pass


@pytest.mark.slow
def test_a_node_that_is_added_is_used_and_its_loss_is_survived(ray_nodes: "Nodes") -> None:
    with (
        room(2),
        growing("direct") as (direct, direct_cluster, direct_warnings),
        growing("ray") as (stored, stored_cluster, stored_warnings),
    ):
        node = ray_nodes.add_node(num_cpus=2, object_store_memory=100 << 20)
        step_until(direct, lambda: direct.workers == 2)
        step_until(stored, lambda: stored.workers == 2)
        for cluster in (direct_cluster, stored_cluster):
            assert cluster.descriptions[1].node != cluster.descriptions[0].node
        ray_nodes.remove_node(node)
        step_until(direct, lambda: direct.workers == 1)
        step_until(stored, lambda: stored.workers == 1)
    for told in (direct_warnings, stored_warnings):
        warnings = [text for text in told if not text.startswith("starting ")]
        assert warnings[0] == "worker 1 has come"
        assert re.fullmatch(LOST.format(1), warnings[1])
        assert len(warnings) == 2


@contextmanager
def growing(transport: str) -> Iterator[tuple[Server, Keeping, list[str]]]:
    """Give a server with one worker, or two where there is room, its cluster and its warnings."""
    warnings: list[str] = []
    with serving(transport, warnings.append, workers="1:2") as (server, cluster):
        assert server.workers == 1
        yield server, cluster, warnings


@pytest.mark.slow
def test_unplaceable_actor_waits_while_steps_go_on() -> None:
    warnings: list[str] = []
    halves = {"CPU": 0.5, "first": 0.1}, {"CPU": 0.5, "second": 0.1}
    with room(2, *halves):  # half a CPU is free on each node, which looks like one
        with serving("ray", warnings.append, workers="2:3") as (server, cluster):
            step_until(server, lambda: 2 in cluster.actors)
            step_until(server, lambda: True)
            assert 2 not in cluster.descriptions
        assert server.workers == 2
    assert not warnings


@pytest.mark.slow
def test_replacement_of_another_fingerprint_is_refused() -> None:
    warnings: list[str] = []
    with serving("direct", warnings.append, workers=2) as (server, cluster):
        own = cluster._begin
        cluster._begin = replace(own, fingerprint={**own.fingerprint, "blas_l2_kb": "77"})
        cluster.kill_process(1)
        step_until(server, lambda: any("other bits" in text for text in warnings))
        assert server.workers == 1
        cluster._begin = own
        step_until(server, lambda: server.workers == 2)
        assert server.exact
    refused = [text for text in warnings if "other bits" in text]
    assert re.match(
        r"worker 2 is lost: worker 2 on \S+ would compute other bits \(blas_l2_kb: \d+ instead of 77\)", refused[0]
    )


def test_another_fingerprint_at_the_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "77")
    refusal = (
        r"worker 0 did not start: worker 0 on \S+ would compute other bits \(blas_l2_kb: \d+ instead of 77\); install"
    )
    with pytest.raises(RunError, match=refusal), serving("direct", workers=1):
        pass


@TRANSPORTS
def test_allowed_other_fingerprint_makes_the_run_inexact(monkeypatch: pytest.MonkeyPatch, transport: str) -> None:
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "77")
    warnings: list[str] = []
    with serving(transport, warnings.append, workers=1, allow_inexact=True) as (server, _):
        assert not server.exact
    (text,) = warnings
    assert re.search(r"worker 0 on \S+ would compute other bits .*: this run is not exact", text)


class StopAfter(Progress):
    """Send SIGTERM to this process after some steps."""

    def __init__(self, steps: int) -> None:
        super().__init__("quiet")
        self._left = steps

    def step(self, epoch: int, step: int, loss: float, accuracy: float, samples_per_second: float) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_resume_with_other_workers_gives_the_same_weights(tmp_path: Path) -> None:
    csv = tiny_runs.write_csv(tmp_path / "train.csv")
    whole = tiny_runs.train(tiny_runs.settings(csv), tmp_path / "whole")
    run = tmp_path / "parts"

    def engine(workers: int, transport: str) -> Config:
        return tiny_runs.settings(csv, engine={"workers": workers, "transport": transport})

    first = tiny_runs.train(engine(2, "direct"), run, progress=StopAfter(7))
    assert (first.steps, first.stopped_by) == (7, "SIGTERM")
    second = tiny_runs.train(engine(1, "ray"), run, run / "model.json", StopAfter(4))
    assert (second.steps, second.stopped_by) == (11, "SIGTERM")
    last = tiny_runs.train(engine(0, "direct"), run, run / "model.json")
    assert last.stopped_by is None
    assert last.weights_sha256 == whole.weights_sha256
    assert last.exact
