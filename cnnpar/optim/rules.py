"""What an update rule is, and how it is applied to vectors: block by block, or compiled, with the same bits."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnpar.compiling import compiled

Vector = NDArray[np.floating[Any]]  # (size,)

BLOCK = 16_384  # numbers that numpy, which goes through them up to a dozen times, works on at a time
WORTH = 100_000  # numbers; with fewer, a step is done before compiled loops are even loaded


class Rule(NamedTuple):
    """A formula, what it remembers, and its numbers, which may change from step to step."""

    formula: Callable[..., tuple[Any, ...]]  # of parameter, gradient, state and numbers; new parameter and state
    state: tuple[str, ...]  # the vectors that it remembers
    numbers: Callable[[float, int], tuple[float, ...]]  # given the learning rate, and the step, which counts from 0


class ByArray(NamedTuple):
    """A rule that looks at each array of parameters as a whole.

    `step` gets the array's part of parameters, gradient sum and state, the divisor of the sum, the learning rate,
    the step, and whether the array is one of weights: of two dimensions or more.
    """

    state: tuple[str, ...]
    step: Callable[[Sequence[Vector], float, float, int, bool], None]


def load(size: int) -> Any:
    """The compiled rules, where they are to be had and vectors of that size are worth it; else None."""
    return compiled("cnnpar.optim.compiled") if size >= WORTH else None


def apply(
    formula: Callable[..., tuple[Any, ...]],
    vectors: Sequence[Vector],
    written: Sequence[Vector],
    divisor: float,
    numbers: Sequence[float],
) -> None:
    """Overwrite vectors with the values of a formula of parameters, gradient sum / divisor, state, and numbers."""
    dtype, size = vectors[0].dtype, vectors[0].size
    samples, *exact = map(dtype.type, (divisor, *numbers))
    loops = load(size) if dtype == np.float32 else None
    if loops is not None:
        getattr(loops, formula.__name__)(*vectors, samples, *exact)
        return
    for start in range(0, size, BLOCK):
        p, g, *rest = (vector[start : start + BLOCK] for vector in vectors)
        for vector, value in zip(written, formula(p, g / samples, *rest, *exact), strict=True):
            vector[start : start + BLOCK] = value
