"""The transport without workers: the same arithmetic in this process, without Ray."""

import time
from collections.abc import Generator

import numpy as np

from cnnpar.nn.shapes import Vector
from cnnpar.parallel.compute import Computer, slots_shape
from cnnpar.parallel.transport import Answer, Event, Joined
from cnnpar.parallel.tree import Span
from cnnpar.parallel.work import Block, Step, Work


class InProcess:
    """A transport whose one worker is this process."""

    def __init__(self, work: Work) -> None:
        """Compute `work`, which must have its data."""
        self._work = work
        self._slots = np.empty(slots_shape(work), np.float32)
        self._length = 0  # of the vectors of the current job
        self._computer = Computer(work, self._slots)
        self._parameters = np.empty(0, np.float32)
        self._worker: int | None = None
        self._joined: list[Event] = []
        self._job = 0
        self._began = 0.0
        self._pieces: Generator[None, None, list[Block]] | None = None  # the current job; None: there is none

    def adopt(self, parameters: Vector) -> Vector:
        """Return the array itself: it is where the worker reads."""
        return parameters

    def start(self, worker: int) -> None:
        """Give this process the worker's number; `wait` reports it as joined."""
        self._worker = worker
        self._joined.append(Joined(worker))

    def publish(self, parameters: Vector) -> None:
        """Keep a reference: nothing changes the parameters during a job."""
        self._parameters = parameters

    def assign(self, worker: int, job: int, step: Step, span: Span) -> None:  # noqa: ARG002
        """Set the job up; `wait` computes it."""
        self._job = job
        self._length = self._work.length(step)
        self._began = time.perf_counter()
        self._pieces = self._computer.pieces(step, span, self._parameters)

    def wait(self, seconds: float) -> list[Event]:  # noqa: ARG002
        """Compute one microbatch of the job, however long it takes; return the answer after the last one."""
        # One at a time, so that the server can stop the run between two of them.
        events, self._joined = self._joined, []
        if events or self._pieces is None or self._worker is None:
            return events
        try:
            next(self._pieces)
        except StopIteration as done:
            self._pieces = None
            blocks = [(node, self._slots[slot, : self._length], sums) for node, slot, sums in done.value]
            return [Answer(self._worker, self._job, time.perf_counter() - self._began, blocks)]
        return []

    def drop(self, worker: int) -> None:
        """Do nothing: this process is the worker."""

    def shortage(self) -> str:
        """Return an empty text: a worker in this process is never missing."""
        return ""

    def close(self) -> None:
        """Do nothing: there is no worker to end."""
