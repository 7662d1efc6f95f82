"""Sums of loss, right answers and samples, and their addition."""

from typing import NamedTuple


class Sums(NamedTuple):
    """Sums over the samples of a microbatch, batch or epoch; never means."""

    loss: float  # float64
    correct: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody asks of sums


NOTHING = Sums(0.0, 0, 0)


def add_sums(left: Sums, right: Sums) -> Sums:
    """Add the sums of two nodes of the reduction tree; the order of the operands is part of the exactness contract."""
    return Sums(left.loss + right.loss, left.correct + right.correct, left.count + right.count)
