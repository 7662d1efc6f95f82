"""Transforms of Winograd's minimal filtering along one axis, on numbers or arrays: see `cnnpar.nn.conv.winograd`.

Each function is a few multiplications and additions in a fixed order. numpy applies them to whole arrays, numba to one
number after the other; as no operation is fused with another, both have the same bits.

Polynomials are evaluated at 0, A, -A, B, -B and infinity. Even and odd powers are summed apart, since a point and its
negative share both sums, up to a sign. All constants are exact in float32.
"""

from typing import Any

import numpy as np

A, A2, A3 = (np.float32(0.75**power) for power in (1, 2, 3))
B, B2, B3 = (np.float32(1.5**power) for power in (1, 2, 3))
SUM, PRODUCT = A2 + B2, A2 * B2
POINTS = (0.0, float(A), -float(A), float(B), -float(B))  # without the sixth, infinity

Number = Any  # a float32, or an array of them; float64 likewise


def inputs(
    x0: Number, x1: Number, x2: Number, x3: Number, x4: Number, x5: Number
) -> tuple[Number, Number, Number, Number, Number, Number]:
    """Return the factors at the six points of six inputs side by side: B^T x.

    Row i of B^T has the coefficients of the polynomial that is 0 at all points but point i.
    """
    even, odd = x4 - B2 * x2, A * (x3 - B2 * x1)  # of x (x^2 - B^2) (x +- A)
    further, other = x4 - A2 * x2, B * (x3 - A2 * x1)  # of x (x^2 - A^2) (x +- B)
    return (
        (PRODUCT * x0 - SUM * x2) + x4,  # (x^2 - A^2) (x^2 - B^2)
        even + odd,
        even - odd,
        further + other,
        further - other,
        (PRODUCT * x1 - SUM * x3) + x5,  # x (x^2 - A^2) (x^2 - B^2)
    )


def input_gradients(
    g0: Number, g1: Number, g2: Number, g3: Number, g4: Number, g5: Number
) -> tuple[Number, Number, Number, Number, Number, Number]:
    """Return the gradients of the inputs of `inputs`, given those of the factors: B g."""
    near, far = g1 + g2, g3 + g4
    left, right = A * (g1 - g2), B * (g3 - g4)
    return (
        PRODUCT * g0,
        PRODUCT * g5 - (B2 * left + A2 * right),
        (-SUM) * g0 - (B2 * near + A2 * far),
        (left + right) - SUM * g5,
        g0 + (near + far),
        g5,
    )


def outputs2(p0: Number, p1: Number, p2: Number, p3: Number, p4: Number, p5: Number) -> tuple[Number, Number]:
    """Return two outputs side by side of the products at the six points: A^T p, a kernel of 5 pixels."""
    return p0 + ((p1 + p2) + (p3 + p4)), (A * (p1 - p2) + B * (p3 - p4)) + p5


def outputs3(p0: Number, p1: Number, p2: Number, p3: Number, p4: Number, p5: Number) -> tuple[Number, Number, Number]:
    """Return three outputs side by side, of a kernel of 4 pixels."""
    near, far = p1 + p2, p3 + p4  # even powers at A and B; differences are the odd ones
    return p0 + (near + far), A * (p1 - p2) + B * (p3 - p4), (A2 * near + B2 * far) + p5


def outputs4(
    p0: Number, p1: Number, p2: Number, p3: Number, p4: Number, p5: Number
) -> tuple[Number, Number, Number, Number]:
    """Return four outputs side by side, of a kernel of 3 pixels."""
    near, far, left, right = p1 + p2, p3 + p4, p1 - p2, p3 - p4  # even and odd powers
    return p0 + (near + far), A * left + B * right, A2 * near + B2 * far, (A3 * left + B3 * right) + p5


def gradients2(d0: Number, d1: Number) -> tuple[Number, Number, Number, Number, Number, Number]:
    """Return the gradients of the products of `outputs2`, given those of the outputs: A d."""
    near, far = A * d1, B * d1
    return d0, d0 + near, d0 - near, d0 + far, d0 - far, d1


def gradients3(d0: Number, d1: Number, d2: Number) -> tuple[Number, Number, Number, Number, Number, Number]:
    """Return the gradients of the products of `outputs3`, given those of the outputs."""
    near, far = A * d1, B * d1
    even, further = d0 + A2 * d2, d0 + B2 * d2
    return d0, even + near, even - near, further + far, further - far, d2


def gradients4(d0: Number, d1: Number, d2: Number, d3: Number) -> tuple[Number, Number, Number, Number, Number, Number]:
    """Return the gradients of the products of `outputs4`, given those of the outputs."""
    near, far = A * d1 + A3 * d3, B * d1 + B3 * d3
    even, further = d0 + A2 * d2, d0 + B2 * d2
    return d0, even + near, even - near, further + far, further - far, d3
