"""Real Ray workers on two nodes: the same weights as one process, whatever their number, transport and fate."""

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from cnnpar import config
from cnnpar.errors import InputError, RunError
from cnnpar.parallel.cluster import Cluster
from cnnpar.parallel.direct import Direct
from cnnpar.parallel.ray_store import RayStore
from cnnpar.parallel.server import Server
from cnnpar.parallel.start import start
from cnnpar.parallel.transport import Transport
from cnnpar.parallel.wire import Endpoint
from cnnpar.parallel.work import Kind
from cnnpar.report.progress import Progress
from tests import tiny
from tests.toys import fail, in_process, made_run, trained


class Some(Cluster):
    """Some of a cluster's workers, which stay when the run that uses them is over."""

    def __init__(self, cluster: Cluster, workers: list[int]) -> None:
        self.count = len(workers)
        self.host = cluster.host
        self.actors = [cluster.actors[worker] for worker in workers]
        self.descriptions = [cluster.descriptions[worker] for worker in workers]
        self.seen: list[Endpoint] = []
        self._node = cluster._node
        self._serving = {}

    def serve(self, worker: int, endpoint: Endpoint, key: bytes) -> None:
        self.seen.append(endpoint)
        super().serve(worker, endpoint, key)

    def close(self) -> None:
        pass


def transport_of(name: str, workers: Some) -> Transport:
    if name == "ray":
        return RayStore(workers)
    _, work, _ = made_run()
    return Direct(work, workers, 60.0, 60.0)


@pytest.fixture(scope="module")
def alone() -> str:
    """The digest of the whole run in this process."""
    settings, work, data = made_run()
    return trained(settings, work, in_process(work, data)).digest


@pytest.mark.parametrize("transport", ["direct", "ray"])
@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8])
def test_worker_count_and_transport_leave_the_weights_unchanged(
    eight_workers: Cluster, alone: str, workers: int, transport: str
) -> None:
    settings, work, _ = made_run()
    spread = [number * 8 // workers for number in range(workers)]
    with closing(Server(work, transport_of(transport, Some(eight_workers, spread)), 60.0, fail)) as server:
        assert server.workers == workers
        assert trained(settings, work, server).digest == alone


def test_workers_are_on_both_nodes_and_only_the_drivers_share_its_memory(eight_workers: Cluster) -> None:
    assert len({worker.node for worker in eight_workers.descriptions}) == 2
    some = Some(eight_workers, list(range(8)))
    with closing(transport_of("direct", some)):
        assert {endpoint.shared for endpoint in some.seen} == {False, True}


def test_one_core_means_one_blas_thread(eight_workers: Cluster) -> None:
    from cnnpar.parallel.fingerprint import fingerprint

    assert {tuple(worker.fingerprint.items()) for worker in eight_workers.descriptions} == {
        tuple(fingerprint().items())
    }


@pytest.fixture
def three_workers(ray_address: str, eight_workers: Cluster) -> Iterator[Cluster]:
    """Workers of their own, for tests that kill them; they need no more CPUs than are free."""
    _, work, data = made_run()
    cluster = Small(eight_workers, work, data)
    yield cluster
    cluster.close()


class Small(Cluster):
    """Three actors beside the eight: they ask Ray for no CPU."""

    def __init__(self, other: Cluster, work, data) -> None:  # type: ignore[no-untyped-def]
        import ray

        from cnnpar.parallel.actor import Worker

        self.count = 3
        self.host = other.host
        self._node = other._node
        self._ours = False
        self._serving = {}
        stored = {kind: (ray.put(part.images), ray.put(part.labels), part.class_names) for kind, part in data.items()}
        actor = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)(Worker)
        self.actors = [actor.remote(number, work, stored) for number in range(3)]
        self.descriptions = ray.get([actor.describe.remote() for actor in self.actors])


@pytest.mark.parametrize("transport", ["direct", "ray"])
def test_killed_workers_change_nothing_but_their_number(three_workers: Cluster, transport: str) -> None:
    _, work, data = made_run()
    parameters = work.network.init(0)
    expected = in_process(work, data).gradient(parameters, 0, 0)[0].tobytes()
    warnings: list[str] = []
    made: Transport = RayStore(three_workers) if transport == "ray" else Direct(work, three_workers, 60.0, 60.0)
    server = Server(work, made, 60.0, warnings.append)
    with closing(server):
        assert server.gradient(parameters, 0, 0)[0].tobytes() == expected
        for victim in (1, 2):
            os.kill(three_workers.descriptions[victim].pid, signal.SIGKILL)
            assert server.gradient(parameters, 0, 0)[0].tobytes() == expected
        assert server.workers == 1
        os.kill(three_workers.descriptions[0].pid, signal.SIGKILL)
        with pytest.raises(RunError, match="no worker is left; the last one was lost because: its process died"):
            server.gradient(parameters, 0, 0)
    assert warnings == [f"worker {worker} is lost: its process died" for worker in (1, 2, 0)]


def test_too_many_workers_for_the_cluster_are_refused_with_what_there_is(ray_address: str) -> None:
    _, work, data = made_run()
    with pytest.raises(RunError, match="100 workers need 100 CPUs, and the Ray cluster has 12 in 2 node"):
        start(config.Engine(workers=100), work, data, fail)


def test_a_cluster_that_is_busy_ends_the_wait_with_what_is_free(eight_workers: Cluster) -> None:
    _, work, data = made_run()
    with pytest.raises(RunError, match=r"only . of 5 workers started within 0.5 s .* are free"):
        start(config.Engine(workers=5, start_timeout=0.5), work, data, fail)


def test_a_worker_of_another_fingerprint_is_refused_by_name_or_makes_the_run_inexact(eight_workers: Cluster) -> None:
    some = Some(eight_workers, [0, 5])
    stranger = some.descriptions[1]
    some.descriptions[1] = stranger._replace(fingerprint={**stranger.fingerprint, "numpy": "1.0"})
    with pytest.raises(RunError, match=f"worker 1 on {stranger.host} would compute other bits .*numpy: 1.0 instead"):
        some._check_fingerprints(allow_inexact=False, warn=fail)
    warnings: list[str] = []
    some.exact = True
    some._check_fingerprints(allow_inexact=True, warn=warnings.append)
    assert not some.exact
    assert "this run is not exact" in warnings[0]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ray://127.0.0.1:10001", "ray job submit"),
        ("nonsense", "expected `auto` or HOST:PORT"),
        ("127.0.0.1:99999", "expected `auto` or HOST:PORT"),
    ],
)
def test_an_address_that_cannot_be_is_refused_with_a_hint(address: str, words: str) -> None:
    from cnnpar.parallel.cluster import _check_address

    with pytest.raises(InputError, match=words):
        _check_address(address, given=True)


def test_an_address_where_nobody_answers_is_an_error_at_once() -> None:
    from cnnpar.parallel.cluster import _check_address

    with pytest.raises(RunError, match=r"--address 127.0.0.1:1: nobody answers there"):
        _check_address("127.0.0.1:1", given=True)


def test_an_address_that_is_not_rays_is_an_error_at_once() -> None:
    from cnnpar.parallel.cluster import _check_address

    with socket.create_server(("127.0.0.1", 0)) as web, ThreadPoolExecutor(1) as pool:
        port = web.getsockname()[1]

        def answer() -> None:
            peer, _ = web.accept()
            with peer:
                peer.recv(100)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        answered = pool.submit(answer)
        with pytest.raises(InputError, match="something answers there, but not Ray's head"):
            _check_address(f"127.0.0.1:{port}", given=True)
        answered.result()


def test_the_cluster_that_runs_passes_the_check(ray_address: str) -> None:
    from cnnpar.parallel.cluster import _check_address

    _check_address(ray_address, given=True)


def test_evaluation_over_workers_counts_each_sample_once(eight_workers: Cluster) -> None:
    _, work, data = made_run()
    parameters = work.network.init(0)
    expected = in_process(work, data).evaluate(parameters, Kind.TEST)
    for transport in ("direct", "ray"):
        with closing(Server(work, transport_of(transport, Some(eight_workers, [1, 4, 6])), 60.0, fail)) as server:
            assert server.evaluate(parameters, Kind.TEST) == expected
            assert expected.count == len(data[Kind.TEST])


class StopAfter(Progress):
    """Asks its own process to end, as `kill` does, after some steps."""

    def __init__(self, steps: int) -> None:
        super().__init__("quiet")
        self._left = steps

    def step(self, epoch: int, step: int, loss: float, accuracy: float, samples_per_second: float) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_stopped_and_resumed_with_other_workers_and_transports_ends_with_the_same_weights(
    eight_workers: Cluster, tmp_path: Path
) -> None:
    csv = tiny.write_csv(tmp_path / "train.csv")
    whole = tiny.train(tiny.settings(csv), tmp_path / "whole")
    run = tmp_path / "parts"

    def engine(workers: int, transport: str) -> config.Config:
        return tiny.settings(csv, engine={"workers": workers, "transport": transport})

    first = tiny.train(engine(2, "direct"), run, progress=StopAfter(7))
    assert (first.steps, first.stopped_by) == (7, "SIGTERM")
    second = tiny.train(engine(3, "ray"), run, run / "model.json", StopAfter(4))
    assert (second.steps, second.stopped_by) == (11, "SIGTERM")
    last = tiny.train(engine(0, "direct"), run, run / "model.json")
    assert last.stopped_by is None
    assert last.weights_sha256 == whole.weights_sha256
    assert last.exact
