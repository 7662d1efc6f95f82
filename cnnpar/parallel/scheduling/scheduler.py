"""Who computes what: a state machine of events in and actions out.

It opens no socket and reads no clock: transports turn its actions into facts and facts into its events, and the
time is handed in. A span is a pure function of (parameters, step, microbatches), so death, silence and slowness have
one cure: have another worker compute what is missing. The first answer for a microbatch counts; whatever overlaps
it later is void. So of each microbatch exactly one value is added, whoever computed it.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import count

from cnnpar.config.sections import Engine
from cnnpar.parallel.scheduling.actions import Action, Assign, Drop, Fail, Finish, Start
from cnnpar.parallel.scheduling.speeds import Speeds
from cnnpar.parallel.tree import Span, first_run

_PATIENCE = 5  # deadlines until a late worker is given up
_LONGEST_PAUSE = 60.0  # seconds between tries to start a worker


@dataclass
class _Task:
    """What a worker is at."""

    job: int
    kind: Hashable
    span: Span
    sent: float
    late_at: float = 0.0
    give_up_at: float = 0.0
    late: bool = False  # others may compute the span too
    void: bool = False  # nobody needs the answer, but for what it tells of the worker's speed


class Scheduler:
    """Deals the microbatches of one step after the other to the workers that are there, and asks for new ones."""

    def __init__(self, engine: Engine) -> None:
        """Limits and timeouts are those of the settings."""
        self._engine = engine
        self._most = max(engine.most, 1)
        self._speeds = Speeds()
        self._numbers = count()
        self._jobs = count(1)
        self._starting: set[int] = set()
        self._alive: set[int] = set()
        self._proved: set[int] = set()  # workers that have answered once
        self._tasks: dict[int, _Task] = {}  # by worker; one that is not in it is free
        self._kind: Hashable = None
        self._open: set[int] = set()  # microbatches of the step that nobody has answered
        self._loose = False  # whether some of them may be computed by nobody, or by late ones only
        self._opened = False  # whether there were once as many workers as a run begins with
        self._starved_at = float("inf")  # when to fail, unless enough workers have come
        self._required = 0  # workers without which nothing is dealt now
        self._pause = 0.0  # seconds until the next try, after workers that were of no use
        self._try_at = 0.0
        self._lost = self._lost_now = 0  # workers, in all and in this step
        self._not_started = 0
        self._last_loss = "none was started"

    @property
    def alive(self) -> int:
        """Workers that are there."""
        return len(self._alive)

    @property
    def ready(self) -> bool:
        """Whether there are as many workers as a run begins with."""
        return self._opened

    @property
    def deadline(self) -> float:
        """The latest moment to call `expire`; infinity when nothing is awaited."""
        due = [self._try_at] if self._missing else []
        due += [task.give_up_at if task.late or task.void else task.late_at for task in self._tasks.values()]
        return min([*due, self._starved_at])

    def open(self, now: float) -> list[Action]:
        """Ask for the first workers."""
        self._starved_at = now + self._engine.start_timeout
        return self._ask(now)

    def begin(self, kind: Hashable, microbatches: int, now: float) -> list[Action]:
        """Start a step; the one before must be finished. Steps of one kind cost about the same."""
        for task in self._tasks.values():
            task.void = True
        self._kind = kind
        self._open = set(range(microbatches))
        self._loose = True
        self._lost_now = 0
        self._required = self._engine.minimum
        self._look_at_numbers(now)
        actions = self._deal(now)
        if actions and microbatches >= self.alive:  # who got none was too slow: see if it still is; nobody waits for it
            free = sorted(self._alive - self._tasks.keys())
            actions += [self._assign(worker, Span(0, 1), now, void=True) for worker in free]
        return actions

    def sent(self, worker: int, now: float) -> None:
        """The worker's job is on its way only now: its time counts from here."""
        self._tasks[worker].sent = now
        self._set_deadlines(self._tasks[worker])

    def holds(self, worker: int, job: int) -> bool:
        """Whether that job is still this worker's."""
        return worker in self._tasks and self._tasks[worker].job == job

    def knows(self, worker: int) -> bool:
        """Whether the worker is there, or on its way."""
        return worker in self._alive or worker in self._starting

    def held_up(self, seconds: float) -> None:
        """The server itself did nothing for so long, be it stopped or paused: nobody is late for that."""
        for task in self._tasks.values():
            task.sent += seconds
            task.late_at += seconds
            task.give_up_at += seconds
        self._starved_at += seconds

    def joined(self, worker: int, now: float) -> list[Action]:
        """A worker that was asked for is there."""
        if worker not in self._starting:
            return []
        self._starting.discard(worker)
        self._alive.add(worker)
        self._look_at_numbers(now)
        return self._deal(now)

    def not_started(self, worker: int, reason: str, now: float, hopeless: bool = False) -> list[Action]:
        """A worker that was asked for will not come. At first that is tried again a few times, if there is hope."""
        if worker not in self._starting:
            return []
        self._starting.discard(worker)
        self._last_loss = reason
        self._not_started += 1
        if not self._opened and (hopeless or self._not_started > self._tolerable):
            return [Fail(f"worker {worker} did not start: {reason}")]
        self._wait_longer(now)
        return []

    def answer(self, worker: int, job: int, seconds: float, now: float) -> tuple[bool, list[Action]]:
        """A worker has answered, after `seconds` of computing. False: the answer must not be used."""
        task = self._tasks.get(worker)
        if task is None or task.job != job:
            return False, []
        del self._tasks[worker]
        if worker not in self._proved:
            self._proved.add(worker)
            self._pause = 0.0
        first = self._speeds.usual(task.kind) is None
        self._speeds.measured(worker, task.kind, task.span.length, seconds, now - task.sent)
        if first:
            for other in self._tasks.values():
                self._set_deadlines(other)
        if task.void:
            return False, self._deal(now)
        self._open.difference_update(range(*task.span))
        for other in self._tasks.values():
            if not other.void and other.span.start < task.span.stop and task.span.start < other.span.stop:
                other.void = self._loose = True
        return True, self._deal(now) if self._open else [Finish()]

    def lost(self, worker: int, reason: str, now: float, hopeless: bool = False) -> list[Action]:
        """A worker is dead; others take over what it had not answered, and a new one is asked for."""
        if worker not in self._alive:
            return self.not_started(worker, reason, now, hopeless)
        self._alive.discard(worker)
        self._tasks.pop(worker, None)
        self._speeds.forget(worker)
        self._loose = True
        self._last_loss = reason
        self._lost += 1
        self._lost_now += 1
        if worker not in self._proved:
            self._wait_longer(now)
        limit = self._engine.max_worker_failures
        if 0 <= limit < self._lost:
            return [Fail(f"{self._lost} workers were lost (engine.max_worker_failures {limit}); the last: {reason}")]
        if self._lost_now > self._tolerable:
            return [Fail(f"one step has cost {self._lost_now} workers; the last was lost because: {reason}")]
        self._look_at_numbers(now)
        return [*self._ask(now), *self._deal(now)]

    def expire(self, now: float) -> list[Action]:
        """What is to be done because time has passed."""
        actions: list[Action] = []
        for worker, task in list(self._tasks.items()):
            if task.give_up_at <= now:
                reason = f"no answer for {now - task.sent:.3g} s"
                actions += [Drop(worker, reason), *self.lost(worker, reason, now)]
            elif task.late_at <= now and not (task.late or task.void):
                task.late = self._loose = True
        if self._starved_at <= now:
            return [*actions, Fail(self._shortage(), starved=True)]
        return [*actions, *self._ask(now), *self._deal(now)]

    @property
    def _tolerable(self) -> int:
        """Losses in one step, or of first workers, that may be bad luck."""
        return max(3, 2 * self._most)

    @property
    def _missing(self) -> int:
        return self._most - len(self._alive) - len(self._starting)

    def _ask(self, now: float) -> list[Action]:
        """Have as many workers come as there should be."""
        if self._try_at > now:
            return []
        new = [next(self._numbers) for _ in range(self._missing)]
        self._starting.update(new)
        return [Start(worker) for worker in new]

    def _wait_longer(self, now: float) -> None:
        if self._try_at <= now:  # or else it was lost with others, and they are one try
            self._pause = min(2 * self._pause + 0.5, _LONGEST_PAUSE)
            self._try_at = now + self._pause

    def _look_at_numbers(self, now: float) -> None:
        """Whether there are workers enough to go on, and until when to wait for them."""
        if not self._opened:
            self._opened = len(self._alive) >= max(self._engine.fewest, 1)
            if self._opened:
                self._starved_at = float("inf")
        elif len(self._alive) >= max(self._required, 1):
            self._required = 0  # what has begun goes on with those that remain
            self._starved_at = float("inf")
        elif self._starved_at == float("inf"):
            self._starved_at = now + self._engine.start_timeout

    def _shortage(self) -> str:
        seconds = f"{self._engine.start_timeout:g} s (engine.start_timeout)"
        if not self._opened:
            return f"only {self.alive} of {self._engine.fewest} workers started within {seconds}"
        left = f"only {self.alive} of at least {self._required} workers are" if self._alive else "no worker is"
        return f"{left} left, and no new ones came within {seconds}; the last was lost because: {self._last_loss}"

    def _deal(self, now: float) -> list[Action]:
        """Have every open microbatch computed by somebody who is not late, as far as there are free workers."""
        free = sorted(self._alive - self._tasks.keys())
        if not (free and self._loose and self._open) or len(self._alive) < self._required:
            return []
        timely = [range(*task.span) for task in self._tasks.values() if not (task.late or task.void)]
        wanted = sorted(self._open.difference(*timely))
        actions: list[Action] = []
        taken = 0
        for worker, size in zip(free, self._speeds.shares(free, self._kind, len(wanted)), strict=True):
            part = first_run(wanted[taken : taken + size])
            if part.length:
                actions.append(self._assign(worker, part, now))
                taken += part.length
        self._loose = taken < len(wanted)
        return actions + self._deal(now) if actions and self._loose else actions

    def _assign(self, worker: int, span: Span, now: float, void: bool = False) -> Assign:
        task = _Task(next(self._jobs), self._kind, span, now, void=void)
        self._set_deadlines(task)
        self._tasks[worker] = task
        return Assign(worker, task.job, span)

    def _set_deadlines(self, task: _Task) -> None:
        engine = self._engine
        expected = self._speeds.expected(task.kind, task.span.length)
        wait = engine.step_timeout if expected is None else engine.deadline_factor * expected
        wait = min(max(wait, engine.deadline_floor), engine.step_timeout)
        task.late_at = task.sent + wait
        task.give_up_at = task.sent + min(max(_PATIENCE * wait, engine.give_up_after), engine.step_timeout)
