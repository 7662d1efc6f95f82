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
    """One worker, in this process."""

    def __init__(self, work: Work) -> None:
        """`work` must be able to prepare its inputs."""
        self._work = work
        self._slots = np.empty(slots_shape(work), np.float32)
        self._length = 0  # of what the job under way yields
        self._computer = Computer(work, self._slots)
        self._parameters = np.empty(0, np.float32)
        self._worker: int | None = None
        self._joined: list[Event] = []
        self._job = 0
        self._began = 0.0
        self._pieces: Generator[None, None, list[Block]] | None = None

    def home(self, parameters: Vector) -> Vector:
        """Where they are."""
        return parameters

    def start(self, worker: int) -> None:
        """It is here."""
        self._worker = worker
        self._joined.append(Joined(worker))

    def publish(self, parameters: Vector) -> None:
        """Keep a reference: nothing changes the parameters while a job is under way."""
        self._parameters = parameters

    def assign(self, worker: int, job: int, step: Step, span: Span) -> None:  # noqa: ARG002
        """Put the job aside for `wait`."""
        self._job = job
        self._length = self._work.length(step)
        self._began = time.perf_counter()
        self._pieces = self._computer.pieces(step, span, self._parameters)

    def wait(self, seconds: float) -> list[Event]:  # noqa: ARG002
        """Compute a microbatch of what was assigned."""
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
        """Nothing to end: this process is the worker."""

    def shortage(self) -> str:
        """Nothing is known of."""
        return ""

    def close(self) -> None:
        """Nothing to end."""
