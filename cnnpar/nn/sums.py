"""What a batch adds to the totals of an epoch, and how two parts of a batch are added."""

from typing import NamedTuple


class Sums(NamedTuple):
    """What a batch adds to the totals: sums over its samples, never means."""

    loss: float
    correct: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody asks of sums


def add_sums(left: Sums, right: Sums) -> Sums:
    """The sums over the samples of two nodes; the order of the operands is part of the contract."""
    return Sums(left.loss + right.loss, left.correct + right.correct, left.count + right.count)
