"""Update rules and their application to vectors: in numpy block by block, or compiled, with the same bits."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnpar.compiling import compiled

Vector = NDArray[np.floating[Any]]  # (size,)

BLOCK = 16_384  # numbers at a time in numpy: a formula goes over them up to a dozen times, in a cache
WORTH = 100_000  # numbers; with fewer, training ends before compiled rules have been loaded


class Rule(NamedTuple):
    """An elementwise rule: a formula, the state it needs, and its numbers in each step."""

    formula: Callable[..., tuple[Any, ...]]  # (parameter, gradient, *state, *numbers) to (parameter, *state)
    state: tuple[str, ...]  # names of vectors
    numbers: Callable[[float, int], tuple[float, ...]]  # of the learning rate, and of the step, which counts from 0


class ByArray(NamedTuple):
    """A rule that takes norms of each array of parameters.

    `step` takes the array's parts of parameters, gradient sum and state, the divisor of the sum, the learning rate, the
    step, and True for an array of weights: one of two dimensions or more.
    """

    state: tuple[str, ...]
    step: Callable[[Sequence[Vector], float, float, int, bool], None]


def compiled_rules(size: int) -> Any:
    """Load the compiled rules, if vectors of that size are worth it; return None if not, or if numba is missing."""
    return compiled("cnnpar.optim.compiled") if size >= WORTH else None


def apply(
    formula: Callable[..., tuple[Any, ...]],
    vectors: Sequence[Vector],
    written: Sequence[Vector],
    divisor: float,
    numbers: Sequence[float],
) -> None:
    """Overwrite the vectors `written` with a formula of `vectors` (parameters, gradient sum, state) and `numbers`.

    The formula gets the gradient sum divided by `divisor`. All vectors are (size,) and of one type.
    """
    dtype, size = vectors[0].dtype, vectors[0].size
    samples, *exact = map(dtype.type, (divisor, *numbers))
    loops = compiled_rules(size) if dtype == np.float32 else None
    if loops is not None:
        getattr(loops, formula.__name__)(*vectors, samples, *exact)
        return
    for start in range(0, size, BLOCK):
        p, g, *rest = (vector[start : start + BLOCK] for vector in vectors)
        for vector, value in zip(written, formula(p, g / samples, *rest, *exact), strict=True):
            vector[start : start + BLOCK] = value
