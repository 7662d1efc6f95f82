"""Convolution by Winograd's minimal filtering: the same sums from fewer products than the definition has.

With a kernel of r pixels, m = 7 - r neighbouring outputs see 6 inputs. Read as polynomials, kernel and inputs need not
be multiplied coefficient by coefficient: values at 6 points determine the product. Along both axes of an image (Lavin
and Gray 2016, "Fast algorithms for convolutional neural networks", eq. 8), a tile of m x m outputs is

    A^T [(G kernel G^T) * (B^T inputs B)] A

where `*` multiplies 36 pairs of numbers. Channels are summed, so for all tiles together these are 36 products of
matrices, (tiles, C) by (C, channels). The definition has 144 products for 4 x 4 outputs of a kernel of 3 x 3. A^T and
B^T are functions of `cnnpar.nn.loops.winograd_formulas`, G is `kernel_values`.

The points are 0, infinity, +-0.75 and +-1.5, chosen to keep rounding small: in float32 the root mean square error of an
output is twice that of the definition; with the article's points 0, 1, -1, 2, -2 it is five times.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np

from cnnpar.nn.conv.bias import bias_gradient
from cnnpar.nn.loops.winograd_formulas import POINTS
from cnnpar.nn.shapes import Array, Pair, Shape, as_rows
from cnnpar.nn.windows import Windows
from cnnpar.nn.workspace import Workspace

SIZE = len(POINTS) + 1  # points along an axis: 6
_FEWEST = 100_000  # products of the definition a sample; with fewer, transforms cost more than they save
_APART = 144  # numbers between the rows of points: at a distance of a power of 2 they would share few cache sets
_SMALL = 10**6  # products of a pair of matrices; up to as many BLAS is slow where the second one is transposed
_BLOCK = 450_000  # numbers in factors and products of a block of tiles: 1.8 MB of float32, to stay in a cache


def suits(kernel: Shape, windows: Windows) -> bool:
    """Tell whether this way is possible and faster for a kernel (height, width, C, channels) and windows."""
    possible = windows.dense() and windows.stride == (1, 1) and all(3 <= taps < SIZE for taps in kernel[:2])
    # Up to three channels make matrices too thin for this to pay.
    return possible and kernel[2] > 3 and math.prod(windows.outputs) * math.prod(kernel) >= _FEWEST


@lru_cache
def kernel_values(taps: int, dtype: np.dtype[Any]) -> Array:
    """Return G (6, taps): a kernel's values at the points, divided by the values there of the rows of B^T."""
    others = [POINTS[:place] + POINTS[place + 1 :] for place in range(len(POINTS))]
    # A row of B^T is the polynomial that is 0 at all other points; its value at its own point is divided out here.
    values = [*(np.prod(np.subtract(point, rest)) for point, rest in zip(POINTS, others, strict=True)), 1.0]
    # (6, taps): the powers of each point; at infinity only the highest one counts.
    powers = np.vstack([np.vander(POINTS, taps, increasing=True), np.eye(1, taps, taps - 1)])
    return np.ascontiguousarray(powers / np.array(values)[:, np.newaxis], dtype)


class Tiling:
    """Tiles of the outputs of a convolution, in blocks of rows; the last tiles may reach beyond the outputs."""

    def __init__(self, outputs: Pair, kernel: Shape, samples: int) -> None:
        """Cut `outputs` by axis into tiles for a kernel (height, width, C, channels)."""
        self.samples = samples
        self.size = SIZE + 1 - kernel[0], SIZE + 1 - kernel[1]  # outputs of a tile by axis
        self.count = -(-outputs[0] // self.size[0]), -(-outputs[1] // self.size[1])  # tiles by axis
        # A block stays in the cache from one transform to the other. All blocks but the last have as many rows.
        row = SIZE**2 * self.count[1] * samples * (kernel[2] + kernel[3])
        rows = -(-self.count[0] // min(-(-self.count[0] * row // _BLOCK), self.count[0]))
        self.blocks = [range(first, min(first + rows, self.count[0])) for first in range(0, self.count[0], rows)]

    def points(self, rows: range, channels: int) -> Shape:
        """Return the shape of the points of some rows of tiles: (36, tiles * channels, and a gap)."""
        return SIZE**2, self.tiles(rows) * channels + _APART

    def tiles(self, rows: range) -> int:
        """Return the number of tiles, of all samples, in some rows of tiles."""
        return len(rows) * self.count[1] * self.samples

    def matrices(self, points: Array, rows: range, channels: int) -> Array:
        """Return a view of points as 36 matrices, (36, tiles, channels)."""
        return points[:, : self.tiles(rows) * channels].reshape(SIZE**2, -1, channels)


tiling = lru_cache(maxsize=256)(Tiling)


def correlate(x: Array, kernel: Array, bias: Array | None, windows: Windows, work: Workspace) -> Array:
    """Return the convolution of x (H, W, N, C) with `kernel` (height, width, C, channels), plus `bias`.

    The workspace keeps the factors for `gradients`.
    """
    start, count = windows.start, windows.outputs
    samples, channels = x.shape[2], kernel.shape[3]
    tiles = tiling(count, kernel.shape, samples)
    factors = work.array("factors", (SIZE**2, *kernel.shape[2:]), x.dtype)  # (36, C, channels)
    _kernel_points(kernel, factors, work)
    y = work.array("y", (*count, samples, channels), x.dtype)
    biases = work.scratch("biases", (samples, channels), x.dtype)
    biases[...] = 0 if bias is None else bias  # as one pixel, (N * channels,)
    for number, rows in enumerate(tiles.blocks):
        inputs = work.array(f"inputs {number}", tiles.points(rows, x.shape[3]), x.dtype)
        top, place = rows.start * tiles.size[0], (*tiles.size, len(rows), tiles.count[1])  # top: row of outputs
        work.loops.input_points(as_rows(x), start[0] + top, start[1], *place, inputs)
        products = work.scratch("products", tiles.points(rows, channels), x.dtype)
        # 36 times (tiles, C) by (C, channels)
        np.matmul(tiles.matrices(inputs, rows, x.shape[3]), factors, out=tiles.matrices(products, rows, channels))
        work.loops.outputs(products, biases.reshape(-1), top, *place, as_rows(y))
    return y


def gradients(
    dy: Array, out: Array, bias: Array | None, windows: Windows, work: Workspace, dx: Array | None = None
) -> None:
    """Write the gradients of kernel and bias, and add that of the inputs to `dx` (H, W, N, C), unless it is None.

    `dy` is the gradient of the last result of `correlate` in this workspace. The forward pass is linear in kernel and
    inputs, so its steps are transposed one by one; the transformed `dy` serves both gradients.
    """
    if bias is not None:
        bias_gradient(dy, bias)
    start = windows.start
    tiles = tiling(dy.shape[:2], out.shape, dy.shape[2])
    depth, channels = out.shape[2:]
    total, term = (work.scratch(name, (SIZE**2, depth, channels), dy.dtype) for name in ("total", "term"))
    back = work.last("factors").transpose(0, 2, 1)  # (36, channels, C)
    if dx is not None and tiles.tiles(tiles.blocks[0]) * depth * channels <= _SMALL:
        back = work.scratch("back", back.shape, dy.dtype)  # a copy, with which BLAS is faster
        back[...] = work.last("factors").transpose(0, 2, 1)
    for number, rows in enumerate(tiles.blocks):
        top, place = rows.start * tiles.size[0], (*tiles.size, len(rows), tiles.count[1])
        products = work.scratch("products", tiles.points(rows, channels), dy.dtype)
        work.loops.gradient_points(as_rows(dy), top, *place, products)
        of_products = tiles.matrices(products, rows, channels)  # (36, tiles, channels)
        inputs = tiles.matrices(work.last(f"inputs {number}"), rows, depth)  # (36, tiles, C)
        np.matmul(inputs.transpose(0, 2, 1), of_products, out=term if number else total)
        if number:  # blocks are added in their order: a fixed order of roundings
            total += term
        if dx is not None:
            of_inputs = work.scratch("inputs", tiles.points(rows, depth), dy.dtype)
            np.matmul(of_products, back, out=tiles.matrices(of_inputs, rows, depth))
            work.loops.input_gradients(of_inputs, start[0] + top, start[1], *place, as_rows(dx))
    _kernel_gradient(total, out, work)


def _kernel_points(kernel: Array, out: Array, work: Workspace) -> None:
    """Write G kernel G^T, (36, C, channels)."""
    down, across = (kernel_values(taps, kernel.dtype) for taps in kernel.shape[:2])
    half = work.scratch("half", (SIZE, kernel.shape[1], kernel[0, 0].size), kernel.dtype)  # (6, width, C * channels)
    np.matmul(down, kernel.reshape(len(kernel), -1), out=half.reshape(SIZE, -1))
    np.matmul(across, half, out=out.reshape(SIZE, SIZE, -1))


def _kernel_gradient(total: Array, out: Array, work: Workspace) -> None:
    """Write G^T total G: the gradient of `kernel` in `_kernel_points`, given `total`, that of its result."""
    down, across = (kernel_values(taps, total.dtype) for taps in out.shape[:2])
    half = work.scratch("half", (SIZE, out.shape[1], out[0, 0].size), total.dtype)  # (6, width, C * channels)
    np.matmul(across.T, total.reshape(SIZE, SIZE, -1), out=half)
    np.matmul(down.T, half.reshape(SIZE, -1), out=out.reshape(len(out), -1))
