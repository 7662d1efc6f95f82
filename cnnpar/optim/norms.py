"""L2 norms with reproducible bits, and the trust ratio of LARS and LAMB."""

import math

import numpy as np

from cnnpar.optim.rules import Vector

_BLOCK = 8192  # numbers at a time: 64 KiB of float64, which stay in a cache while they are squared and summed
_LARGEST = float(np.finfo(np.float32).max)


def norm(vector: Vector) -> float:
    """Return the L2 norm of a flat vector.

    Squares of float32 are exact in float64. They are added by numpy's pairwise summation, in blocks of fixed size from
    the vector's start, one block after the other, and never by BLAS: neither threads nor kernels nor addresses change
    the order of the additions.
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
    """Return `weights` / `step`, the factor of a step; 1 if either norm is 0, so that weights of 0 can change."""
    return min(weights / step, _LARGEST) if weights and step else 1.0
