"""The promises that must hold at every moment of every schedule, checked by an account apart from the scheduler's own.

While a step is under way and there are workers enough,
- no worker is idle while some microbatch is with no worker, or only with workers that are late;
- no worker is waited for without a deadline, nor longer than the settings say;
- the step takes at most, for each job that was dealt in it or was under way when it began, the time after which a
  silent worker is given up: min(max(5 p, give_up_after), step_timeout) for
  p = min(max(deadline_factor (longest delay + slowest pace * microbatches), deadline_floor), step_timeout)
  and the longest delay and slowest pace seen so far; p is step_timeout while no worker that is there has answered.
  Times in which the server was held up, or there were too few workers, are not counted.

The run fails if, and only if, there were too few workers for start_timeout, or more losses than the settings or one
step allow, or a first worker was refused, or too many of the first did not start.
"""

from math import inf
from typing import Protocol

from cnnpar.config.sections import Engine

_LOOKS = 0.2  # seconds between two looks of the server at the schedule
_PAUSED = 1.0  # seconds without a look that the server takes for a pause
_EPSILON = 1e-6  # seconds that rounding may cost


class Broken(AssertionError):  # noqa: N818  # the promise is what is broken
    """A promise was not kept."""


class Scheduled(Protocol):
    """The part of the scheduler under test that is asked."""

    @property
    def deadline(self) -> float:
        """Return the time at which it wants to be asked again."""


class Job:
    """A job under way."""

    def __init__(self, number: int, turn: int, span: range, sent: float, version: int) -> None:
        self.number = number
        self.turn = turn  # counts steps
        self.span = span
        self.sent = sent
        self.version = version  # of the parameters
        self.probe = False  # the step does not need its answer
        self.unmeasured = False  # when it was given, no worker had been measured
        self.mask = (1 << span.stop) - (1 << span.start)


class Watch:
    """An account of workers, jobs and open microbatches, apart from the scheduler's own."""

    def __init__(self, engine: Engine) -> None:
        self.schedule: Scheduled
        self.here: set[int] = set()
        self.running: dict[int, Job] = {}
        self.turn = 0
        self.losses = 0
        self.opened = False  # there were once as many workers as a run begins with
        self.refused = False  # a worker was, before there were enough
        self.not_started = 0  # so many workers, before there were enough
        self.stopped_at = inf
        self._engine = engine
        self._fewest, self._minimum, self._most = engine.fewest, engine.minimum, engine.most
        self._soonest = min(engine.deadline_floor, engine.step_timeout)  # seconds until a worker is late, at least
        self._started = False
        self._short_since = 0.0  # since when there are too few workers; infinity while there are enough
        self._open = 0  # a bit for each microbatch without an answer
        self._began = self._first_jobs_at = 0.0
        self._jobs: list[Job] = []  # of this step, or under way when it began
        self._losses_of_step = 0
        self._proved: set[int] = set()
        self._pace = self._delay = 0.0
        self._looked_at = 0.0

    def begin(self, microbatches: int, now: float) -> None:
        """Note that the server has begun a step, so that the one before is over."""
        self.end(now)
        self.turn += 1
        self._open = (1 << microbatches) - 1
        self._began = self._first_jobs_at = now
        self._jobs = list(self.running.values())
        self._losses_of_step = 0
        self._started = False
        self._count(now)

    def end(self, now: float) -> None:
        """Check the end of the step that was under way, if any."""
        if self._open:
            raise Broken("a step ended with microbatches that no worker has answered")
        longest = self._engine.step_timeout
        bound = sum(longest if job.unmeasured else self._give_up(self._patience(job)) for job in self._jobs)
        if self.turn and now - self._began > bound + _LOOKS:
            raise Broken(f"a step took {now - self._began:.3g} s, more than the {bound:.3g} s of its jobs")

    def joined(self, worker: int, now: float) -> None:
        """Note that the server is told of a worker."""
        self.here.add(worker)
        self._count(now)

    def assigned(self, worker: int, job: Job) -> str:
        """Check a job that the server has given. Returns its kind: a probe, a race, or neither."""
        if worker not in self.here or worker in self.running:
            raise Broken(f"worker {worker} has got a job that it cannot do now")
        others = [other for other in self.running.values() if self._counts(other) and other.mask & job.mask]
        job.probe = job.mask == 1 and bool(others) and job.sent == self._first_jobs_at
        self.running[worker] = job
        newest = max((other.sent for other in others), default=-inf)
        if not job.probe and job.sent - newest < self._soonest - _EPSILON:
            raise Broken(f"worker {worker} races one that is not late")
        job.unmeasured = not self._proved
        self._jobs.append(job)
        return "probe" if job.probe else "race" if others else ""

    def answered(self, worker: int, job: Job, seconds: float, now: float) -> None:
        """Note that the server is told of an answer."""
        del self.running[worker]
        self._proved.add(worker)
        self._pace = max(self._pace, seconds / len(job.span))
        self._delay = max(self._delay, now - job.sent - seconds)
        if self._counts(job):
            self._open &= ~job.mask

    def given_up(self, worker: int, now: float) -> None:
        """Check that the server may wait for a worker no longer."""
        job = self.running.get(worker)
        if job is None or now - job.sent < min(self._engine.give_up_after, self._engine.step_timeout) - _EPSILON:
            raise Broken(f"worker {worker} is given up too early")
        self.lost(worker, now)

    def lost(self, worker: int, now: float) -> None:
        """Note that the server is told of a loss."""
        if worker not in self.here:
            return
        self.here.discard(worker)
        self._proved.discard(worker)
        self.running.pop(worker, None)
        self.losses += 1
        self._losses_of_step += 1
        self._count(now)

    def held_up(self, looked_at: float, since: float, now: float) -> float:
        """Note that the server has not read the clock since `looked_at`; the time until `since` is accounted for.

        Returns up to when it is accounted for now. The server takes a long time for a pause, which makes no worker
        late; after a short one answers seem to come late.
        """
        seconds = now - since
        self._began = min(self._began + seconds, now)
        self.stopped_at += seconds
        if now - looked_at <= _PAUSED:
            self._delay += seconds
            return since
        if self._short_since < inf:
            self._short_since = min(self._short_since + seconds, now)
        for job in self.running.values():
            job.sent = min(job.sent + seconds, now)
        return now

    def look(self, now: float, seconds: float) -> None:
        """Check all promises as the server is about to wait for so many seconds."""
        if not self._started or not self.here:
            self._began += now - self._looked_at
        self._looked_at = now
        if now > self.stopped_at + 2 * _LOOKS:
            raise Broken("the run goes on although it is to stop")
        if seconds > _LOOKS or self.schedule.deadline == inf:
            raise Broken("something is awaited without a deadline")
        if self._overdue(now):
            raise Broken(f"the run should have failed: {self._overdue(now)}")
        timely = 0
        for worker, job in self.running.items():
            patience = self._patience(job)
            if now - job.sent < patience + _EPSILON:
                timely |= job.mask if self._counts(job) else 0
            elif now - job.sent > self._give_up(patience) + _EPSILON:
                raise Broken(f"worker {worker} is still waited for after {now - job.sent:.3g} s")
        if self._started and self._open & ~timely and len(self.here) > len(self.running):
            raise Broken("a worker is idle while microbatches are left")

    def judge(self, reason: str, now: float) -> str:
        """Check that a run has failed for a true reason. Returns the words that name the reason."""
        engine = self._engine
        starved = now - self._short_since >= engine.start_timeout - _EPSILON
        causes = {
            "did not start": self.refused or self.not_started > max(3, 2 * self._most),
            "workers started within": starved and not self.opened,
            "no worker is left": starved and self.opened and not self.here,
            "of at least": starved and self.opened and 0 < len(self.here) < self._minimum and not self._started,
            "workers were lost (engine.max_worker_failures": 0 <= engine.max_worker_failures < self.losses,
            "one step has cost": self._losses_of_step > max(3, 2 * self._most),
        }
        for words, true in causes.items():
            if true and words in reason:
                return words
        raise Broken(f"the run failed for no reason: {reason}")

    def _overdue(self, now: float) -> str:
        """Return the reason why the run should have failed by now; empty for none."""
        engine = self._engine
        if now - self._short_since > engine.start_timeout + 5 * _LOOKS:
            return "too few workers for too long"
        if 0 <= engine.max_worker_failures < self.losses:
            return "more losses than allowed"
        if not self.opened and self.not_started > max(3, 2 * self._most):
            return "too many workers that did not start"
        return "a step has cost too much" if self._losses_of_step > max(3, 2 * self._most) else ""

    def _counts(self, job: Job) -> bool:
        """Tell whether an answer to the job would be used."""
        return job.turn == self.turn and not job.probe and not job.mask & ~self._open

    def _count(self, now: float) -> None:
        """Note whether there are workers enough."""
        needed = self._fewest if not self.opened else 1 if self._started else self._minimum
        if len(self.here) >= max(needed, 1):
            self.opened = self._started = True
            self._short_since = inf
        elif self._short_since == inf:
            self._short_since = now

    def _patience(self, job: Job) -> float:
        """Return the seconds after which a job is late, at most."""
        engine = self._engine
        if not self._proved:
            return engine.step_timeout
        usual = engine.deadline_factor * (self._delay + self._pace * len(job.span))
        return min(max(usual, engine.deadline_floor), engine.step_timeout)

    def _give_up(self, patience: float) -> float:
        """Return the seconds after which a worker that is late is given up."""
        return min(max(5 * patience, self._engine.give_up_after), self._engine.step_timeout)
