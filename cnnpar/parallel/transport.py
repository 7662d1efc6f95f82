"""How parameters reach workers and blocks come back: the interface, and the in-process twin of the remote ones."""

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cnnpar.nn.sums import Sums
from cnnpar.parallel.compute import Computer, slots_shape
from cnnpar.parallel.plan import Node, Span
from cnnpar.parallel.work import Block, Step, Vector, Work


@dataclass(frozen=True)
class Joined:
    """A worker that was asked for is ready for jobs."""

    worker: int
    exact: bool = True  # computes the same bits as this process


@dataclass(frozen=True)
class Answer:
    """A worker's blocks for a job: (node, gradient sum, sums), after so many seconds of computing.

    The vectors may be written to, and are the receiver's until the worker's next job.
    """

    worker: int
    job: int
    seconds: float
    blocks: list[tuple[Node, Vector, Sums]]


@dataclass(frozen=True)
class Lost:
    """A worker is gone, or will not come, and why."""

    worker: int
    reason: str
    hopeless: bool = False  # whether others in its place would fare no better


@dataclass(frozen=True)
class Note:
    """Something that people should know."""

    text: str


Event = Joined | Answer | Lost | Note


class Transport(Protocol):
    """Workers under numbers that the server gives them. No call waits longer than it is told to."""

    def home(self, parameters: Vector) -> Vector:
        """The same values where publishing them costs least: the array to update in place from now on."""

    def start(self, worker: int) -> None:
        """Have a worker come; `wait` says when it has joined, or that it is lost."""

    def publish(self, parameters: Vector) -> None:
        """The parameters of all jobs from now on; nobody uses the answers of jobs that are still under way."""

    def assign(self, worker: int, job: int, step: Step, span: Span) -> None:
        """Have a worker compute a span; its answer or loss comes out of `wait`. One job at a time."""

    def wait(self, seconds: float) -> list[Event]:
        """What has happened; empty when nothing did within `seconds`."""

    def drop(self, worker: int) -> None:
        """End a worker; nothing more comes from it."""

    def shortage(self) -> str:
        """What keeps workers from coming, and what to do; empty if nothing is known."""

    def close(self) -> None:
        """End all workers. May be called twice."""


class InProcess:
    """One worker that lives in this very process: the same arithmetic without Ray."""

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
