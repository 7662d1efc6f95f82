"""Numba versions of the activation loops: one pass over the numbers, vectorised, with the bits of numpy's."""

from typing import Any

import numpy as np

from cnnpar.compiling import inline, loop, takes_from
from cnnpar.nn.loops import activation_formulas
from cnnpar.nn.loops.activation_formulas import BOTTOM, DENSITY, FAR, LANES, LEAST, MOST, TOP

takes_from(__file__, activation_formulas)
_exp_parts, _cdf_below = inline(activation_formulas.exp_parts), inline(activation_formulas.cdf_below)
_TOP, _BOTTOM = tuple(map(np.float32, TOP)), tuple(map(np.float32, BOTTOM))
_ZERO, _ONE, _MINUS_HALF, _DENSITY, _INFINITY = map(np.float32, (0, 1, -0.5, DENSITY, np.inf))


@inline
def _exp(x: Any) -> Any:
    """Return exp(x) of a float32; 0 below LEAST, infinity above MOST."""
    series, power = _exp_parts(LEAST if x < LEAST else (MOST if x > MOST else x))
    inside = power + power * series
    return _ZERO if x < LEAST else (_INFINITY if x > MOST else inside)


@loop("void(float32[::1], float32[::1])")
def relu(x: Any, out: Any) -> None:
    """Implement `Loops.relu`."""
    for p in range(len(x)):
        out[p] = _ZERO if x[p] <= 0 else x[p]  # NaN stays; -0 becomes +0


@loop("void(float32[::1], float32, float32[::1])")
def leaky_relu(x: Any, slope: Any, out: Any) -> None:
    """Implement `Loops.leaky_relu`."""
    for p in range(len(x)):
        value = x[p]
        out[p] = value if value > 0 else value * slope


@loop("void(float32[::1], float32[::1], float32, float32[::1])")
def leaky_relu_gradient(dy: Any, x: Any, slope: Any, out: Any) -> None:
    """Implement `Loops.leaky_relu_gradient`."""
    for p in range(len(x)):
        d, scaled = dy[p], dy[p] * slope
        out[p] = d if x[p] > 0 else scaled


@loop("void(float32[::1], float32[::1])")
def sigmoid(x: Any, out: Any) -> None:
    """Implement `Loops.sigmoid`."""
    for p in range(len(x)):
        out[p] = _ONE / (_ONE + _exp(-x[p]))


@loop("void(float32[::1], float32[::1], float32[::1])")
def sigmoid_gradient(dy: Any, y: Any, out: Any) -> None:
    """Implement `Loops.sigmoid_gradient`."""
    for p in range(len(y)):
        out[p] = dy[p] * (y[p] * (_ONE - y[p]))


@loop("void(float32[::1], float32[::1], float32[::1])")
def silu(x: Any, slopes: Any, out: Any) -> None:
    """Implement `Loops.silu`."""
    for p in range(len(x)):
        share = _ONE / (_ONE + _exp(-x[p]))
        y = x[p] * share
        slopes[p] = share + y * (_ONE - share)
        out[p] = y


@loop("void(float32[::1], float32, float32[::1], float32[::1])")
def elu(x: Any, alpha: Any, slopes: Any, out: Any) -> None:
    """Implement `Loops.elu`."""
    for p in range(len(x)):
        value = x[p]
        least = _ZERO if value > 0 else value
        series, power = _exp_parts(LEAST if least < LEAST else least)
        below = alpha * (power * series + (power - _ONE))
        slope = below + alpha
        slopes[p] = _ONE if value > 0 else slope
        out[p] = value if value > 0 else below


@loop("void(float32[::1], float32[::1], float32[::1])")
def gelu(x: Any, slopes: Any, out: Any) -> None:
    """Implement `Loops.gelu`."""
    for p in range(len(x)):
        value = x[p]
        z = abs(value)
        z = FAR if z > FAR else z
        exponential = _exp((z * z) * _MINUS_HALF)
        below = _cdf_below(z, exponential, _TOP, _BOTTOM)
        above = _ONE - below
        cdf = above if value > 0 else below
        slopes[p] = cdf + value * (exponential * _DENSITY)
        out[p] = value * cdf


@inline
def _larger(most: Any, value: Any) -> Any:
    """Return the larger one of two numbers. NaN stays, and NaN wins, as in numpy.maximum."""
    return most if value <= most or most != most else value


@inline
def _total(lanes: Any) -> Any:
    """Return the sum of the lanes: halves are added until one is left."""
    half = LANES // 2
    while half:
        for lane in range(half):
            lanes[lane] += lanes[lane + half]
        half //= 2
    return lanes[0]


@loop("void(float32[:,::1], float32[:,::1])")
def softmax(x: Any, out: Any) -> None:
    """Implement `Loops.softmax`."""
    rows, channels = x.shape
    whole = channels - channels % LANES
    lanes = np.empty(LANES, np.float32)
    for r in range(rows):
        a, o = x[r], out[r]
        lanes[:] = -np.inf
        for start in range(0, whole, LANES):
            for lane in range(LANES):
                lanes[lane] = _larger(lanes[lane], a[start + lane])
        for p in range(whole, channels):
            lanes[0] = _larger(lanes[0], a[p])
        most = lanes[0]
        for lane in range(1, LANES):
            most = _larger(most, lanes[lane])
        for p in range(channels):
            o[p] = _exp(a[p] - most)
        lanes[:] = 0
        for start in range(0, whole, LANES):
            for lane in range(LANES):
                lanes[lane] += o[start + lane]
        for p in range(whole, channels):
            lanes[p - whole] += o[p]
        total = _total(lanes)
        for p in range(channels):
            o[p] /= total


@loop("void(float32[:,::1], float32[:,::1], float32[:,::1])")
def softmax_gradient(dy: Any, y: Any, out: Any) -> None:
    """Implement `Loops.softmax_gradient`."""
    rows, channels = y.shape
    whole = channels - channels % LANES
    lanes = np.empty(LANES, np.float32)
    for r in range(rows):
        d, a, o = dy[r], y[r], out[r]
        lanes[:] = 0
        for start in range(0, whole, LANES):
            for lane in range(LANES):
                lanes[lane] += a[start + lane] * d[start + lane]
        for p in range(whole, channels):
            lanes[p - whole] += a[p] * d[p]
        total = _total(lanes)
        for p in range(channels):
            o[p] = (d[p] - total) * a[p]
