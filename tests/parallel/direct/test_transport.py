"""The direct transport with real processes, without Ray: faults of workers leave the weights unchanged to the bit."""

import math
import os
import resource
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnpar.config.sections import Engine
from cnnpar.data.dataset import Dataset
from cnnpar.errors import RunError
from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums
from cnnpar.parallel.direct import transport as direct_module
from cnnpar.parallel.direct.handshake import Endpoint
from cnnpar.parallel.direct.samples import Samples
from cnnpar.parallel.direct.transport import DirectTransport
from cnnpar.parallel.server import Server
from cnnpar.parallel.transport import Lost
from cnnpar.parallel.work import Kind, Prepared, Step, Work
from tests.helpers.made_runs import Around, At, fail, in_process, made_run, opened, rich_run, step_until, trained
from tests.helpers.plain_workers import Cursed, Processes, Watched

pytestmark = pytest.mark.usefixtures("in_time")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave 30 s to find out why a worker is gone, and look every 0.05 s."""
    monkeypatch.setattr(direct_module, "_LOOK", 0.05)
    monkeypatch.setattr(direct_module, "_REASON_SECONDS", 30.0)


def test_closing_gives_the_samples_memory_back() -> None:
    _, work, data = made_run()
    samples = Samples.of(data)
    DirectTransport(work, Processes(work, data, [True]), 60.0, samples).close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(samples.memory.descriptor)


def serving(
    transport: DirectTransport,
    work: Work,
    warn: Callable[[str], None] = fail,
    clock: Callable[[], float] = time.monotonic,
    **engine: Any,
) -> Server:
    """Return a server with two workers and a deadline that none of them misses, unless `engine` says otherwise."""
    settings = Engine(**{"workers": 2, "deadline_floor": 60.0, **engine})
    return opened(Server(work, transport, settings, warn, clock=clock))


@pytest.mark.parametrize("shared", [[True, True], [False, False], [True, False]], ids=["memory", "socket", "both"])
def test_worker_processes_give_the_same_bits_as_in_process(alone: str, shared: list[bool]) -> None:
    settings, work, data = made_run()
    with closing(serving(DirectTransport(work, Processes(work, data, shared), 60.0), work)) as server:
        state = trained(settings, work, server)
        assert state.digest == alone
        sums, counts = server.evaluate(state.parameters, Kind.TEST)
        expected_sums, expected = in_process(work, data).evaluate(state.parameters, Kind.TEST)
        assert sums == expected_sums
        np.testing.assert_array_equal(counts, expected)
        assert counts[1:].sum() == sums.count
        assert counts[1:].reshape(3, 3).trace() == sums.correct
        assert server.workers == 2


def test_a_run_with_all_features_gives_the_same_weights() -> None:
    settings, work, data = rich_run()
    expected = trained(settings, work, in_process(work, data))
    with closing(serving(DirectTransport(work, Processes(work, data, [True, False]), 60.0), work)) as server:
        state = trained(settings, work, server)
    assert state.digest == expected.digest
    assert state.history[-1].validation_loss == expected.history[-1].validation_loss


KILL = partial(signal.raise_signal, signal.SIGKILL)
STOP = partial(signal.raise_signal, signal.SIGSTOP)
DEEDS: dict[str, tuple[Callable[[], object], int]] = {  # and the exit code that they lead to
    "killed": (KILL, -9),
    "left": (partial(os._exit, 3), 3),
    "stumbled": (partial(int, "not a number"), 1),
    "out of memory": (partial(np.empty, 1 << 30, np.uint8), 1),
}


def starve(launcher: Processes) -> None:
    """Let each of the processes have at most 256 MiB more memory than it has now."""
    for worker in launcher.processes:
        pages = int(Path(f"/proc/{launcher.pid(worker)}/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + (256 << 20)
        resource.prlimit(launcher.pid(worker), resource.RLIMIT_AS, (limit, limit))


@pytest.mark.parametrize("shared", [True, False], ids=["memory", "socket"])
@pytest.mark.parametrize("name", DEEDS)
def test_worker_that_dies_at_work_leaves_weights_unchanged(tmp_path: Path, alone: str, name: str, shared: bool) -> None:
    settings, work, data = made_run()
    deed, code = DEEDS[name]
    cursed = Cursed(work, tmp_path / "curse", deed)
    launcher = Processes(cursed, data, [shared])
    warnings: list[str] = []

    def befall() -> None:
        starve(launcher)
        cursed.curse.touch()

    with closing(serving(DirectTransport(cursed, launcher, 60.0), cursed, warnings.append)) as server:
        assert trained(settings, work, server, At({3: befall})).digest == alone
        step_until(server, lambda: server.workers == 2)
    assert len(warnings) == 2
    assert warnings[0] in {f"worker {worker} is lost: exit code {code}" for worker in (0, 1)}
    assert warnings[1] == "worker 2 has come"


def test_worker_killed_between_steps_leaves_weights_unchanged(alone: str) -> None:
    settings, work, data = made_run()
    launcher = Processes(work, data, [True, False, True])
    warnings: list[str] = []
    with closing(serving(DirectTransport(work, launcher, 60.0), work, warnings.append, workers=3)) as server:
        deeds = {2: lambda: launcher.signal(1, signal.SIGKILL), 9: lambda: launcher.signal(0, signal.SIGKILL)}
        assert trained(settings, work, server, At(deeds)).digest == alone
        step_until(server, lambda: server.workers == 3 and len(warnings) == 4)
    lost = ["worker 1 is lost: exit code -9", "worker 0 is lost: exit code -9"]
    assert [text for text in warnings if "lost" in text] == lost
    # Either may be the first to be up.
    assert sorted(text for text in warnings if text not in lost) == ["worker 3 has come", "worker 4 has come"]


@pytest.mark.parametrize("shared", [True, False], ids=["memory", "socket"])
def test_when_all_workers_are_killed_at_once_new_ones_take_over(alone: str, shared: bool) -> None:
    settings, work, data = made_run()
    launcher = Processes(work, data, [shared])
    warnings: list[str] = []

    def kill_all() -> None:
        for worker in list(launcher.processes):
            launcher.signal(worker, signal.SIGKILL)

    with closing(serving(DirectTransport(work, launcher, 60.0), work, warnings.append, workers=3)) as server:
        assert trained(settings, work, server, At({4: kill_all})).digest == alone
        step_until(server, lambda: server.workers == 3 and len(warnings) == 6)
    assert sorted(warnings) == sorted(
        [f"worker {worker} is lost: exit code -9" for worker in range(3)]
        + [f"worker {worker} has come" for worker in range(3, 6)]
    )


class Last(Processes):
    """Processes with no room for any worker after the first two."""

    def start(self, worker: int) -> None:
        if worker < 2:
            super().start(worker)
        else:
            self.news.put(Lost(worker, "no room"))


def test_run_that_can_get_no_workers_ends_with_the_reason() -> None:
    _, work, data = made_run()
    launcher = Last(work, data, [True])
    warnings: list[str] = []
    began = math.inf

    def clock() -> float:
        """Stand still while the first workers start: that may take long, and is not what is in time here."""
        return max(time.monotonic() - began, 0.0)

    transport = DirectTransport(work, launcher, 60.0)
    with closing(serving(transport, work, warnings.append, clock, start_timeout=0.3)) as server:
        for worker in (0, 1):
            launcher.signal(worker, signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(RunError, match=r"no worker is left.* within 0\.3 s .* because: (no room|exit code -9)"):
            server.gradient(work.network.init(0), 0, 0)
        assert time.monotonic() - began < 10
    assert sorted(warnings) == [f"worker {worker} is lost: exit code -9" for worker in (0, 1)]


class Slow(Processes):
    """Processes of which none after the first two ever comes up."""

    def start(self, worker: int) -> None:
        if worker < 2:
            super().start(worker)


def test_the_step_under_way_waits_for_no_replacement(tmp_path: Path) -> None:
    _, work, data = made_run()
    cursed = Cursed(work, tmp_path / "curse", KILL)
    warnings: list[str] = []
    with closing(serving(DirectTransport(cursed, Slow(cursed, data, [True]), 60.0), cursed, warnings.append)) as server:
        cursed.curse.touch()
        began = time.monotonic()
        step_until(server, lambda: server.workers == 1)
        assert time.monotonic() - began < 10  # some 0.01 s, where others have time for us
    assert len(warnings) == 1


class Stillborn(Processes):
    """Processes of which the third ends before it has come up."""

    def serve(self, worker: int, endpoint: Endpoint, key: bytes) -> None:
        super().serve(worker, endpoint, b"a wrong key" if worker == 2 else key)


def test_replacement_that_dies_at_its_start_is_replaced_too() -> None:
    _, work, data = made_run()
    launcher = Stillborn(work, data, [True])
    warnings: list[str] = []
    with closing(serving(DirectTransport(work, launcher, 60.0), work, warnings.append)) as server:
        launcher.signal(1, signal.SIGKILL)
        step_until(server, lambda: server.workers == 2 and len(warnings) > 1)
    told = ["worker 1 is lost: exit code -9", "worker 2 is lost: exit code 1", "worker 3 has come"]
    assert [text for text in warnings if not text.startswith("rejected a connection")] == told


def test_a_stopped_worker_is_raced_then_given_up_and_replaced() -> None:
    _, work, data = made_run()
    launcher = Processes(work, data, [True, False, True])
    warnings: list[str] = []
    transport = DirectTransport(work, launcher, 60.0)
    with closing(serving(transport, work, warnings.append, deadline_floor=0.05, give_up_after=1.0)) as server:
        stopped = launcher.processes[1]
        launcher.signal(1, signal.SIGSTOP)
        step_until(server, lambda: len(warnings) > 0)
        step_until(server, lambda: server.workers == 2)
        stopped.join()
        assert stopped.exitcode == -signal.SIGKILL
    assert any(text.startswith("worker 1 is given up: no answer for ") for text in warnings)


@pytest.mark.parametrize("shared", [True, False], ids=["memory", "socket"])
def test_paused_worker_is_kept_and_its_late_answer_dropped(tmp_path: Path, alone: str, shared: bool) -> None:
    settings, work, data = made_run()
    cursed = Cursed(work, tmp_path / "curse", STOP)
    launcher = Processes(cursed, data, [shared])
    transport = Watched(cursed, launcher)

    def resume() -> None:
        for worker in launcher.processes:
            launcher.signal(worker, signal.SIGCONT)
        transport.answered.clear()

    with closing(serving(transport, cursed, workers=3, deadline_floor=0.05, give_up_after=60.0)) as server:
        assert trained(settings, work, server, At({3: cursed.curse.touch, 8: resume})).digest == alone
        step_until(server, lambda: all(transport.answered.count(worker) > 1 for worker in range(3)))


@dataclass(frozen=True)
class Laborious(Around):
    """A work that computes everything twenty times, to make a worker slow."""

    def compute(self, step: Step, microbatch: int, prepared: Prepared, parameters: Vector, out: Vector) -> Sums:
        for _ in range(19):
            super().compute(step, microbatch, prepared, parameters, out)
        return super().compute(step, microbatch, prepared, parameters, out)


class Uneven(Processes):
    """Processes of which the second is slow."""

    def serve(self, worker: int, endpoint: Endpoint, key: bytes) -> None:
        quick = self._work
        self._work = Laborious(quick) if worker == 1 else quick
        super().serve(worker, endpoint, key)
        self._work = quick


def test_a_slow_worker_gets_less_to_do() -> None:
    _, work, data = made_run()
    transport = Watched(work, Uneven(work, data, [True]))
    with closing(serving(transport, work)) as server:
        step_until(server, lambda: len(transport.answered) == 2)
        assert sorted(span.length for span in transport.given.values()) == [3, 4]
        step_until(server, lambda: transport.given[0].length >= 6)


@dataclass(frozen=True)
class Wide:
    """A work with 5 million parameters and next to no arithmetic."""

    size: int = 5_000_000
    libraries: frozenset[str] = frozenset()

    def load_loops(self) -> None:
        pass

    def with_data(self, data: Mapping[Kind, Dataset]) -> "Wide":
        return self

    def microbatches(self, step: Step) -> int:
        return 2

    def length(self, step: Step) -> int:
        return self.size

    def following(self, step: Step) -> Step | None:
        return None

    def prepare(self, step: Step, microbatch: int) -> Prepared:
        return None

    def compute(self, step: Step, microbatch: int, prepared: Prepared, parameters: Vector, out: Vector) -> Sums:
        np.multiply(parameters, np.float32(1.1 + microbatch), out=out)
        return Sums(0.0, 0, 1)


def test_stopped_remote_worker_does_not_hold_up_the_steps() -> None:
    work = Wide()
    launcher = Processes(work, {}, [False])
    transport = Watched(work, launcher)
    parameters = np.arange(work.size, dtype=np.float32)
    reference = in_process(work, {})
    with closing(serving(transport, work, deadline_floor=0.05, give_up_after=60.0)) as server:

        def compute() -> None:
            np.add(parameters, np.float32(0.3), out=parameters)
            expected = reference.gradient(parameters, 0, 0)[0]
            assert np.array_equal(server.gradient(parameters, 0, 0)[0], expected)

        launcher.signal(1, signal.SIGSTOP)
        for _ in range(2):
            compute()
            assert transport._connections[1].frames.unsent
        assert not transport.answered.count(1)
        launcher.signal(1, signal.SIGCONT)
        while transport.answered.count(1) < 2:  # what it had not read, and something new
            compute()
