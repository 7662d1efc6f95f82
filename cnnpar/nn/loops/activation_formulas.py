"""Formulas of the activations in float32, each an explicit sequence of operations, for numpy and numba alike.

numpy's own exp has other bits on other instruction sets. The one here has the same everywhere: no operation is fused
with another or reordered. Arguments are float32 numbers, or arrays of them. The probabilities of the normal
distribution take any precision, with coefficients of the same.

Source of the exponential function: Moshier, Cephes, expf: x = n log 2 + r, with log 2 in two parts (Cody and Waite
1980), and a polynomial of r. Its error is at most 1 unit in the last place more than rounding.
"""

import math
from typing import Any

import numpy as np

Number = Any  # a float32, or an array of them

LEAST, MOST = np.float32(-87), np.float32(88)  # below and above, the exponential is 0 and infinite
LANES = 16  # sums of a row that are added to in turn, so that they are vectorised, and then to each other
_PER_LOG2 = np.float32(1.44269504088896341)
_UPPER, _LOWER = np.float32(0.693359375), np.float32(-2.12194440e-4)  # log 2 = upper + lower; the first has few digits
_ROUND = np.float32(1.5 * 2**23)  # a number this large has no digits after the point, and n in its lowest bits
_MANTISSA, _BIAS = np.int32(23), np.int32(127 << 23)  # of a float32
_COEFFICIENTS = 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.50000001201
_C0, _C1, _C2, _C3, _C4, _C5 = map(np.float32, _COEFFICIENTS)


def exp_parts(x: Number) -> tuple[Number, Number]:
    """Return q and a power of two s with exp(x) = s + s * q, for x from LEAST to MOST."""
    rounded = x * _PER_LOG2 + _ROUND
    n = rounded - _ROUND  # the nearest integer
    r = (x - n * _UPPER) - n * _LOWER
    series = ((((_C0 * r + _C1) * r + _C2) * r + _C3) * r + _C4) * r + _C5
    bits = np.float32(rounded).view(np.int32)  # the types are named for numba, which shifts in int64
    power = np.int32((bits << _MANTISSA) + _BIAS).view(np.float32)
    return (series * r) * r + r, power


# Hart et al. 1968, function ERFC 5666, as West 2005 has it for the normal distribution: for z >= 0 the probability of
# less than -z is exp(-z^2 / 2) top(z) / bottom(z), within 3e-16. All coefficients are positive, so no digits cancel.
# (scipy's erf takes longer, and its import 0.3 s; it brings a BLAS of its own, whose threads would have to be limited.)
TOP = (  # of z^6, z^5, ... 1
    3.52624965998911e-2,
    0.700383064443688,
    6.37396220353165,
    33.912866078383,
    112.079291497871,
    221.213596169931,
    220.206867912376,
)
BOTTOM = (  # of z^7, z^6, ... 1
    8.83883476483184e-2,
    1.75566716318264,
    16.064177579207,
    86.7807322029461,
    296.564248779674,
    637.333633378831,
    793.826512519948,
    440.413735824752,
)
FAR = np.float32(40)  # from here on the probability is 0 in float64 too, and the powers of z overflow nowhere
DENSITY = (2 * math.pi) ** -0.5  # of the normal distribution at 0


def cdf_below(z: Number, exponential: Number, top: tuple[Number, ...], bottom: tuple[Number, ...]) -> Number:
    """Return the probability of less than -z under the normal distribution, for z >= 0 and exp(-z^2 / 2).

    `top` and `bottom`: `TOP` and `BOTTOM`, in the precision of z.
    """
    above = top[0] * z + top[1]
    above = (((above * z + top[2]) * z + top[3]) * z + top[4]) * z + top[5]
    below = bottom[0] * z + bottom[1]
    below = (((below * z + bottom[2]) * z + bottom[3]) * z + bottom[4]) * z + bottom[5]
    return exponential * ((above * z + top[6]) / ((below * z + bottom[6]) * z + bottom[7]))
