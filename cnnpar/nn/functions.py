"""Elementary functions: softmax and sigmoid in float64 for losses, sigmoid and normal distribution for activations."""

import numpy as np
from numpy.typing import NDArray

from cnnpar.nn.shapes import Array
from cnnpar.nn.workspace import Workspace

Matrix = NDArray[np.float64]  # (N, classes)

# Hart et al. 1968, function ERFC 5666, as West 2005 has it for the normal distribution: for z >= 0 the probability of
# less than -z is exp(-z^2 / 2) top(z) / bottom(z), within 3e-16. All coefficients are positive, so no digits cancel.
# (scipy's erf takes longer, and its import 0.3 s; it brings a BLAS of its own, whose threads would have to be limited.)
_TOP = (  # of z^6, z^5, ... 1
    3.52624965998911e-2,
    0.700383064443688,
    6.37396220353165,
    33.912866078383,
    112.079291497871,
    221.213596169931,
    220.206867912376,
)
_BOTTOM = (  # of z^7, z^6, ... 1
    8.83883476483184e-2,
    1.75566716318264,
    16.064177579207,
    86.7807322029461,
    296.564248779674,
    637.333633378831,
    793.826512519948,
    440.413735824752,
)
_FAR = 40.0  # from here on the probability is 0 in float64 too, and the powers of z overflow nowhere
_PIECE = 1 << 15  # numbers at a time: 128 KiB of float32, which stay in the L2 cache through some thirty operations


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


def write_sigmoid(x: Array, out: Array) -> Array:
    """Write 1 / (1 + exp(-x)) to `out`, in its own precision, and return it."""
    np.negative(x, out=out)
    np.exp(out, out=out)  # an overflow to infinity is right: its reciprocal is 0
    out += 1
    return np.reciprocal(out, out=out)


def write_normal_cdf(x: Array, out: Array, work: Workspace) -> None:
    """Write the distribution function of the normal distribution (mean 0, variance 1) at x; x and `out` are (size,)."""
    size, bottom = (work.scratch(name, (_PIECE,), x.dtype) for name in ("size", "bottom"))
    for start in range(0, len(x), _PIECE):
        piece, top = x[start : start + _PIECE], out[start : start + _PIECE]
        z, below = size[: len(piece)], bottom[: len(piece)]
        np.abs(piece, out=z)  # the formula is for z >= 0; the sign comes back at the end
        np.minimum(z, _FAR, out=z)
        _polynomial(_TOP, z, top)
        _polynomial(_BOTTOM, z, below)
        top /= below
        np.square(z, out=z)
        z *= -0.5
        top *= np.exp(z, out=z)  # the probability of less than -|x|
        np.subtract(piece > 0, top, out=top)  # 1 minus it where x > 0
        np.abs(top, out=top)


def _polynomial(coefficients: tuple[float, ...], z: Array, out: Array) -> None:
    """Write the polynomial of `coefficients`, the highest power's first, at z: Horner's scheme."""
    np.multiply(z, coefficients[0], out=out)
    for coefficient in coefficients[1:-1]:
        out += coefficient
        out *= z
    out += coefficients[-1]
