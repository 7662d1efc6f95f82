"""Pooling of images x (N, H, W, C), channel by channel: the maximum or the mean of each window, forward and backward.

In the formulas s is the stride; `size` and `stride` are (down, across).
"""

import numpy as np

from cnnpar.nn.shapes import Array, Pair, Shape
from cnnpar.nn.textbook.windows import pixels, windows


def maximum(x: Array, size: Pair, stride: Pair) -> Array:
    """Return y (N, rows, columns, C): y[n, i, j, c] = max over u, v of x[n, i s + u, j s + v, c]."""
    y: Array = windows(x, size, stride).max(axis=(4, 5))  # over u and v
    return y


def maximum_gradient(x: Array, dy: Array, size: Pair, stride: Pair) -> Array:
    """Return dx: the pixel that was the maximum gets the gradient, the first one of equals, row by row.

    dx[n, i s + u, j s + v, c] += dy[n, i, j, c]    for the (u, v) of the maximum of window (i, j)
    """
    flat = windows(x, size, stride).reshape(*dy.shape, -1)  # (N, rows, columns, C, height * width)
    winner = flat.argmax(axis=4)
    dx = np.zeros_like(x)
    for number, (_, everywhere) in enumerate(pixels(size, stride, dy.shape[1:3])):
        dx[everywhere] += np.where(winner == number, dy, 0)
    return dx


def mean(x: Array, size: Pair, stride: Pair) -> Array:
    """Return y (N, rows, columns, C): y[n, i, j, c] = sum over u, v of x[n, i s + u, j s + v, c] / (height * width)."""
    y: Array = windows(x, size, stride).mean(axis=(4, 5))  # over u and v
    return y


def mean_gradient(dy: Array, shape: Shape, size: Pair, stride: Pair) -> Array:
    """Return dx (N, H, W, C), which is `shape`: each pixel of a window gets an equal share of the gradient.

    dx[n, i s + u, j s + v, c] += dy[n, i, j, c] / (height * width)    for all i, j, u, v
    """
    dx = np.zeros(shape, dy.dtype)
    for _, everywhere in pixels(size, stride, dy.shape[1:3]):
        dx[everywhere] += dy / (size[0] * size[1])
    return dx
