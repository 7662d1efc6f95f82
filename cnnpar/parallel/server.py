"""The server: cuts each batch, has its spans computed, and adds the answers up in the one order of the tree."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from cnnpar.errors import RunError
from cnnpar.parallel.plan import Tree
from cnnpar.parallel.schedule import Action, Assign, Drop, Fail, Finish, Schedule
from cnnpar.parallel.transport import Answer, Lost, Transport
from cnnpar.parallel.work import Kind, Step, Sums, Vector, Work, add_sums


class Value(NamedTuple):
    """The value of a node of the tree: sums over its samples."""

    vector: Vector  # (size,) gradient sum; its content means nothing in an evaluation
    sums: Sums


class Server:
    """Turns (parameters, step) into sums over the whole batch, with the help of a transport's workers."""

    def __init__(
        self,
        work: Work,
        transport: Transport,
        timeout: float,
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`timeout`: seconds after which a worker that has not answered is given up; `warn` gets a line of text."""
        self._work = work
        self._transport = transport
        self._schedule = Schedule(transport.workers, timeout)
        self._warn = warn
        self._clock = clock

    @property
    def workers(self) -> int:
        """Workers that are alive."""
        return self._schedule.alive

    def home(self, parameters: Vector) -> Vector:
        """The same values where the workers find them best: the array that a run should update in place."""
        return self._transport.home(parameters)

    def gradient(self, parameters: Vector, epoch: int, number: int) -> Value:
        """Gradient sum, loss sum, hits and count of batch `number` of an epoch.

        The vector may be written to and is valid until the next call. Raises RunError when no worker is left.
        """
        self._transport.publish(parameters)
        return self._run(Step(Kind.TRAIN, epoch, number))

    def evaluate(self, parameters: Vector, kind: Kind) -> Sums:
        """Loss sum, hits and count over a whole data set, each sample exactly once."""
        self._transport.publish(parameters)
        step = Step(kind, 0, 0)
        total = Sums(0.0, 0, 0)
        while self._work.microbatches(step):
            total = add_sums(total, self._run(step).sums)
            step = step._replace(number=step.number + 1)
        return total

    def close(self) -> None:
        """End the workers."""
        self._transport.close()

    def _run(self, step: Step) -> Value:
        """One step: perform the schedule's actions, tell it what happened, until it says that all is there."""
        training = step.kind is Kind.TRAIN

        def add(left: Value, right: Value) -> Value:
            if training:
                np.add(left.vector, right.vector, out=left.vector)
            return Value(left.vector, add_sums(left.sums, right.sums))

        microbatches = self._work.microbatches(step)
        tree: Tree[Value] = Tree(microbatches, add)
        answered: set[int] = set()
        actions = self._schedule.begin(microbatches, self._clock())
        while True:
            for action in actions:
                if isinstance(action, Finish):
                    return tree.root
                if isinstance(action, Assign) and not self._schedule.holds(action.worker, action.job):
                    continue  # the worker was lost in the same moment, and the span is another's by now
                if isinstance(action, Assign) and training and action.worker in answered:
                    # The worker is about to overwrite the buffers that its first answer of this step lies in.
                    tree.replace(lambda value: Value(value.vector.copy(), value.sums))
                self._perform(action, step)
            actions = []
            for event in self._events():
                if not isinstance(event, Answer):
                    self._warn(f"worker {event.worker} is lost: {event.reason}")
                    actions += self._schedule.lost(event.worker, event.reason, self._clock())
                    continue
                accepted, more = self._schedule.answer(event.worker, event.job, self._clock())
                actions += more
                if accepted:
                    answered.add(event.worker)
                    for node, vector, sums in event.blocks:
                        tree.put(node, Value(vector, sums))
            actions += self._schedule.expire(self._clock())

    def _events(self) -> Iterator[Answer | Lost]:
        """What has happened by the next deadline, until nothing is left to read.

        This process may have been stopped, or held up by one peer, while others answered in time: deadlines are
        looked at after that.
        """
        events = self._transport.wait(max(self._schedule.deadline - self._clock(), 0.0))
        while events := events or self._transport.wait(0.0):
            yield from events
            events = []

    def _perform(self, action: Action, step: Step) -> None:
        if isinstance(action, Assign):
            self._transport.assign(action.worker, action.job, step, action.span)
            self._schedule.sent(action.worker, self._clock())
        elif isinstance(action, Drop):
            self._warn(f"worker {action.worker} is given up: {action.reason}")
            self._transport.drop(action.worker, action.reason)
        elif isinstance(action, Fail):
            raise RunError(f"no worker is left; the last one was lost because: {action.reason}")
