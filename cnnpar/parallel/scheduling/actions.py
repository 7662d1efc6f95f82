"""What the schedule wants done."""

from dataclasses import dataclass

from cnnpar.parallel.tree import Span


@dataclass(frozen=True)
class Start:
    """Have a new worker come, under a number that was never used before."""

    worker: int


@dataclass(frozen=True)
class Assign:
    """Have `worker` compute `span`; its answer carries `job`, a number that is never used again."""

    worker: int
    job: int
    span: Span


@dataclass(frozen=True)
class Drop:
    """Give the worker up: nothing it says counts any more."""

    worker: int
    reason: str


@dataclass(frozen=True)
class Finish:
    """Every microbatch of the step has been answered."""


@dataclass(frozen=True)
class Fail:
    """The run cannot go on."""

    reason: str
    starved: bool = False  # for want of workers


Action = Start | Assign | Drop | Finish | Fail
