"""Convolution by Winograd's minimal filtering: the same sums from fewer products than the definition has.

A kernel of r pixels and m = 7 - r outputs side by side see 6 inputs. Read as polynomials, they need not be multiplied
coefficient by coefficient: values at 6 points determine a product. Along both axes of an image (Lavin and Gray 2016,
"Fast algorithms for convolutional neural networks", eq. 8), a tile of m x m outputs is

    A^T [(G kernel G^T) * (B inputs B^T)] A

where `*` multiplies 36 pairs of numbers and, since channels are summed, 36 pairs of matrices for all tiles together.
The definition has 144 products for 4 x 4 outputs of a kernel of 3 x 3. A and B are the functions of
`cnnpar.nn.loops.winograd_formulas`.

The points are 0, infinity and two pairs, chosen to keep rounding small: in float32 the root mean square error of an
output is twice that of the definition; with the article's points 0, 1, -1, 2, -2 it is five times.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np

from cnnpar.nn.loops.winograd_formulas import POINTS
from cnnpar.nn.shapes import Array, Pair, Shape, as_rows
from cnnpar.nn.windows import Windows
from cnnpar.nn.workspace import Workspace

SIZE = len(POINTS) + 1
_FEWEST = 100_000  # products of the definition, by sample; with fewer, transforms cost more than they save
_APART = 144  # numbers between the points of one kind and the next: a cache has few places for equal addresses
_SMALL = 10**6  # products of a pair of matrices, up to which BLAS is slow with the second one in transposed order
_BLOCK = 450_000  # numbers in the 36 factors and products of the tiles that are in work at a time


def suits(kernel: Shape, windows: Windows) -> bool:
    """Whether this way is open for a kernel (height, width, C, channels) and such windows, and faster."""
    possible = windows.plain() and windows.stride == (1, 1) and all(3 <= taps < SIZE for taps in kernel[:2])
    return possible and kernel[2] > 3 and math.prod(windows.outputs) * math.prod(kernel) >= _FEWEST


@lru_cache
def kernel_values(taps: int, dtype: np.dtype[Any]) -> Array:
    """G (6, taps): a kernel's values at the points, divided by what the inputs' polynomials are there."""
    others = [POINTS[:place] + POINTS[place + 1 :] for place in range(len(POINTS))]
    values = [*(np.prod(np.subtract(point, rest)) for point, rest in zip(POINTS, others, strict=True)), 1.0]
    powers = np.vstack([np.vander(POINTS, taps, increasing=True), np.eye(1, taps, taps - 1)])  # of infinity the highest
    return np.ascontiguousarray(powers / np.array(values)[:, np.newaxis], dtype)


class Tiling:
    """How the outputs of a convolution are cut into tiles, which reach beyond them where they do not fit."""

    def __init__(self, outputs: Pair, kernel: Shape, samples: int) -> None:
        """For so many outputs by axis, and a kernel (height, width, C, channels)."""
        self.samples = samples
        self.size = SIZE + 1 - kernel[0], SIZE + 1 - kernel[1]
        self.count = -(-outputs[0] // self.size[0]), -(-outputs[1] // self.size[1])
        # Blocks of rows of tiles stay in the cache from one transform to the other.
        row = SIZE**2 * self.count[1] * samples * (kernel[2] + kernel[3])
        rows = -(-self.count[0] // min(-(-self.count[0] * row // _BLOCK), self.count[0]))
        self.blocks = [range(first, min(first + rows, self.count[0])) for first in range(0, self.count[0], rows)]

    def points(self, rows: range, channels: int) -> Shape:
        """Shape of the points of some rows of tiles: see `cnnpar.nn.loops.interface`."""
        return SIZE**2, self.tiles(rows) * channels + _APART

    def tiles(self, rows: range) -> int:
        """Tiles of all samples in some rows."""
        return len(rows) * self.count[1] * self.samples

    def matrices(self, points: Array, rows: range, channels: int) -> Array:
        """Points as 36 matrices (tiles, channels): a view."""
        return points[:, : self.tiles(rows) * channels].reshape(SIZE**2, -1, channels)


tiling = lru_cache(maxsize=256)(Tiling)


def correlate(x: Array, kernel: Array, bias: Array | None, start: Pair, count: Pair, work: Workspace) -> Array:
    """The products of `count` windows of x (H, W, N, C) with `kernel` (height, width, C, channels), plus `bias`.

    The first window starts at the pixel `start`, which may lie outside of the image, in zeros.
    """
    samples, channels = x.shape[2], kernel.shape[3]
    tiles = tiling(count, kernel.shape, samples)
    factors = work.array("factors", (SIZE**2, *kernel.shape[2:]), x.dtype)
    _kernel_points(kernel, factors, work)
    y = work.array("y", (*count, samples, channels), x.dtype)
    biases = work.scratch("biases", (samples, channels), x.dtype)
    biases[...] = 0 if bias is None else bias
    for number, rows in enumerate(tiles.blocks):
        inputs = work.array(f"inputs {number}", tiles.points(rows, x.shape[3]), x.dtype)
        top, place = rows.start * tiles.size[0], (*tiles.size, len(rows), tiles.count[1])
        work.loops.input_points(as_rows(x), start[0] + top, start[1], *place, inputs)
        products = work.scratch("products", tiles.points(rows, channels), x.dtype)
        np.matmul(tiles.matrices(inputs, rows, x.shape[3]), factors, out=tiles.matrices(products, rows, channels))
        work.loops.outputs(products, biases.reshape(-1), top, *place, as_rows(y))
    return y


def gradients(dy: Array, out: Array, start: Pair, dx: Array | None, work: Workspace) -> None:
    """Write the gradient of the kernel to `out`, and add that of the inputs to `dx`, if it is wanted.

    `dy` is the gradient of what `correlate` returned when it last used `memory`. All steps of the forward pass are
    linear, and are taken back one by one: the transformed `dy` serves both.
    """
    tiles = tiling(dy.shape[:2], out.shape, dy.shape[2])
    depth, channels = out.shape[2:]
    total, term = (work.scratch(name, (SIZE**2, depth, channels), dy.dtype) for name in ("total", "term"))
    back = work.last("factors").transpose(0, 2, 1)
    if dx is not None and tiles.tiles(tiles.blocks[0]) * depth * channels <= _SMALL:
        back = work.scratch("back", back.shape, dy.dtype)
        back[...] = work.last("factors").transpose(0, 2, 1)
    for number, rows in enumerate(tiles.blocks):
        top, place = rows.start * tiles.size[0], (*tiles.size, len(rows), tiles.count[1])
        products = work.scratch("products", tiles.points(rows, channels), dy.dtype)
        work.loops.gradient_points(as_rows(dy), top, *place, products)
        of_products = tiles.matrices(products, rows, channels)
        inputs = tiles.matrices(work.last(f"inputs {number}"), rows, depth)
        np.matmul(inputs.transpose(0, 2, 1), of_products, out=term if number else total)
        if number:
            total += term
        if dx is not None:
            of_inputs = work.scratch("inputs", tiles.points(rows, depth), dy.dtype)
            np.matmul(of_products, back, out=tiles.matrices(of_inputs, rows, depth))
            work.loops.input_gradients(of_inputs, start[0] + top, start[1], *place, as_rows(dx))
    _kernel_gradient(total, out, work)


def _kernel_points(kernel: Array, out: Array, work: Workspace) -> None:
    """G kernel G^T."""
    down, across = (kernel_values(taps, kernel.dtype) for taps in kernel.shape[:2])
    half = work.scratch("half", (SIZE, kernel.shape[1], kernel[0, 0].size), kernel.dtype)
    np.matmul(down, kernel.reshape(len(kernel), -1), out=half.reshape(SIZE, -1))
    np.matmul(across, half, out=out.reshape(SIZE, SIZE, -1))


def _kernel_gradient(total: Array, out: Array, work: Workspace) -> None:
    """G^T total G: the gradient of `kernel` in `_kernel_points`, given that of its `out`."""
    down, across = (kernel_values(taps, total.dtype) for taps in out.shape[:2])
    half = work.scratch("half", (SIZE, out.shape[1], out[0, 0].size), total.dtype)
    np.matmul(across.T, total.reshape(SIZE, SIZE, -1), out=half)
    np.matmul(down.T, half.reshape(SIZE, -1), out=out.reshape(len(out), -1))
