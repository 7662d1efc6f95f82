"""The scheduler assigns microbatches to workers. It is a state machine: events and the time go in, actions come out.

It opens no socket and reads no clock. A span is a pure function of (parameters, step, microbatches), so dead, silent
and slow workers have one remedy: another worker computes what is missing. The first answer for a microbatch counts,
and all other jobs that overlap it are void. So exactly one value of each microbatch is added.
"""

from collections.abc import Hashable
from itertools import count

from cnnpar.config.sections import Engine
from cnnpar.parallel.scheduling.actions import Action, Assign, Drop, Fail, Finish, Start
from cnnpar.parallel.scheduling.speeds import Speeds
from cnnpar.parallel.scheduling.task import Task
from cnnpar.parallel.tree import Span, first_run

_LONGEST_PAUSE = 60.0  # seconds between attempts to start a worker
_NEVER = float("inf")


class Scheduler:
    """Assigns the microbatches of one step after another to the workers that are there, and asks for new workers."""

    def __init__(self, engine: Engine) -> None:
        """Take numbers of workers, limits and timeouts from the settings."""
        self._engine = engine
        self._most = max(engine.most, 1)
        self._speeds = Speeds()
        self._numbers = count()
        self._jobs = count(1)
        self._starting: set[int] = set()
        self._alive: set[int] = set()
        self._proved: set[int] = set()  # workers that have answered at least once
        self._tasks: dict[int, Task] = {}  # by worker; a worker that is not in it is free
        self._kind: Hashable = None
        self._unanswered: set[int] = set()  # microbatches of the step
        self._uncovered = False  # some of those may have no worker, or only late ones
        self._ready = False  # there were, at some time, as many workers as a run begins with
        self._starved_at = _NEVER  # when the run fails, unless enough workers have joined
        self._required = 0  # with fewer workers than this nothing is assigned now
        self._gone = ""  # why there is no cluster now that workers could be had from
        self._pause = 0.0  # seconds until the next start, after workers that were lost before their first answer
        self._start_at = 0.0  # no worker is started before
        self._lost = self._lost_in_step = 0  # numbers of workers; in this step and from this cluster
        self._clusters_lost_in_step = 0
        self._failed_starts = 0
        self._last_loss = "none was started"

    @property
    def alive(self) -> int:
        """Number of workers that have joined and are not lost."""
        return len(self._alive)

    @property
    def ready(self) -> bool:
        """True once there were as many workers as a run begins with."""
        return self._ready

    @property
    def deadline(self) -> float:
        """Latest time to call `expire`; infinity when nothing can expire."""
        due = [self._start_at] if self._missing else []
        due += [task.give_up_at if task.late or task.void else task.late_at for task in self._tasks.values()]
        return min([*due, self._starved_at])

    def open(self, now: float) -> list[Action]:
        """Start the first workers."""
        self._starved_at = now + self._engine.start_timeout
        return self._start_missing(now)

    def begin(self, kind: Hashable, microbatches: int, now: float) -> list[Action]:
        """Begin a step, once the one before is finished. Steps of the same kind should cost about the same."""
        for task in self._tasks.values():
            task.void = True
        self._kind = kind
        self._unanswered = set(range(microbatches))
        self._uncovered = True
        self._lost_in_step = self._clusters_lost_in_step = 0
        self._required = min(self._engine.minimum, self._most)
        self._check_numbers(now)
        actions = self._deal(now)
        # Workers that got nothing were too slow to help. Measure them again, with a job that no step waits for.
        if actions and microbatches >= self.alive:
            free = sorted(self._alive - self._tasks.keys())
            actions += [self._assign(worker, Span(0, 1), now, void=True) for worker in free]
        return actions

    def sent(self, worker: int, now: float) -> None:
        """Restart the clock of the worker's job, which was sent only now."""
        self._tasks[worker].sent = now
        self._set_deadlines(self._tasks[worker])

    def holds(self, worker: int, job: int) -> bool:
        """Tell whether the worker still has that job."""
        return worker in self._tasks and self._tasks[worker].job == job

    def knows(self, worker: int) -> bool:
        """Tell whether the worker has joined or is being started, and is not lost."""
        return worker in self._alive or worker in self._starting

    def held_up(self, seconds: float) -> None:
        """Move all deadlines by the time that the server was suspended: no worker is late because of it."""
        for task in self._tasks.values():
            task.sent += seconds
            task.late_at += seconds
            task.give_up_at += seconds
        self._starved_at += seconds

    def joined(self, worker: int, now: float) -> list[Action]:
        """Use a worker that was started, from now on; one that is not expected any more is ended."""
        if worker not in self._starting:
            return [] if worker in self._alive else [Drop(worker, "it was asked for before its cluster was gone")]
        self._starting.discard(worker)
        self._alive.add(worker)
        self._check_numbers(now)
        return self._deal(now)

    def not_started(self, worker: int, reason: str, now: float, hopeless: bool = False) -> list[Action]:
        """Plan another start in place of one that failed.

        Before the run is ready, too many failed starts end it, and so does a single hopeless one.
        """
        if worker not in self._starting:
            return []
        self._starting.discard(worker)
        self._last_loss = reason
        self._failed_starts += 1
        if not self._ready and (hopeless or self._failed_starts > self._tolerable):
            return [Fail(f"worker {worker} did not start: {reason}")]
        self._wait_longer(now)
        return []

    def answer(self, worker: int, job: int, seconds: float, now: float) -> tuple[bool, list[Action]]:
        """Take a worker's answer, which took `seconds` of computing. False: the answer must not be used."""
        task = self._tasks.get(worker)
        if task is None or task.job != job:
            return False, []
        del self._tasks[worker]
        if worker not in self._proved:
            self._proved.add(worker)
            self._pause = 0.0
        first = self._speeds.usual(task.kind) is None
        self._speeds.measured(worker, task.kind, task.span.length, seconds, now - task.sent)
        if first:  # until now the others' deadlines were guesses
            for other in self._tasks.values():
                self._set_deadlines(other)
        if task.void:
            return False, self._deal(now)
        self._unanswered.difference_update(range(*task.span))
        # A job that overlaps the answer is void as a whole; the rest of its span has no worker now.
        for other in self._tasks.values():
            if not other.void and other.span.start < task.span.stop and task.span.start < other.span.stop:
                other.void = self._uncovered = True
        return True, self._deal(now) if self._unanswered else [Finish()]

    def lost(self, worker: int, reason: str, now: float, hopeless: bool = False) -> list[Action]:
        """Assign what a lost worker has not answered to others, and start a replacement.

        Too many losses, in all or in one step, end the run.
        """
        if worker not in self._alive:
            return self.not_started(worker, reason, now, hopeless)
        self._alive.discard(worker)
        self._tasks.pop(worker, None)
        self._speeds.forget(worker)
        self._uncovered = True
        self._last_loss = reason
        self._lost += 1
        self._lost_in_step += 1
        if worker not in self._proved:
            self._wait_longer(now)
        limit = self._engine.max_worker_failures
        if 0 <= limit < self._lost:
            return [Fail(f"{self._lost} workers were lost (engine.max_worker_failures {limit}); the last: {reason}")]
        if self._lost_in_step > self._tolerable:
            return [Fail(f"one step has cost {self._lost_in_step} workers; the last was lost because: {reason}")]
        self._check_numbers(now)
        return [*self._start_missing(now), *self._deal(now)]

    def cluster_gone(self, reason: str, seconds: float, now: float) -> list[Action]:
        """Forget all workers, and start none until their cluster is back; the run fails after so many seconds.

        It counts as one loss, since a step that makes a cluster die again and again must not be tried for ever. The
        losses before it were most likely its first sign: they do not count besides.
        """
        self._starting.clear()
        self._tasks.clear()
        for worker in self._alive:
            self._speeds.forget(worker)
        self._alive.clear()
        self._uncovered = True
        self._gone = self._last_loss = reason
        self._starved_at = now + seconds
        self._failed_starts = self._lost_in_step = 0
        self._clusters_lost_in_step += 1
        if self._clusters_lost_in_step > self._tolerable:
            return [Fail(f"one step has cost {self._clusters_lost_in_step} clusters of workers; the last: {reason}")]
        return []

    def cluster_back(self, now: float) -> list[Action]:
        """Start all workers anew."""
        self._gone = ""
        self._pause, self._start_at = 0.0, now
        self._starved_at = now + self._engine.start_timeout
        return self._start_missing(now)

    def cluster_given_up(self, now: float) -> list[Action]:
        """Go on with a single worker, which needs no cluster; those that the last one was starting never come."""
        self._starting.clear()
        self._most = 1
        self._required = min(self._required, 1)
        return self.cluster_back(now)

    def expire(self, now: float) -> list[Action]:
        """Give up silent workers, let others compute the spans of late ones, and start workers that are due."""
        actions: list[Action] = []
        for worker, task in list(self._tasks.items()):
            if task.give_up_at <= now:
                reason = f"no answer for {now - task.sent:.3g} s"
                actions += [Drop(worker, reason), *self.lost(worker, reason, now)]
            elif task.late_at <= now and not (task.late or task.void):
                task.late = self._uncovered = True
        if self._starved_at <= now:
            return [*actions, Fail(self._shortage(), starved=True)]
        return [*actions, *self._start_missing(now), *self._deal(now)]

    @property
    def _tolerable(self) -> int:
        """Number of losses in one step, or of failed first starts, that may be bad luck."""
        return max(3, 2 * self._most)

    @property
    def _missing(self) -> int:
        return 0 if self._gone else self._most - len(self._alive) - len(self._starting)

    def _start_missing(self, now: float) -> list[Action]:
        """Start as many workers as are missing, unless it is too early."""
        if self._start_at > now:
            return []
        new = [next(self._numbers) for _ in range(self._missing)]
        self._starting.update(new)
        return [Start(worker) for worker in new]

    def _wait_longer(self, now: float) -> None:
        """Put the next start off, for about twice as long each time."""
        if self._start_at <= now:  # else the worker was lost together with others, which count as one attempt
            self._pause = min(2 * self._pause + 0.5, _LONGEST_PAUSE)
            self._start_at = now + self._pause

    def _check_numbers(self, now: float) -> None:
        """Find out if there are enough workers to go on, and set the time to wait for them if not."""
        if not self._ready:
            self._ready = len(self._alive) >= min(max(self._engine.fewest, 1), self._most)
            if self._ready:
                self._starved_at = _NEVER
        elif len(self._alive) >= max(self._required, 1):
            self._required = 0  # a step that has begun goes on with the workers that remain
            self._starved_at = _NEVER
        elif self._starved_at == _NEVER:
            self._starved_at = now + self._engine.start_timeout

    def _shortage(self) -> str:
        if self._gone:
            return f"{self._gone}, and not back within {self._engine.cluster_timeout:g} s (engine.cluster_timeout)"
        seconds = f"{self._engine.start_timeout:g} s (engine.start_timeout)"
        if not self._ready:
            return f"only {self.alive} of {self._engine.fewest} workers started within {seconds}"
        left = f"only {self.alive} of at least {self._required} workers are" if self._alive else "no worker is"
        return f"{left} left, and no new ones came within {seconds}; the last was lost because: {self._last_loss}"

    def _deal(self, now: float) -> list[Action]:
        """Assign each unanswered microbatch that has no worker in time, as far as there are free workers."""
        free = sorted(self._alive - self._tasks.keys())
        if not (free and self._uncovered and self._unanswered) or len(self._alive) < self._required:
            return []
        timely = [range(*task.span) for task in self._tasks.values() if not (task.late or task.void)]
        wanted = sorted(self._unanswered.difference(*timely))
        actions: list[Action] = []
        taken = 0
        for worker, size in zip(free, self._speeds.shares(free, self._kind, len(wanted)), strict=True):
            part = first_run(wanted[taken : taken + size])  # a span has no gaps, so it may be shorter than the share
            if part.length:
                actions.append(self._assign(worker, part, now))
                taken += part.length
        self._uncovered = taken < len(wanted)
        # Gaps may have left both microbatches and workers over: deal these too.
        return actions + self._deal(now) if actions and self._uncovered else actions

    def _assign(self, worker: int, span: Span, now: float, void: bool = False) -> Assign:
        task = Task(next(self._jobs), self._kind, span, now, void=void)
        self._set_deadlines(task)
        self._tasks[worker] = task
        return Assign(worker, task.job, span)

    def _set_deadlines(self, task: Task) -> None:
        task.set_deadlines(self._engine, self._speeds.expected(task.kind, task.span.length))
