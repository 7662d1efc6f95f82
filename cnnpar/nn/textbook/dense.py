"""Dense layer, and the rectified linear unit: formulas of matrices, forward and backward.

x is (N, features), W (features, units), b (units,), y and dy (N, units). Nielsen, chapter 2, has the derivation.
"""

import numpy as np

from cnnpar.nn.shapes import Array


def affine(x: Array, W: Array, b: Array) -> Array:
    """Return y = x W + b: y[n, k] = sum over i of x[n, i] * W[i, k], plus b[k]."""
    return x @ W + b


def affine_gradients(x: Array, dy: Array, W: Array) -> tuple[Array, Array, Array]:
    """Return dx = dy W^T, dW = x^T dy, and db, the sum of dy over the samples."""
    return dy @ W.T, x.T @ dy, dy.sum(axis=0)


def relu(x: Array) -> Array:
    """Return y = max(x, 0), for an array of any shape."""
    return np.maximum(x, 0)


def relu_gradient(x: Array, dy: Array) -> Array:
    """Return dx = dy where x > 0, else 0."""
    return np.where(x > 0, dy, 0)
