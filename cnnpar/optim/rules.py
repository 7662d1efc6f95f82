"""What an update rule is, and how it is applied to vectors: block by block, or compiled, with the same bits."""

from collections.abc import Callable
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


def load(size: int) -> Any:
    """The compiled rules, where they are to be had and vectors of that size are worth it; else None."""
    return compiled("cnnpar.optim.compiled") if size >= WORTH else None


def apply(
    rule: Rule,
    parameters: Vector,
    gradient_sum: Vector,
    count: int,
    state: list[Vector],
    numbers: tuple[float, ...],
) -> None:
    """One step in place. Raises ValueError if the vectors are not flat and of one length."""
    vectors = [parameters, gradient_sum, *state]
    size = parameters.size
    if any(vector.shape != (size,) for vector in vectors):
        raise ValueError(f"flat vectors of one length expected, got shapes {[vector.shape for vector in vectors]}")
    samples, *exact = map(parameters.dtype.type, (count, *numbers))
    loops = load(size) if parameters.dtype == np.float32 else None
    if loops is not None:
        getattr(loops, rule.formula.__name__)(*vectors, samples, *exact)
        return
    for start in range(0, size, BLOCK):
        p, g, *rest = (vector[start : start + BLOCK] for vector in vectors)
        for block, value in zip((p, *rest), rule.formula(p, g / samples, *rest, *exact), strict=True):
            block[...] = value
