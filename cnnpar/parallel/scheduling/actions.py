"""The actions of the scheduler, which the server performs."""

from dataclasses import dataclass

from cnnpar.parallel.tree import Span


@dataclass(frozen=True)
class Start:
    """Start a new worker, under a number that was never used before."""

    worker: int


@dataclass(frozen=True)
class Assign:
    """Have a worker compute a span; its answer carries `job`, a number that was never used before."""

    worker: int
    job: int
    span: Span


@dataclass(frozen=True)
class Drop:
    """End a worker; the scheduler ignores all further events of it."""

    worker: int
    reason: str


@dataclass(frozen=True)
class Finish:
    """End the step: every microbatch of it is answered."""


@dataclass(frozen=True)
class Fail:
    """End the run: it cannot go on."""

    reason: str
    starved: bool = False  # because there are too few workers


Action = Start | Assign | Drop | Finish | Fail
