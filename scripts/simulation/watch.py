"""The promises that must hold at every moment of every schedule, checked by an account apart from the scheduler's own.

While a step is under way and there are workers enough,
- no worker is idle while some microbatch is with no worker, or only with workers that are late;
- no worker is waited for without a deadline, nor longer than the settings say;
- the step takes at most, for each job that was dealt in it or was under way when it began, the time after which a
  silent worker is given up: min(max(5 p, give_up_after), step_timeout) for
  p = min(max(deadline_factor (longest delay + slowest pace * microbatches), deadline_floor), step_timeout)
  and the longest delay and slowest pace seen so far; p is step_timeout while no worker that is there has answered.
  Times in which the server was held up, or there were too few workers, are not counted.

When all workers are gone with their cluster,
- none is asked for until it is back; then as many are as there may be, and the orders are taken;
- no worker of the old cluster gets a job, and one that joins nevertheless is ended.

The run fails if, and only if, there were too few workers for start_timeout, or more losses than the settings or one
step allow, or a first worker was refused, or too many of the first did not start, or the cluster did not come back in
time. A cluster that is gone is one loss of a step, however many of its workers were reported before.
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
        self.stopped_at = inf
        self.clusters_of_step = 0  # that were gone
        self._gone_since = inf  # since when there is no cluster, as the server knows; infinity while there is one
        self._cluster_came_back = False  # since the last look
        self._asked = 0  # workers, since the cluster came back
        self.strangers: set[int] = set()  # joined after the end of their cluster, and not ended yet
        self._refused = False  # a worker was, before there were enough
        self._not_started = 0  # so many workers of this cluster, before there were enough
        self._too_many: set[str] = set()  # words of the reasons why there were too many losses
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
        self._losses_of_step = self.clusters_of_step = 0
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

    def asked(self, worker: int, lost: bool) -> None:
        """Check that the server may ask for a worker now; `lost`: the order has no effect, and no report follows."""
        if self.gone:
            raise Broken(f"worker {worker} is asked for while there is no cluster")
        self._asked += not lost

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

    def lost(self, worker: int, now: float, refused: bool = False) -> None:
        """Note that the server is told of a loss, maybe of a worker that has not joined yet."""
        if worker not in self.here:
            self._not_started += not self.opened
            self._refused |= refused and not self.opened
            if self._refused or self._not_started > self._tolerable:
                self._too_many.add("did not start")
            return
        self.here.discard(worker)
        self._proved.discard(worker)
        self.running.pop(worker, None)
        self.losses += 1
        self._losses_of_step += 1
        if self._losses_of_step > self._tolerable:
            self._too_many.add("one step has cost")
        if 0 <= self._engine.max_worker_failures < self.losses:
            self._too_many.add("workers were lost (engine.max_worker_failures")
        self._count(now)

    @property
    def gone(self) -> bool:
        """Tell whether the server knows that there is no cluster now."""
        return self._gone_since < inf

    def cluster_gone(self, now: float) -> None:
        """Note that the server is told that all workers are gone with their cluster."""
        self._gone_since = now
        self._cluster_came_back = False
        self._short_since = inf
        self.here.clear()
        self._proved.clear()
        self.running.clear()
        self._not_started = self._losses_of_step = 0
        self.clusters_of_step += 1
        if self.clusters_of_step > self._tolerable:
            self._too_many.add("one step has cost")

    def cluster_back(self, now: float, alone: bool = False) -> None:
        """Note that the server is told that workers can be had again, or just one in its own process."""
        if alone:
            self._fewest = self._minimum = self._most = 1
        self._gone_since = inf
        self._cluster_came_back = True
        self._short_since = now
        self._asked = 0

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
        if self.gone:
            self._gone_since = min(self._gone_since + seconds, now)
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
        if self.strangers:
            raise Broken(f"workers {self.strangers} are kept, and their cluster is gone")
        if self._cluster_came_back and self._asked < self._most:
            raise Broken(f"only {self._asked} of {self._most} workers are asked for after their cluster has come back")
        self._cluster_came_back = False
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
        starved = now - self._short_since >= self._engine.start_timeout - _EPSILON
        causes = {
            "workers started within": starved and not self.opened,
            "no worker is left": starved and self.opened and not self.here,
            "of at least": starved and self.opened and 0 < len(self.here) < self._minimum and not self._started,
            "not back within": now - self._gone_since >= self._engine.cluster_timeout - _EPSILON,
            **dict.fromkeys(self._too_many, True),
        }
        for words, true in causes.items():
            if true and words in reason:
                return words
        raise Broken(f"the run failed for no reason: {reason}")

    def _overdue(self, now: float) -> str:
        """Return the reason why the run should have failed by now; empty for none."""
        if now - self._short_since > self._engine.start_timeout + 5 * _LOOKS:
            return "too few workers for too long"
        if now - self._gone_since > self._engine.cluster_timeout + 5 * _LOOKS:
            return "the cluster is gone for too long"
        return ", ".join(sorted(self._too_many))

    @property
    def _tolerable(self) -> int:
        """Return the number of losses that may be bad luck."""
        return max(3, 2 * self._most)

    def _counts(self, job: Job) -> bool:
        """Tell whether an answer to the job would be used."""
        return job.turn == self.turn and not job.probe and not job.mask & ~self._open

    def _count(self, now: float) -> None:
        """Note whether there are workers enough."""
        needed = self._fewest if not self.opened else 1 if self._started else self._minimum
        if len(self.here) >= max(needed, 1):
            self.opened = self._started = True
            self._short_since = inf
        elif self._short_since == inf and not self.gone:
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
