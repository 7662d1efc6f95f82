"""Softmax and sigmoid in float64, for losses."""

import numpy as np
from numpy.typing import NDArray

from cnnpar.nn.shapes import Array

Matrix = NDArray[np.float64]  # (N, classes)


def softmax(logits: Array) -> Matrix:
    """Return the softmax of logits (N, classes), in float64. No finite logits overflow."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)  # so that exp gets 0 at most
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=1, keepdims=True)
    return shifted


def sigmoid(z: Matrix) -> Matrix:
    """Return 1 / (1 + exp(-z)) in float64, without overflow for any z."""
    small = np.exp(-np.abs(z))  # at most 1, whatever the sign of z
    sigmoid: Matrix = np.where(z >= 0, 1.0, small) / (1 + small)
    return sigmoid
