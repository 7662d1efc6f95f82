"""The loops of the layers over numbers: moving, comparing, adding. Their interface, and which of two versions to take.

`in_numpy` does them in numpy; `numba_pixels` and `numba_winograd`, for float32, compiled by numba, with the same bits
(tests/nn/test_loops.py). A zero that comes out of a comparison is a positive zero, since numpy does not promise which
one `numpy.maximum` returns.

Images are (H, W, P): pixels of P numbers, the channels of all samples. Points are (36, rows * columns * P, or more):
`rows` x `columns` tiles of an image, as factors or products at the 36 points of minimal filtering; see
`cnnpar.nn.conv.winograd`.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

import cnnpar.nn.loops.in_numpy as in_numpy
from cnnpar.compiling import compiled
from cnnpar.nn.shapes import Array, Pair

Sums: TypeAlias = NDArray[np.float64]
Winner: TypeAlias = NDArray[Any]  # uint8, or uint32 for windows of more than 255 pixels

_WORTH = 1_000_000  # products of a sample; with fewer, a network is done before compiled loops are even loaded


class Loops(Protocol):
    """Every loop, in numpy or compiled."""

    def input_points(
        self, x: Array, top: int, left: int, down: int, across: int, rows: int, columns: int, out: Array
    ) -> None:
        """Write the factors of tiles of 6 x 6 inputs, which are `down` and `across` pixels apart.

        The first tile begins at the pixel (top, left) of x; outside of the image there are zeros.
        """

    def input_gradients(
        self, points: Array, top: int, left: int, down: int, across: int, rows: int, columns: int, out: Array
    ) -> None:
        """Add the gradient of the inputs, given that of the factors that `input_points` makes of them."""

    def outputs(
        self, products: Array, bias: Array, top: int, down: int, across: int, rows: int, columns: int, out: Array
    ) -> None:
        """Write the outputs, `down` x `across` of each tile, from the row `top` on, as far as `out` has them.

        `bias` (P,) is added.
        """

    def gradient_points(self, dy: Array, top: int, down: int, across: int, rows: int, columns: int, out: Array) -> None:
        """Write the gradient of the products, given that of the outputs."""

    def windows(
        self, x: Array, row: int, height: int, width: int, depth: int, down: int, across: int, count: Pair, out: Array
    ) -> None:
        """Write the numbers of `count` windows, the first of which begins at (row, 0), all inside of x.

        Pixels hold `depth` numbers of each sample. out (height * width * depth, or more, windows of all samples): the
        windows are its columns.
        """

    def maxpool(
        self, x: Array, height: int, width: int, down: int, across: int, rectify: bool, out: Array, winner: Winner
    ) -> None:
        """Write the maximum of every window, and the first pixel in it, in row-major order, that has it.

        `rectify`: 0 instead of what is below, and then no pixel has it: `winner` is their number.
        """

    def maxpool_gradient(
        self, dy: Array, winner: Winner, height: int, width: int, down: int, across: int, overlap: bool, out: Array
    ) -> None:
        """Write, or add where windows overlap, the gradient of the pixels; those in no window are left as they are."""

    def relu_gradient(self, dy: Array, y: Array, out: Array) -> None:
        """Write dy where y > 0, else 0; all are vectors."""

    def moments(self, x: Array, y: Array, out: Sums) -> None:
        """Write, for each number of a pixel, the sums over the pixels of x and of x * y: out (2, P) in float64."""

    def affine(self, x: Array, scale: Array, shift: Array, rectify: bool, out: Array) -> None:
        """Write x * scale + shift, or 0 where that is below and `rectify`; scale and shift are (P,)."""

    def affine_gradient(self, dy: Array, x: Array, slope: Array, scale: Array, shift: Array, out: Array) -> None:
        """Write dy * slope + (x * scale + shift); slope, scale and shift are (P,)."""

    def extremes(
        self, x: Array, sign: Array, height: int, width: int, down: int, across: int, out: Array, winner: Winner
    ) -> None:
        """Write of every window the number whose product with `sign` (P,), 1 or -1, is largest; the first of equals.

        And where it is, as in `maxpool`.
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
        """Write x * scale + shift, plus dy where the winners are; windows do not overlap."""

    def depthwise(self, x: Array, kernel: Array, stride: Pair, dilation: Pair, out: Array) -> None:
        """Add to `out` the products of the windows of x with the kernel (height, width, P), number by number.

        The first window begins at (0, 0), and all are inside of x. Pixels of a window are added in row-major order.
        """

    def depthwise_gradient(self, x: Array, dy: Array, stride: Pair, dilation: Pair, out: Array) -> None:
        """Write the gradient of the kernel: over the windows the sums of their pixels times dy, number by number.

        Columns of windows are added from top to bottom, and what they give from left to right.
        """


def best(dtype: np.dtype[Any], products: int) -> Loops:
    """Return the loops for a network of so many products a sample: compiled ones where they are there and pay."""
    worth = dtype == np.float32 and products >= _WORTH
    return (compiled_loops() if worth else None) or NUMPY


@cache
def compiled_loops() -> Loops | None:
    """Return the loops that numba compiles, for float32; None where it cannot."""
    modules = [compiled(f"cnnpar.nn.loops.{name}") for name in ("numba_pixels", "numba_winograd")]
    if None in modules:
        return None
    names = [name for name in vars(Loops) if not name.startswith("_")]
    return cast("Loops", SimpleNamespace(**{n: getattr(m, n) for m in modules for n in names if hasattr(m, n)}))


NUMPY = cast("Loops", in_numpy)
