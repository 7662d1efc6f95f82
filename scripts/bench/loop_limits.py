"""Loops that may take more than 3 times a copy: how much more, of which cases, and why.

A limit is about a fifth above the larger one of what was measured with AVX2 and with AVX-512, so that a loop that gets
slower is seen. A core of these machines does 16 products and 16 sums of float32 a cycle with AVX2.
"""

from typing import NamedTuple

MOST = 3.0  # times a copy


class Limit(NamedTuple):
    """The most that cases of a loop may take, in times a copy, and why; `of` is a part of their names."""

    loop: str
    of: str
    most: float
    reason: str


_EXPONENTIAL = "8 products, 9 sums and 3 other operations for the exponential function, then a division"
_SCALAR = "LLVM makes 16 scalars of the 16 lanes, so maximum and sum of a row are not vectorised"
_WINDOW3 = "9 products, 9 sums and 13 loads for a number"
_FETCHED = "the four neighbours of a place are loaded one by one"
_WINOGRAD = "two transforms of 6 x 6 numbers, with an image in a cache between them"

LIMITS = [
    Limit("numba_warp.bilinear", "x 1, ", 35, _FETCHED),
    Limit("numba_warp.bilinear", "x 3, ", 70, f"{_FETCHED}; pixels of three numbers are not vectorised"),
    Limit("numba_warp.bilinear_floats", "x 1, ", 22, _FETCHED),
    Limit("numba_warp.bilinear_floats", "x 3, ", 22, f"{_FETCHED}; pixels of three numbers are not vectorised"),
    Limit("numba_activations.sigmoid", "", 9, _EXPONENTIAL),
    Limit("numba_activations.silu", "", 9.5, _EXPONENTIAL),
    Limit("numba_activations.elu", "", 7, "as sigmoid, without the division"),
    Limit("numba_activations.gelu", "", 14, "as sigmoid, and 13 products and 13 sums for the normal distribution"),
    Limit("numba_activations.softmax", "", 26, _SCALAR),
    Limit("numba_activations.softmax_gradient", "", 4, _SCALAR),
    Limit("numba_depthwise.depthwise", "3 x 3 / 1, dilation", 6.5, f"{_WINDOW3}; one window at a time"),
    Limit("numba_depthwise.depthwise", "3 x 3 /", 5, _WINDOW3),
    Limit("numba_depthwise.depthwise", "5 x 5 /", 17, "25 products and 25 sums for a number"),
    Limit("numba_depthwise.depthwise_gradient", "3 x 3 / 1, dilation", 9, f"{_WINDOW3}; one sum at a time"),
    Limit("numba_depthwise.depthwise_gradient", "3 x 3 /", 7.5, f"{_WINDOW3}, of which none is written"),
    Limit("numba_depthwise.depthwise_gradient", "5 x 5 /", 21, "25 products and 25 sums for a number; none is written"),
    Limit("numba_pixels.windows", "x 2, ", 4, "numbers of an image are taken apart by channel one by one"),
    Limit("numba_pixels.windows", "3 x 3 / 2", 8, "runs of 16 numbers are copied, as many as there are samples"),
    Limit("numba_pixels.windows", "x 3, ", 4.8, "numbers of an image are taken apart by channel one by one"),
    Limit("numba_pixels.windows", "x 4, ", 3.7, "numbers of an image are taken apart by channel one by one"),
    Limit("numba_pixels.windows", "8 x 8 x 1, 16 ", 4, "72 runs of 128 numbers, 1.4 us in all"),
    Limit("numba_pixels.maxpool", "3 x 3 /", 4, "8 comparisons, each with two choices, for a number that is written"),
    Limit("numba_pixels.extremes", "3 x 3 /", 4.6, "as maxpool, and 9 products"),
    Limit("numba_pixels.moments", "squares", 4.6, "a sum, a product and its sum in float64 for each float32"),
    Limit("numba_winograd.input_points", "", 4, _WINOGRAD),
    Limit("numba_winograd.input_gradients", "", 3.6, _WINOGRAD),
    Limit("numba_winograd.gradient_points", "", 4, _WINOGRAD),
]


def limit_of(loop: str, case: str) -> Limit:
    """Return the first limit in the list that holds for a case."""
    return next((limit for limit in LIMITS if limit.loop == loop and limit.of in case), Limit(loop, "", MOST, ""))
