"""The interface of a transport, which carries parameters to workers and blocks back, and its events."""

from dataclasses import dataclass
from typing import Protocol

from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums
from cnnpar.parallel.tree import Node, Span
from cnnpar.parallel.work import Step


@dataclass(frozen=True)
class Joined:
    """A worker that was started is ready for jobs."""

    worker: int
    exact: bool = True  # it computes the same bits as this process


@dataclass(frozen=True)
class Answer:
    """The blocks that a worker computed for a job.

    The receiver may write to the vectors; they are valid until the worker's next job.
    """

    worker: int
    job: int
    seconds: float  # of computing
    blocks: list[tuple[Node, Vector, Sums]]  # vectors: (length,) float32


@dataclass(frozen=True)
class Lost:
    """A worker has ended, or will never join."""

    worker: int
    reason: str
    hopeless: bool = False  # a replacement would fail for the same reason


@dataclass(frozen=True)
class Note:
    """A message for the user."""

    text: str


@dataclass(frozen=True)
class ClusterGone:
    """All workers are gone with their cluster. `ClusterBack` or `ClusterGivenUp` follows within so many seconds."""

    reason: str
    remedy: str  # what is done about it
    seconds: float


@dataclass(frozen=True)
class ClusterBack:
    """Workers can be had again."""


@dataclass(frozen=True)
class ClusterGivenUp:
    """No workers can be had any more but one in this process."""

    reason: str


Event = Joined | Answer | Lost | Note | ClusterGone | ClusterBack | ClusterGivenUp


class Transport(Protocol):
    """Workers, each under a number that the server chooses. No call blocks for longer than it is told to."""

    def adopt(self, parameters: Vector) -> Vector:
        """Copy the parameters to where workers read them, if that saves copies later; return the array to update."""

    def start(self, worker: int) -> None:
        """Start a worker, without waiting for it: `wait` reports it as joined or lost."""

    def publish(self, parameters: Vector) -> None:
        """Use these parameters, (size,) float32, for all later jobs. The answers to earlier jobs are void."""

    def assign(self, worker: int, job: int, step: Step, span: Span) -> None:
        """Send a worker a job; `wait` reports its answer or loss. A worker has one job at a time."""

    def wait(self, seconds: float) -> list[Event]:
        """Return the events so far; wait at most `seconds` for the first one, and return none after that."""

    def drop(self, worker: int) -> None:
        """End a worker; no event of it follows."""

    def shortage(self) -> str:
        """Return the reason why workers are missing, and what to do about it; empty if none is known."""

    def close(self) -> None:
        """End all workers. May be called twice."""
