"""The server: cuts each batch, has its spans computed, and adds the answers up in the one order of the tree."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.sections import Engine
from cnnpar.errors import RunError, Stopped
from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums, add_sums
from cnnpar.parallel.scheduling.actions import Action, Drop, Fail, Finish, Start
from cnnpar.parallel.scheduling.scheduler import Scheduler
from cnnpar.parallel.transport import Answer, Event, Joined, Lost, Transport
from cnnpar.parallel.tree import Tree
from cnnpar.parallel.work import Kind, Step, Work

_GLANCE = 0.2  # seconds between two looks at whether the run is to stop
_PAUSED = 1.0  # seconds that this process did nothing: then it was stopped, or the machine was


class Value(NamedTuple):
    """The value of a node of the tree: sums over its samples."""

    vector: Vector  # gradient sum or counts (length,)
    sums: Sums


class Evaluation(NamedTuple):
    """What comes of a whole data set."""

    sums: Sums
    counts: NDArray[np.int64]  # as cnnpar/nn/confusion.py has them; empty where nothing is counted


class Server:
    """Turns (parameters, step) into sums over the whole batch, with the help of a transport's workers."""

    def __init__(
        self,
        work: Work,
        transport: Transport,
        engine: Engine,
        warn: Callable[[str], None],
        stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`warn` gets a line of text; once `stopped()`, steps and evaluations end at once in `Stopped`."""
        self._work = work
        self._transport = transport
        self._schedule = Scheduler(engine)
        self._warn = warn
        self._stopped = stopped
        self._clock = clock
        self._looked_at = clock()
        self.exact = True  # whether all workers that took part compute the same bits

    @property
    def workers(self) -> int:
        """Workers that are there."""
        return self._schedule.alive

    def open(self) -> None:
        """Wait for the workers that a run begins with. Raises RunError, in `start_timeout`, when they do not come."""
        self._perform(self._schedule.open(self._now()))
        while not self._schedule.ready:
            self._perform(self._happened())
            self._perform(self._expired())

    def home(self, parameters: Vector) -> Vector:
        """The same values where the workers find them best: the array that a run should update in place."""
        return self._transport.home(parameters)

    def gradient(self, parameters: Vector, epoch: int, number: int) -> Value:
        """Gradient sum, loss sum, hits and count of batch `number` of an epoch.

        The vector may be written to and is valid until the next call. Raises RunError when there are too few workers.
        """
        self._transport.publish(parameters)
        return self._run(Step(Kind.TRAIN, epoch, number))

    def evaluate(self, parameters: Vector, kind: Kind) -> Evaluation:
        """Sums and counts over a whole data set, each sample exactly once. Raises RunError as `gradient`."""
        self._transport.publish(parameters)
        step = Step(kind, 0, 0)
        sums, counts = Sums(0.0, 0, 0), np.zeros(self._work.length(step), np.int64)
        while self._work.microbatches(step):
            value = self._run(step)
            sums = add_sums(sums, value.sums)
            counts += value.vector[: len(counts)].astype(np.int64)
            step = step._replace(number=step.number + 1)
        return Evaluation(sums, counts)

    def close(self) -> None:
        """End the workers."""
        self._transport.close()

    def _run(self, step: Step) -> Value:
        """One step: perform the schedule's actions, tell it what happened, until it says that all is there."""
        length = self._work.length(step)

        def add(left: Value, right: Value) -> Value:
            if length:
                np.add(left.vector, right.vector, out=left.vector)
            return Value(left.vector, add_sums(left.sums, right.sums))

        microbatches = self._work.microbatches(step)
        tree: Tree[Value] = Tree(microbatches, add)
        answered: set[int] = set()

        def keep(worker: int) -> None:
            """A worker is about to overwrite the buffers that an answer of this step lies in: save what is there."""
            if worker in answered and length:
                tree.replace(lambda value: Value(value.vector.copy(), value.sums))
                answered.clear()

        def take(answer: Answer) -> None:
            answered.add(answer.worker)
            for node, vector, sums in answer.blocks:
                tree.put(node, Value(vector, sums))

        finished = self._perform(self._schedule.begin(step.kind, microbatches, self._now()), step, keep)
        while not finished:
            finished = self._perform(self._happened(take), step, keep)
            self._perform(self._expired(), step, keep)  # only now: what was dealt must be sent before it can be late
        return tree.root

    def _happened(self, take: Callable[[Answer], None] | None = None) -> list[Action]:
        """Tell the schedule what has happened by its next deadline; `take` gets the answers that count."""
        schedule = self._schedule
        actions: list[Action] = []
        for event in self._events():
            now = self._now()  # who answered while this process slept is not slow either
            if isinstance(event, Answer):
                accepted, more = schedule.answer(event.worker, event.job, event.seconds, now)
                actions += more
                if accepted and take:
                    take(event)
            elif isinstance(event, Joined):
                if schedule.ready:
                    self._warn(f"worker {event.worker} has come")
                self.exact &= event.exact
                actions += schedule.joined(event.worker, now)
            elif isinstance(event, Lost):
                if schedule.knows(event.worker) and (schedule.ready or not event.hopeless):
                    self._warn(f"worker {event.worker} is lost: {event.reason}")
                actions += schedule.lost(event.worker, event.reason, now, event.hopeless)
            else:
                self._warn(event.text)
        return actions

    def _expired(self) -> list[Action]:
        """Tell the schedule that time has passed."""
        return self._schedule.expire(self._now())

    def _events(self) -> Iterator[Event]:
        """What has happened by the next deadline, until nothing is left to read.

        This process may have been stopped, or held up, while others answered in time: deadlines are looked at after
        that.
        """
        if self._stopped():
            raise Stopped
        events = self._transport.wait(min(max(self._schedule.deadline - self._now(), 0.0), _GLANCE))
        while events := events or self._transport.wait(0.0):
            yield from events
            events = []

    def _now(self) -> float:
        """The time; no worker is late for what this process slept."""
        now = self._clock()
        if now - self._looked_at > _PAUSED:
            self._schedule.held_up(now - self._looked_at)
        self._looked_at = now
        return now

    def _perform(
        self, actions: list[Action], step: Step | None = None, keep: Callable[[int], None] = lambda _: None
    ) -> bool:
        """Do what the schedule wants; True when the step is finished. `keep` is told who gets a job."""
        finished = False
        for action in actions:
            if isinstance(action, Finish):
                finished = True
            elif isinstance(action, Start):
                self._transport.start(action.worker)
            elif isinstance(action, Drop):
                self._warn(f"worker {action.worker} is given up: {action.reason}")
                self._transport.drop(action.worker)
            elif isinstance(action, Fail):
                shortage = self._transport.shortage() if action.starved else ""
                raise RunError(f"{action.reason}; {shortage}" if shortage else action.reason)
            elif step is not None and self._schedule.holds(action.worker, action.job):  # else lost in the same moment
                keep(action.worker)
                self._transport.assign(action.worker, action.job, step, action.span)
                self._schedule.sent(action.worker, self._clock())
        return finished
