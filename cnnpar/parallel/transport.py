"""How parameters reach workers and blocks come back: the interface of a transport, and its events."""

from dataclasses import dataclass
from typing import Protocol

from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums
from cnnpar.parallel.tree import Node, Span
from cnnpar.parallel.work import Step


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
