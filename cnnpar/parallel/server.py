"""The server: has the spans of each batch computed, and adds the answers up in the order of the reduction tree."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.sections import Engine
from cnnpar.errors import RunError, Stopped
from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import NOTHING, Sums, add_sums
from cnnpar.parallel.scheduling.actions import Action, Drop, Fail, Finish, Start
from cnnpar.parallel.scheduling.scheduler import Scheduler
from cnnpar.parallel.transport import (
    Answer,
    ClusterBack,
    ClusterGivenUp,
    ClusterGone,
    Event,
    Joined,
    Lost,
    Transport,
)
from cnnpar.parallel.tree import Tree
from cnnpar.parallel.work import Kind, Step, Work

_LONGEST_WAIT = 0.2  # seconds in one wait for events, so that `stopped` is asked often enough
_PATIENCE = 10.0  # seconds between lines of text while the first workers start
_PAUSE = 1.0  # seconds between two looks at the clock: more means that this process, or the machine, was suspended


class Value(NamedTuple):
    """The value of a node of the tree: sums over its samples."""

    vector: Vector  # (length,) float32: gradient sum in training, counts in an evaluation
    sums: Sums


class Evaluation(NamedTuple):
    """Totals over a whole data set."""

    sums: Sums
    counts: NDArray[np.int64]  # laid out as in cnnpar/nn/confusion.py; empty where the work counts nothing


class Server:
    """Turns (parameters, step) into sums over the whole batch, which the workers of a transport compute."""

    def __init__(
        self,
        work: Work,
        transport: Transport,
        engine: Engine,
        warn: Callable[[str], None],
        stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Report to `warn` in lines of text. Once `stopped()` is true, steps and evaluations raise Stopped."""
        self._work = work
        self._transport = transport
        self._scheduler = Scheduler(engine)
        self._fewest = engine.fewest
        self._warn = warn
        self._stopped = stopped
        self._clock = clock
        self._looked_at = clock()  # the clock, for the last time
        self.exact = True  # all workers so far compute the same bits as this process

    @property
    def workers(self) -> int:
        """Number of workers that have joined and are not lost."""
        return self._scheduler.alive

    def open(self) -> None:
        """Start workers and wait for as many as a run begins with. Raises RunError after `start_timeout` seconds."""
        told = self._now()
        self._perform(self._scheduler.open(told))
        while not self._scheduler.ready:
            self._perform(self._handle_events())
            self._perform(self._expire())
            if self._now() - told > _PATIENCE and not self._scheduler.ready:
                self._warn(f"{self.workers} of {self._fewest} workers are there")
                told = self._now()

    def adopt(self, parameters: Vector) -> Vector:
        """Return the parameters in the array that the run should update in place, (size,) float32.

        It may be memory that workers read, so that `gradient` need not copy.
        """
        return self._transport.adopt(parameters)

    def gradient(self, parameters: Vector, epoch: int, number: int) -> Value:
        """Return gradient sum, loss sum, hits and sample count of batch `number` (from 0) of an epoch (from 0).

        The vector may be written to, and is valid until the next call. Raises RunError when too few workers are left,
        and Stopped.
        """
        self._transport.publish(parameters)
        return self._run(Step(Kind.TRAIN, epoch, number))

    def evaluate(self, parameters: Vector, kind: Kind) -> Evaluation:
        """Return sums and counts over a whole data set, each sample once. Raises RunError and Stopped as `gradient`."""
        self._transport.publish(parameters)
        step = Step(kind, 0, 0)
        # float32 holds the counts of one piece exactly; those of a whole data set may need int64.
        sums, counts = NOTHING, np.zeros(self._work.length(step), np.int64)
        while self._work.microbatches(step):
            value = self._run(step)
            sums = add_sums(sums, value.sums)
            counts += value.vector[: len(counts)].astype(np.int64)
            step = step._replace(number=step.number + 1)  # the next piece of the data set
        return Evaluation(sums, counts)

    def close(self) -> None:
        """End the workers."""
        self._transport.close()

    def _run(self, step: Step) -> Value:
        """Run one step: perform the scheduler's actions and pass events to it until every microbatch is answered."""
        length = self._work.length(step)

        def add(left: Value, right: Value) -> Value:
            if length:
                np.add(left.vector, right.vector, out=left.vector)  # (length,), in the left worker's own slot
            return Value(left.vector, add_sums(left.sums, right.sums))

        microbatches = self._work.microbatches(step)
        tree: Tree[Value] = Tree(microbatches, add)
        answered: set[int] = set()  # workers in whose slots values of the tree may lie

        def keep(worker: int) -> None:
            """Copy the tree's vectors if a new job is about to overwrite the slots that they may lie in."""
            if worker in answered and length:
                tree.replace(lambda value: Value(value.vector.copy(), value.sums))
                answered.clear()

        def take(answer: Answer) -> None:
            answered.add(answer.worker)  # not copied: most workers get one job in a step
            for node, vector, sums in answer.blocks:
                tree.put(node, Value(vector, sums))

        finished = self._perform(self._scheduler.begin(step.kind, microbatches, self._now()), step, keep)
        while not finished:
            finished = self._perform(self._handle_events(take), step, keep)
            # Deadlines come last: a job counts as late only after it was sent and answers that came were read.
            self._perform(self._expire(), step, keep)
        return tree.root

    def _handle_events(self, take: Callable[[Answer], None] | None = None) -> list[Action]:
        """Pass the events until the next deadline to the scheduler; `take` gets the answers that it accepts."""
        scheduler = self._scheduler
        actions: list[Action] = []
        for event in self._events():
            now = self._now()  # for each event: time in which this process was suspended is not the worker's
            if isinstance(event, Answer):
                accepted, more = scheduler.answer(event.worker, event.job, event.seconds, now)
                actions += more
                if accepted and take:
                    take(event)
            elif isinstance(event, Joined):
                if scheduler.knows(event.worker):  # else it comes too late, and gets no job
                    if scheduler.ready:
                        self._warn(f"worker {event.worker} has come")
                    self.exact &= event.exact  # for good, also after the worker is lost
                actions += scheduler.joined(event.worker, now)
            elif isinstance(event, Lost):
                # A hopeless loss before the start is complete ends the run, with the same reason: no need to warn.
                if scheduler.knows(event.worker) and (scheduler.ready or not event.hopeless):
                    self._warn(f"worker {event.worker} is lost: {event.reason}")
                actions += scheduler.lost(event.worker, event.reason, now, event.hopeless)
            elif isinstance(event, ClusterGone):
                self._warn(f"{event.reason}; {event.remedy}")
                actions += scheduler.cluster_gone(event.reason, event.seconds, now)
            elif isinstance(event, ClusterBack):
                actions += scheduler.cluster_back(now)
            elif isinstance(event, ClusterGivenUp):
                self._warn(event.reason)
                actions += scheduler.cluster_given_up(now)
            else:
                self._warn(event.text)
        return actions

    def _expire(self) -> list[Action]:
        """Tell the scheduler the time."""
        return self._scheduler.expire(self._now())

    def _events(self) -> Iterator[Event]:
        """Yield the events until the scheduler's next deadline, and then all that are there already.

        While this process was suspended, workers may have answered in time: their answers are read before deadlines
        are checked.
        """
        if self._stopped():
            raise Stopped
        events = self._transport.wait(min(max(self._scheduler.deadline - self._now(), 0.0), _LONGEST_WAIT))
        while events := events or self._transport.wait(0.0):
            yield from events
            events = []

    def _now(self) -> float:
        """Return the time in seconds, and move all deadlines by the time that this process was suspended."""
        now = self._clock()
        if now - self._looked_at > _PAUSE:
            self._scheduler.held_up(now - self._looked_at)
        self._looked_at = now
        return now

    def _perform(
        self, actions: list[Action], step: Step | None = None, keep: Callable[[int], None] = lambda _: None
    ) -> bool:
        """Perform the scheduler's actions and tell whether the step is finished.

        `keep` is called with each worker that is about to get a job. Raises RunError when the run cannot go on.
        """
        finished = False
        for action in actions:
            if isinstance(action, Finish):
                finished = True
            elif isinstance(action, Start):
                if self._scheduler.knows(action.worker):  # a later event may have said that the cluster is gone
                    self._transport.start(action.worker)
            elif isinstance(action, Drop):
                self._warn(f"worker {action.worker} is given up: {action.reason}")
                self._transport.drop(action.worker)
            elif isinstance(action, Fail):
                shortage = self._transport.shortage() if action.starved else ""
                raise RunError(f"{action.reason}; {shortage}" if shortage else action.reason)
            # A later event of the same batch may have taken the job from the worker again.
            elif step is not None and self._scheduler.holds(action.worker, action.job):
                keep(action.worker)
                self._transport.assign(action.worker, action.job, step, action.span)
                self._scheduler.sent(action.worker, self._clock())  # sending large parameters takes its time
        return finished
