"""Lengths of vectors, to the bit, and the ratio of two of them that scales a step."""

import math

import numpy as np

from cnnpar.optim.rules import Vector

_BLOCK = 8192  # numbers that stay in a cache while they are squared and summed
_LARGEST = float(np.finfo(np.float32).max)


def norm(vector: Vector) -> float:
    """The L2 norm of a flat vector.

    Squares of float32 are exact in float64. They are summed by numpy's own pairwise summation, in blocks of fixed
    size from the vector's start, one after the other, and never by BLAS: no thread, kernel or address can change the
    order of the additions.
    """
    total = 0.0
    squares = np.empty(min(vector.size, _BLOCK))
    for start in range(0, vector.size, _BLOCK):
        part = vector[start : start + _BLOCK]
        block = squares[: part.size]
        block[...] = part
        total += float(np.square(block, out=block).sum())
    return math.sqrt(total)


def trust_ratio(weights: float, step: float) -> float:
    """How much longer a step is to be: `weights` / `step`; 1 where either is 0, so that what is 0 can start to move."""
    return min(weights / step, _LARGEST) if weights and step else 1.0
