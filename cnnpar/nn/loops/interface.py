"""Interface of the layers' inner loops (copies, comparisons, sums), and the choice between their two versions.

`in_numpy` and `activations_in_numpy` do them in numpy; the modules `numba_...`, for float32, compiled by numba, with
the same bits (tests/nn/loops/test_loops.py). A zero that comes out of a comparison is +0, since numpy does not promise
which one `numpy.maximum` returns.

Images are (H, W, P): a pixel holds P = N * C numbers, the channels of all samples. Points are (36, tiles * P or more):
the values of `rows` x `columns` tiles at the 36 points of Winograd's minimal filtering, factors or products; see
`cnnpar.nn.conv.winograd`. `down` and `across` are strides by axis.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any, Protocol, cast

import numpy as np

from cnnpar.compiling import compiled
from cnnpar.nn.loops import activations_in_numpy, in_numpy
from cnnpar.nn.shapes import Array, Indices, Pair, Statistics, Winner

_WORTH = 300_000  # products a sample; loading takes 0.6 s, which they save over 7,000 samples of so many


class Loops(Protocol):
    """All loops, in numpy or compiled. They write to `out`, and to `winner` where there is one."""

    def input_points(
        self, x: Array, top: int, left: int, down: int, across: int, rows: int, columns: int, out: Array
    ) -> None:
        """Write the factors of tiles of 6 x 6 inputs whose starts are `down` and `across` pixels apart.

        The first tile starts at the pixel (top, left) of x; outside of the image there are zeros.
        """

    def input_gradients(
        self, points: Array, top: int, left: int, down: int, across: int, rows: int, columns: int, out: Array
    ) -> None:
        """Add the gradient of the inputs to `out`, given `points`, the gradient of what `input_points` writes."""

    def outputs(
        self, products: Array, bias: Array, top: int, down: int, across: int, rows: int, columns: int, out: Array
    ) -> None:
        """Write the outputs of tiles plus `bias` (P,), from the row `top` of `out` on.

        A tile has `down` x `across` outputs; those beyond the edge of `out` are left out.
        """

    def gradient_points(self, dy: Array, top: int, down: int, across: int, rows: int, columns: int, out: Array) -> None:
        """Write the gradient of `products` in `outputs`, given that of the outputs."""

    def windows(
        self, x: Array, row: int, height: int, width: int, depth: int, down: int, across: int, count: Pair, out: Array
    ) -> None:
        """Write windows of height x width pixels as the columns of a matrix (im2col).

        There are `count` windows by axis, all inside of x; the first starts at (row, 0). Pixels hold `depth` channels.
        out: (height * width * depth or more, windows of all samples); further rows are not written.
        """

    def maxpool(
        self, x: Array, height: int, width: int, down: int, across: int, rectify: bool, out: Array, winner: Winner
    ) -> None:
        """Write the maximum of every window, and the number of the first pixel, in row-major order, that has it.

        With `rectify` a maximum below 0 becomes 0, and `winner` is height * width: a pixel that does not exist.
        """

    def maxpool_gradient(
        self, dy: Array, winner: Winner, height: int, width: int, down: int, across: int, overlap: bool, out: Array
    ) -> None:
        """Write the gradient of the pixels, or add it if windows overlap; pixels in no window keep their values."""

    def relu_gradient(self, dy: Array, y: Array, out: Array) -> None:
        """Write dy where y > 0, else 0; all are flat vectors."""

    def relu(self, x: Array, out: Array) -> None:
        """Write x where x > 0, else 0; flat vectors, as for all activations but softmax."""

    def leaky_relu(self, x: Array, slope: float, out: Array) -> None:
        """Write x where x > 0, else x * slope."""

    def leaky_relu_gradient(self, dy: Array, x: Array, slope: float, out: Array) -> None:
        """Write dy where x > 0, else dy * slope."""

    def sigmoid(self, x: Array, out: Array) -> None:
        """Write 1 / (1 + exp(-x))."""

    def sigmoid_gradient(self, dy: Array, y: Array, out: Array) -> None:
        """Write dy * (y * (1 - y)), the gradient of x, given that of y in `sigmoid`."""

    def silu(self, x: Array, slopes: Array, out: Array) -> None:
        """Write x / (1 + exp(-x)), and its derivative to `slopes`."""

    def elu(self, x: Array, alpha: float, slopes: Array, out: Array) -> None:
        """Write x where x > 0, else alpha * (exp(x) - 1); and the derivative to `slopes`."""

    def gelu(self, x: Array, slopes: Array, out: Array) -> None:
        """Write x * P(x), with the normal distribution P, and the derivative to `slopes`."""

    def softmax(self, x: Array, out: Array) -> None:
        """Write the softmax of each row of x (rows, C)."""

    def softmax_gradient(self, dy: Array, y: Array, out: Array) -> None:
        """Write y * (dy - sum(y * dy)), with the sum of each row (rows, C)."""

    def moments(self, x: Array, y: Array, out: Statistics) -> None:
        """Write the sums over the pixels of x and of x * y to out (2, P), in float64."""

    def affine(self, x: Array, scale: Array, shift: Array, rectify: bool, out: Array) -> None:
        """Write x * scale + shift, at least 0 if `rectify`; scale and shift are (P,)."""

    def affine_gradient(self, dy: Array, x: Array, slope: Array, scale: Array, shift: Array, out: Array) -> None:
        """Write dy * slope + (x * scale + shift); slope, scale and shift are (P,)."""

    def rectified_moments(self, dy: Array, x: Array, scale: Array, shift: Array, out: Statistics) -> None:
        """Write the sums over the pixels of d and of d * x to out (2, P), in float64.

        d is the gradient of x * scale + shift, given dy, that of its relu; scale and shift are (P,).
        """

    def rectified_gradient(
        self, dy: Array, x: Array, before: tuple[Array, Array], numbers: tuple[Array, Array, Array], out: Array
    ) -> None:
        """Write d * slope + (x * scale + shift) with d of `rectified_moments`.

        before: that loop's scale and shift; numbers: slope, scale and shift; all are (P,).
        """

    def weighted_sums(self, x: Array, starts: Indices, places: Indices, weights: Array, out: Array) -> None:
        """Write pixels that are weighted sums of those of the same row: `out` (R, M, P), of x (R, K, P).

        Column m has one or more terms, `starts[m]` to `starts[m + 1]`, which are added in this order: the column
        `places[term]` of x times `weights[term]`.
        """

    def extremes(
        self, x: Array, sign: Array, height: int, width: int, down: int, across: int, out: Array, winner: Winner
    ) -> None:
        """Write the maximum of every window where `sign` (P,) is 1, the minimum where it is -1; and `winner`.

        `winner` is the number of the first pixel that has it, as in `maxpool`.
        """

    def extremes_gradient(
        self,
        dy: Array,
        winner: Winner,
        x: Array,
        scale: Array,
        shift: Array,
        height: int,
        width: int,
        down: int,
        across: int,
        out: Array,
    ) -> None:
        """Write x * scale + shift, plus dy at the winners; scale and shift are (P,), and windows do not overlap."""

    def depthwise(self, x: Array, kernel: Array, stride: Pair, dilation: Pair, out: Array) -> None:
        """Add the products of the windows of x and the kernel (height, width, P) to `out`, elementwise in P.

        The first window starts at (0, 0), and all are inside of x. Pixels of a window are added in row-major order.
        """

    def depthwise_gradient(self, x: Array, dy: Array, stride: Pair, dilation: Pair, out: Array) -> None:
        """Write the gradient of the kernel: the sums over the windows of their pixels times dy, elementwise in P.

        The order of additions: each column of windows from top to bottom, then the columns from left to right.
        """


def winner_type(size: Pair) -> "np.dtype[np.unsignedinteger]":
    """Return the smallest type for the numbers 0, 1, ... of a window's pixels, and one more for "none of them"."""
    return np.dtype(np.uint8 if size[0] * size[1] <= 255 else np.uint32)


def choose_loops(dtype: np.dtype[Any], products: int) -> Loops:
    """Return compiled loops for a float32 network of many products a sample, if numba is there; else numpy's."""
    worth = dtype == np.float32 and products >= _WORTH
    return (compiled_loops() if worth else None) or NUMPY


@cache
def compiled_loops() -> Loops | None:
    """Return the loops that numba compiles for float32; None where numba is missing or cannot compile."""
    names = (
        "numba_activations",
        "numba_depthwise",
        "numba_norms",
        "numba_pixels",
        "numba_resampling",
        "numba_winograd",
    )
    modules = [compiled(f"cnnpar.nn.loops.{name}") for name in names]
    return None if None in modules else _collected(*modules)


def _collected(*modules: Any) -> Loops:
    """Return the loops that are in some modules."""
    names = [name for name in vars(Loops) if not name.startswith("_")]
    return cast("Loops", SimpleNamespace(**{n: getattr(m, n) for m in modules for n in names if hasattr(m, n)}))


NUMPY = _collected(activations_in_numpy, in_numpy)
