"""Who computes what within one step: a state machine of events in and actions out.

It opens no socket and reads no clock: transports turn its actions into facts and facts into its events, and the
time is handed in. A span is a pure function of (parameters, step, microbatches), so whatever befalls a worker, the
cure is the same: have another one compute the span.
"""

from dataclasses import dataclass

from cnnpar.parallel.plan import Span, cut


@dataclass(frozen=True)
class Assign:
    """Have `worker` compute `span`; its answer carries `job`, a number that is never used again."""

    worker: int
    job: int
    span: Span


@dataclass(frozen=True)
class Drop:
    """Give the worker up: nothing it says counts any more."""

    worker: int
    reason: str


@dataclass(frozen=True)
class Finish:
    """Every span of the step has been answered."""


@dataclass(frozen=True)
class Fail:
    """No worker is left."""

    reason: str


Action = Assign | Drop | Finish | Fail


@dataclass(frozen=True)
class _Task:
    job: int
    span: Span
    deadline: float


class Schedule:
    """Deals the microbatches of one step after the other to the workers that are alive."""

    def __init__(self, workers: int, timeout: float) -> None:
        """Worker numbers 0 .. workers-1; `timeout` seconds for each span."""
        self._timeout = timeout
        self._alive = set(range(workers))
        self._busy: dict[int, _Task] = {}
        self._waiting: list[Span] = []  # spans whose worker was lost, and nobody is free
        self._jobs = 0
        self._last_loss = "no worker was started"

    @property
    def alive(self) -> int:
        """Workers that have not been lost."""
        return len(self._alive)

    @property
    def deadline(self) -> float:
        """The latest moment to call `expire`; infinity when nothing is under way."""
        return min((task.deadline for task in self._busy.values()), default=float("inf"))

    def begin(self, microbatches: int, now: float) -> list[Action]:
        """Start a step; the one before must be finished."""
        return self._deal([Span(0, microbatches)], now)

    def sent(self, worker: int, now: float) -> None:
        """The worker's job is on its way only now: its time counts from here."""
        task = self._busy[worker]
        self._busy[worker] = _Task(task.job, task.span, now + self._timeout)

    def holds(self, worker: int, job: int) -> bool:
        """Whether that job is still this worker's."""
        return worker in self._busy and self._busy[worker].job == job

    def answer(self, worker: int, job: int, now: float) -> tuple[bool, list[Action]]:
        """A worker has answered. False: the answer is nobody's any more and must not be used."""
        task = self._busy.get(worker)
        if task is None or task.job != job:
            return False, []
        del self._busy[worker]
        waiting, self._waiting = self._waiting, []
        actions = self._deal(waiting, now)
        return True, actions if self._busy else [Finish()]

    def lost(self, worker: int, reason: str, now: float) -> list[Action]:
        """A worker is dead; others take over what it had not answered."""
        if worker not in self._alive:
            return []
        self._alive.discard(worker)
        self._last_loss = reason
        task = self._busy.pop(worker, None)
        return self._deal([task.span], now) if task else []

    def expire(self, now: float) -> list[Action]:
        """Give up the workers whose deadline has passed."""
        late = [worker for worker, task in self._busy.items() if task.deadline <= now]
        actions: list[Action] = []
        for worker in late:
            reason = f"no answer for {self._timeout:g} s"
            actions += [Drop(worker, reason), *self.lost(worker, reason, now)]
        return actions

    def _deal(self, spans: list[Span], now: float) -> list[Action]:
        if not self._alive:
            return [Fail(self._last_loss)]
        actions: list[Action] = []
        for span in spans:
            idle = sorted(self._alive - self._busy.keys())
            if not idle:
                self._waiting.append(span)
            for worker, part in zip(idle, cut(span, len(idle)), strict=False):
                self._jobs += 1
                self._busy[worker] = _Task(self._jobs, part, now + self._timeout)
                actions.append(Assign(worker, self._jobs, part))
        return actions
