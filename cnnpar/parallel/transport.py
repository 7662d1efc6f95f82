"""How parameters reach workers and blocks come back: the interface, and the in-process twin of the remote ones."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cnnpar.parallel.compute import Computer, most_slots
from cnnpar.parallel.plan import Node, Span
from cnnpar.parallel.work import Step, Sums, Vector, Work


@dataclass(frozen=True)
class Answer:
    """A worker's blocks for a job: (node, gradient sum, sums).

    The vectors may be written to, and are the receiver's until the worker's next job.
    """

    worker: int
    job: int
    blocks: list[tuple[Node, Vector, Sums]]


@dataclass(frozen=True)
class Lost:
    """A worker is gone, and why."""

    worker: int
    reason: str


class Transport(Protocol):
    """Workers numbered 0 .. workers-1. No call waits longer than it is told to."""

    @property
    def workers(self) -> int:
        """Workers that were started."""

    def home(self, parameters: Vector) -> Vector:
        """The same values where publishing them costs least: the array to update in place from now on."""

    def publish(self, parameters: Vector) -> None:
        """The parameters of all jobs from now on; no job may be under way."""

    def assign(self, worker: int, job: int, step: Step, span: Span) -> None:
        """Have a worker compute a span; its answer or loss comes out of `wait`."""

    def wait(self, seconds: float) -> list[Answer | Lost]:
        """What has happened; empty when nothing did within `seconds`."""

    def drop(self, worker: int, reason: str) -> None:
        """End a worker; nothing more comes from it."""

    def close(self) -> None:
        """End all workers. May be called twice."""


class InProcess:
    """One worker that lives in this very process: the same arithmetic without Ray."""

    workers = 1

    def __init__(self, work: Work) -> None:
        """`work` must be able to prepare its inputs."""
        self._slots = np.empty((most_slots(work), work.size), np.float32)
        self._computer = Computer(work, self._slots)
        self._parameters = np.empty(0, np.float32)
        self._jobs: list[tuple[int, Step, Span]] = []

    def home(self, parameters: Vector) -> Vector:
        """Where they are."""
        return parameters

    def publish(self, parameters: Vector) -> None:
        """Keep a reference: nothing changes the parameters while a job is under way."""
        self._parameters = parameters

    def assign(self, worker: int, job: int, step: Step, span: Span) -> None:  # noqa: ARG002
        """Put the job aside for `wait`."""
        self._jobs.append((job, step, span))

    def wait(self, seconds: float) -> list[Answer | Lost]:  # noqa: ARG002
        """Compute what was assigned."""
        jobs, self._jobs = self._jobs, []
        answers: list[Answer | Lost] = []
        for job, step, span in jobs:
            blocks = self._computer.compute(step, span, self._parameters)
            answers.append(Answer(0, job, [(node, self._slots[slot], sums) for node, slot, sums in blocks]))
        return answers

    def drop(self, worker: int, reason: str) -> None:
        """Nothing to end: this process is the worker."""

    def close(self) -> None:
        """Nothing to end."""
