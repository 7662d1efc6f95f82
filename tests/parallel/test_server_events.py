"""Events at the server: workers that come, die or are silent, time in which it was held up, and stops."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

import pytest

from cnnpar.config.sections import Engine
from cnnpar.errors import RunError, Stopped
from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums
from cnnpar.parallel import server as server_module
from cnnpar.parallel.in_process import InProcess
from cnnpar.parallel.server import Server
from cnnpar.parallel.transport import ClusterBack, ClusterGone, Event, Joined, Lost, Note
from cnnpar.parallel.work import Kind, Prepared, Step
from tests.helpers.made_runs import Around, fail, in_process, made_run, opened
from tests.helpers.random_workers import RandomWorkers

_, WORK, DATA = made_run()
PARAMETERS = WORK.network.init(0)
EXPECTED = in_process(WORK, DATA).gradient(PARAMETERS, 0, 0)[0].tobytes()


class Scripted(RandomWorkers):
    """Workers whose events at each wait the script says; after its end all answer but the silent ones."""

    def __init__(self, *script: Callable[["Scripted"], list[Event]], silent: set[int] | None = None) -> None:
        super().__init__(WORK, DATA, Random(0))
        self.script = list(script)
        self.silent = silent or set()
        self.begun = False

    def publish(self, parameters: Vector) -> None:
        super().publish(parameters)
        self.begun = True

    def wait(self, seconds: float) -> list[Event]:
        if self.events:
            return super().wait(seconds)
        if self.script and self.begun:
            return self.script.pop(0)(self)
        for worker in sorted(self.jobs.keys() - self.silent):
            return [self.answer(worker)]
        self.now += seconds
        return []

    def sleep(self, seconds: float) -> list[Event]:
        self.now += seconds
        return []


class Empty(Scripted):
    """Workers of which none ever comes up."""

    def start(self, worker: int) -> None:
        pass


def stopping(transport: RandomWorkers) -> Server:
    """Return a server, not opened yet, that is asked to stop half a second after its beginning."""
    return Server(WORK, transport, Engine(workers=2), fail, lambda: transport.now >= 0.5, transport.clock)


def served(transport: RandomWorkers, workers: int | str, warn: Callable[[str], None] = fail, **limits: Any) -> Server:
    return opened(Server(WORK, transport, Engine(workers=workers, **limits), warn, clock=transport.clock))


def test_first_workers_that_do_not_come_are_an_error_in_time() -> None:
    transport = Empty()
    with pytest.raises(RunError, match=r"^only 0 of 2 workers started within 3 s \(.*\); there is no room$"):
        served(transport, 2, start_timeout=3.0)
    assert transport.now == pytest.approx(3.0)


def test_a_long_start_is_told_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    class Half(Scripted):
        def start(self, worker: int) -> None:
            if worker == 0:
                super().start(worker)

    monkeypatch.setattr(server_module, "_PATIENCE", 10.0)
    notes: list[str] = []
    with pytest.raises(RunError, match=r"^only 1 of 2 workers started within 35 s"):
        served(Half(), 2, notes.append, start_timeout=35.0)
    assert notes == ["1 of 2 workers are there"] * 3


def test_error_without_workers_has_the_last_ones_reason() -> None:
    class Dying(Scripted):
        def start(self, worker: int) -> None:
            if worker < 2:
                super().start(worker)

    transport = Dying(lambda workers: [workers.lose(0, "killed"), workers.lose(1, "out of memory")])
    server = served(transport, 2, lambda _: None, start_timeout=3.0)
    with pytest.raises(RunError, match=r"no worker is left.*within 3 s.*out of memory; there is no room$"):
        server.gradient(PARAMETERS, 0, 0)
    assert transport.now == pytest.approx(3.0)


def test_answers_are_copied_before_their_worker_gets_a_new_job() -> None:
    warnings: list[str] = []
    server = served(Scripted(lambda workers: [workers.answer(0), workers.lose(1)]), 2, warnings.append)
    assert server.gradient(PARAMETERS, 0, 0)[0].tobytes() == EXPECTED
    assert warnings == ["worker 1 is lost: killed"]


def test_a_worker_lost_in_the_same_moment_gets_no_span() -> None:
    warnings: list[str] = []
    server = served(Scripted(lambda workers: [workers.lose(1), workers.answer(0), workers.lose(0)]), 2, warnings.append)
    assert server.gradient(PARAMETERS, 0, 0)[0].tobytes() == EXPECTED
    assert warnings[:2] == ["worker 1 is lost: killed", "worker 0 is lost: killed"]
    assert "worker 2 has come" in warnings


def test_silent_worker_is_given_up_and_replaced_with_warnings() -> None:
    warnings: list[str] = []
    transport = Scripted(silent={0})
    server = served(transport, 1, warnings.append, step_timeout=5.0)
    assert server.gradient(PARAMETERS, 0, 0)[0].tobytes() == EXPECTED
    assert transport.dropped == [0]
    assert warnings == ["worker 0 is given up: no answer for 5 s", "worker 1 has come"]


def test_a_late_worker_is_raced_and_stays() -> None:
    transport = Scripted()
    server = served(transport, 2)
    server.gradient(PARAMETERS, 0, 0)
    transport.silent = {1}
    assert server.gradient(PARAMETERS, 0, 0)[0].tobytes() == EXPECTED
    assert transport.now < 1.0
    assert server.workers == 2
    transport.silent = set()
    assert server.gradient(PARAMETERS, 0, 0)[0].tobytes() == EXPECTED, "its late answer is harmless"
    assert transport.dropped == []


def test_held_up_server_reads_answers_before_checking_deadlines() -> None:
    server = served(Scripted(lambda workers: workers.sleep(1000.0)), 3)
    assert server.gradient(PARAMETERS, 0, 0)[0].tobytes() == EXPECTED
    assert server.workers == 3


def test_held_up_server_gives_no_silent_worker_up() -> None:
    transport = Scripted(lambda workers: workers.sleep(1000.0), lambda workers: [], silent={0, 1})
    transport.script.append(lambda workers: [workers.answer(0), workers.answer(1)])
    server = served(transport, 2)
    assert server.gradient(PARAMETERS, 0, 0)[0].tobytes() == EXPECTED
    assert transport.started == [0, 1]


def test_no_worker_is_late_with_a_job_that_is_not_sent_yet() -> None:
    transport = Scripted()
    server = served(transport, 2, lambda _: None, give_up_after=0.1)
    server.gradient(PARAMETERS, 0, 0)
    transport.script = [
        lambda workers: [workers.answer(0)],
        lambda workers: [workers.lose(1)],
        lambda workers: workers.sleep(0.9),
    ]
    assert server.gradient(PARAMETERS, 0, 0)[0].tobytes() == EXPECTED
    assert transport.dropped == []


def test_time_held_up_does_not_count_as_time_of_workers() -> None:
    transport = Scripted(lambda workers: workers.sleep(30.0))
    server = served(transport, 2)
    server.gradient(PARAMETERS, 0, 0)
    transport.silent = {1}
    server.gradient(PARAMETERS, 0, 0)
    assert transport.now < 31.0, "the silent one is raced at once, not after several times 30 s"


def test_a_long_update_between_two_steps_makes_no_worker_late() -> None:
    transport = Scripted()
    server = served(transport, 2)
    server.gradient(PARAMETERS, 0, 0)
    transport.silent = {1}
    server.gradient(PARAMETERS, 0, 0)
    transport.now += 1000.0
    transport.silent = set()
    assert server.gradient(PARAMETERS, 0, 0)[0].tobytes() == EXPECTED
    assert transport.started == [0, 1]


def test_notes_are_warnings_and_unknown_workers_losses_are_not() -> None:
    warnings: list[str] = []
    server = served(Scripted(lambda _: [Note("a stranger"), Lost(77, "killed")]), 2, warnings.append)
    server.gradient(PARAMETERS, 0, 0)
    assert warnings == ["a stranger"]


def test_one_inexact_worker_makes_the_run_inexact() -> None:
    class Other(Scripted):
        def start(self, worker: int) -> None:
            super().start(worker)
            self.events[-1] = Joined(worker, exact=worker < 2)

    transport = Other(lambda workers: [workers.lose(1)])
    server = served(transport, 2, lambda _: None)
    assert server.exact
    server.gradient(PARAMETERS, 0, 0)
    while server.workers < 2:
        transport.now += 0.4
        server.evaluate(PARAMETERS, Kind.VALIDATION)
    assert not server.exact


def test_no_worker_is_started_when_a_later_event_says_gone() -> None:
    gone, back = ClusterGone("head died", "trying again", 300.0), ClusterBack()
    transport = Scripted(lambda workers: [workers.lose(1), gone, back, gone], lambda _: [back])
    server = served(transport, 2, lambda _: None)
    assert server.gradient(PARAMETERS, 0, 0)[0].tobytes() == EXPECTED
    assert transport.started == [0, 1, 4, 5], "2 and 3 were to be started in the cluster that came and went"


def test_a_worker_of_a_gone_cluster_is_ended_and_leaves_no_mark() -> None:
    warnings: list[str] = []
    events: list[Event] = [ClusterGone("head died", "trying again", 300.0), Joined(1, exact=False), ClusterBack()]
    transport = Scripted(lambda _: events)
    server = served(transport, 2, warnings.append)
    assert server.gradient(PARAMETERS, 0, 0)[0].tobytes() == EXPECTED
    assert transport.dropped == [1]
    assert server.exact
    assert "worker 1 has come" not in warnings


@pytest.mark.parametrize(
    "act",
    [lambda server: server.gradient(PARAMETERS, 0, 0), lambda server: server.evaluate(PARAMETERS, Kind.VALIDATION)],
    ids=["gradient", "evaluate"],
)
def test_a_run_that_is_to_stop_waits_for_no_worker(act: Callable[[Server], object]) -> None:
    transport = Scripted(silent={0, 1})
    server = opened(stopping(transport))
    with pytest.raises(Stopped):
        act(server)
    assert 0.5 <= transport.now < 1.0


def test_a_step_that_was_dropped_leaves_nothing_to_the_next_one() -> None:
    transport = Scripted(silent={0, 1})
    stop = True
    server = opened(
        Server(WORK, transport, Engine(workers=2), fail, lambda: stop and transport.now > 0.5, transport.clock)
    )
    with pytest.raises(Stopped):
        server.gradient(PARAMETERS + 1, 0, 1)
    stop = False
    transport.silent = set()
    assert server.gradient(PARAMETERS, 0, 0)[0].tobytes() == EXPECTED


def test_a_stop_ends_the_wait_for_first_workers() -> None:
    transport = Empty()
    with pytest.raises(Stopped):
        stopping(transport).open()
    assert 0.5 <= transport.now < 1.0


def test_without_workers_a_stop_is_noticed_after_a_microbatch() -> None:
    done = count()

    @dataclass(frozen=True)
    class Counting(Around):
        def compute(self, step: Step, microbatch: int, prepared: Prepared, parameters: Vector, out: Vector) -> Sums:
            next(done)
            return super().compute(step, microbatch, prepared, parameters, out)

    work = Counting(WORK.with_data(DATA))
    server = opened(Server(work, InProcess(work), Engine(workers=0), fail, lambda: repr(done) >= "count(2)"))
    with pytest.raises(Stopped):
        server.gradient(PARAMETERS, 0, 0)
    assert next(done) == 2
