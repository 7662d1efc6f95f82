"""The activation loops of `cnnpar.nn.loops.interface` in numpy, for float32 and float64.

In float32 the exponential function is that of `activation_formulas`, and not numpy's, whose bits differ by machine.
"""

from collections.abc import Iterator

import numpy as np

from cnnpar.nn.loops.activation_formulas import BOTTOM, DENSITY, FAR, LANES, LEAST, MOST, TOP, cdf_below, exp_parts
from cnnpar.nn.shapes import Array

_PIECE = 1 << 14  # numbers at a time: 64 KiB of float32, which stay in the L2 cache through some thirty operations


def relu(x: Array, out: Array) -> None:
    """Implement `Loops.relu`."""
    np.maximum(x, 0, out=out)
    np.add(out, 0, out=out)  # turns -0 into +0


def leaky_relu(x: Array, slope: float, out: Array) -> None:
    """Implement `Loops.leaky_relu`."""
    np.multiply(x, slope, out=out)
    np.copyto(out, x, where=x > 0)


def leaky_relu_gradient(dy: Array, x: Array, slope: float, out: Array) -> None:
    """Implement `Loops.leaky_relu_gradient`."""
    np.multiply(dy, slope, out=out)
    np.copyto(out, dy, where=x > 0)


def sigmoid(x: Array, out: Array) -> None:
    """Implement `Loops.sigmoid`."""
    for piece in _pieces(x):
        np.divide(1, 1 + _exp(-x[piece]), out=out[piece])


def sigmoid_gradient(dy: Array, y: Array, out: Array) -> None:
    """Implement `Loops.sigmoid_gradient`."""
    for piece in _pieces(y):
        np.multiply(dy[piece], y[piece] * (1 - y[piece]), out=out[piece])


def silu(x: Array, slopes: Array, out: Array) -> None:
    """Implement `Loops.silu`."""
    for piece in _pieces(x):
        share = 1 / (1 + _exp(-x[piece]))
        y = np.multiply(x[piece], share, out=out[piece])
        np.add(share, y * (1 - share), out=slopes[piece])


def elu(x: Array, alpha: float, slopes: Array, out: Array) -> None:
    """Implement `Loops.elu`."""
    for piece in _pieces(x):
        own = x[piece]
        below = alpha * _less_one(np.minimum(own, 0))
        slopes[piece] = np.where(own > 0, 1, below + alpha)
        out[piece] = np.where(own > 0, own, below)


def gelu(x: Array, slopes: Array, out: Array) -> None:
    """Implement `Loops.gelu`."""
    for piece in _pieces(x):
        own = x[piece]
        z = np.minimum(np.abs(own), FAR)
        exponential = _exp((z * z) * -0.5)
        below = cdf_below(z, exponential, TOP, BOTTOM)
        cdf = np.where(own > 0, 1 - below, below)
        slopes[piece] = cdf + own * (exponential * DENSITY)
        out[piece] = own * cdf


def softmax(x: Array, out: Array) -> None:
    """Implement `Loops.softmax`."""
    out[...] = _exp(x - x.max(axis=1, keepdims=True))  # exp gets 0 at most, so nothing overflows
    out /= _row_sums(out)


def softmax_gradient(dy: Array, y: Array, out: Array) -> None:
    """Implement `Loops.softmax_gradient`."""
    np.subtract(dy, _row_sums(y * dy), out=out)
    np.multiply(out, y, out=out)


def _pieces(x: Array) -> Iterator[slice]:
    """Yield slices of a vector, one after the other."""
    return (slice(start, start + _PIECE) for start in range(0, len(x), _PIECE))


def _exp(x: Array) -> Array:
    """Return exp(x); in float32 0 below LEAST, and infinity above MOST."""
    if x.dtype != np.float32:
        exponential: Array = np.exp(x)
        return exponential
    series, power = exp_parts(np.clip(x, LEAST, MOST))
    inside: Array = power + power * series
    return np.where(x < LEAST, 0, np.where(x > MOST, np.inf, inside))


def _less_one(x: Array) -> Array:
    """Return exp(x) - 1 for x <= 0, without loss of digits."""
    if x.dtype != np.float32:
        difference: Array = np.expm1(x)
        return difference
    series, power = exp_parts(np.maximum(x, LEAST))
    below: Array = power * series + (power - 1)
    return below


def _row_sums(x: Array) -> Array:
    """Return the sums of rows (rows, 1): every LANES-th number is added, then halves of the sums, until one is left."""
    rows, channels = x.shape
    padded = np.zeros((rows, -(-channels // LANES), LANES), x.dtype)
    padded.reshape(rows, -1)[:, :channels] = x
    lanes = np.zeros((rows, LANES), x.dtype)
    for column in range(padded.shape[1]):
        lanes += padded[:, column]
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes
