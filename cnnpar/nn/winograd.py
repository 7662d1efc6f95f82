"""Convolution by Winograd's minimal filtering: the same sums from fewer products than the definition has.

A kernel of r pixels and m = 7 - r outputs side by side see 6 inputs. Read as polynomials, they need not be multiplied
coefficient by coefficient: values at 6 points determine a product. Along both axes of an image (Lavin and Gray 2016,
"Fast algorithms for convolutional neural networks", eq. 8), a tile of m x m outputs is

    A^T [(G kernel G^T) * (B inputs B^T)] A

where `*` multiplies 36 pairs of numbers and, since channels are summed, 36 pairs of matrices for all tiles together.
The definition has 144 products for 4 x 4 outputs of a kernel of 3 x 3. The transforms are products of small matrices
with long rows of pixels, which BLAS reads where they lie, even where tiles overlap.

The points are 0, infinity and two pairs, chosen to keep rounding small: in float32 the root mean square error of an
output is twice that of the definition; with the article's points 0, 1, -1, 2, -2 it is five times.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from cnnpar.nn.kernels import Array, Memory, Pair, Shape, padded, view

POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)  # infinity is the sixth
SIZE = len(POINTS) + 1
_FEWEST = 100_000  # products of the definition, by sample; with fewer, transforms cost more than they save
_BLOCK = 450_000  # numbers in the 36 factors and products of the tiles that are in work at a time


def suits(kernel: Shape, stride: Pair, outputs: Pair) -> bool:
    """Whether this way is open for a kernel (height, width, C, channels), and faster, for so many outputs by axis."""
    possible = stride == (1, 1) and all(3 <= taps < SIZE for taps in kernel[:2])
    return possible and kernel[2] > 3 and math.prod(outputs) * math.prod(kernel) >= _FEWEST


class Transforms(NamedTuple):
    """The matrices of one axis, for a kernel of r pixels."""

    inputs: Array  # B (6, 6)
    kernel: Array  # G (6, r)
    outputs: Array  # A (6, 7 - r)


@lru_cache
def transforms(taps: int, dtype: np.dtype[Any]) -> Transforms:
    """For a kernel of `taps` pixels.

    A and G evaluate polynomials at the points. B is what undoes this, transposed: its rows are the coefficients of
    the polynomials that are 0 at all points but one; what they are there, G's rows are divided by.
    """
    others = [POINTS[:place] + POINTS[place + 1 :] for place in range(len(POINTS))]
    inputs = [*([*np.poly(rest)[::-1], 0.0] for rest in others), np.poly(POINTS)[::-1]]
    values = [*(np.prod(np.subtract(point, rest)) for point, rest in zip(POINTS, others, strict=True)), 1.0]
    matrices = np.array(inputs), _powers(taps) / np.array(values)[:, np.newaxis], _powers(SIZE + 1 - taps)
    return Transforms(*(np.ascontiguousarray(matrix, dtype) for matrix in matrices))


def _powers(count: int) -> Array:
    """Powers 0 to count - 1 of the points (6, count); of infinity, the highest is 1 and the others are 0."""
    return np.vstack([np.vander(POINTS, count, increasing=True), np.eye(1, count, count - 1)])


class Tiling:
    """How the outputs of a convolution are cut into tiles, which reach beyond them where they do not fit."""

    def __init__(self, outputs: Pair, kernel: Shape, samples: int, dtype: np.dtype[Any]) -> None:
        """For so many outputs by axis, and a kernel (height, width, C, channels)."""
        self.samples = samples
        self.down, self.across = transforms(kernel[0], dtype), transforms(kernel[1], dtype)
        self.size = SIZE + 1 - kernel[0], SIZE + 1 - kernel[1]
        self.count = -(-outputs[0] // self.size[0]), -(-outputs[1] // self.size[1])
        self.covered = self.size[0] * self.count[0], self.size[1] * self.count[1]
        self.seen = self.covered[0] + kernel[0] - 1, self.covered[1] + kernel[1] - 1  # inputs
        # Blocks of rows of tiles stay in the cache from one transform to the other.
        row = SIZE**2 * self.count[1] * samples * (kernel[2] + kernel[3])
        rows = -(-self.count[0] // min(-(-self.count[0] * row // _BLOCK), self.count[0]))
        self.blocks = [slice(first, min(first + rows, self.count[0])) for first in range(0, self.count[0], rows)]

    def points(self, rows: slice, channels: int) -> Shape:
        """Shape of some rows of tiles, transformed: (6, 6, rows, columns, N * channels)."""
        return SIZE, SIZE, rows.stop - rows.start, self.count[1], self.samples * channels

    def pixels(self, rows: slice) -> slice:
        """The rows of outputs that some rows of tiles cover."""
        return slice(rows.start * self.size[0], rows.stop * self.size[0])


tiling = lru_cache(maxsize=256)(Tiling)


def correlate(x: Array, kernel: Array, start: Pair, count: Pair, memory: Memory, keep: bool) -> Array:
    """The products of `count` windows of x (H, W, N, C) with `kernel` (height, width, C, channels).

    The first window starts at the pixel `start`, which may lie outside of the image, in zeros. `keep` the transformed
    inputs for `kernel_gradient`?
    """
    tiles = tiling(count, kernel.shape, x.shape[2], x.dtype)
    image = padded(x, start, tiles.seen, memory)
    factors = memory.scratch("factors", (SIZE**2, *kernel.shape[2:]), x.dtype)
    _kernel_points(kernel, tiles, factors, memory)
    y = memory.array("y", (tiles.covered[0], count[1], x.shape[2], kernel.shape[3]), x.dtype)
    for number, rows in enumerate(tiles.blocks):
        shape = tiles.points(rows, x.shape[3])
        inputs = memory.array(f"inputs {number}", shape, x.dtype) if keep else memory.scratch("inputs", shape, x.dtype)
        _input_points(image[tiles.pixels(rows).start :], tiles, inputs, memory)
        products = memory.scratch("products", tiles.points(rows, kernel.shape[3]), x.dtype)
        np.matmul(_matrices(inputs, factors.shape[1]), factors, out=_matrices(products, factors.shape[2]))
        _outputs(products, tiles, y[tiles.pixels(rows)], memory)
    return y[: count[0]]


def kernel_gradient(dy: Array, out: Array, memory: Memory) -> None:
    """Write the gradient of the kernel, given that of what `correlate` returned when it last used `memory`."""
    tiles = tiling(dy.shape[:2], out.shape, dy.shape[2], dy.dtype)
    if dy.shape[:2] != tiles.covered:
        dy = padded(dy, (0, 0), tiles.covered, memory.part("dy"))
    total, term = (memory.scratch(name, (SIZE**2, *out.shape[2:]), dy.dtype) for name in ("factors", "term"))
    for number, rows in enumerate(tiles.blocks):
        inputs = _matrices(memory.last(f"inputs {number}"), out.shape[2])
        products = memory.scratch("products", tiles.points(rows, out.shape[3]), dy.dtype)
        _output_points(dy[tiles.pixels(rows)], tiles, products, memory)
        np.matmul(inputs.transpose(0, 2, 1), _matrices(products, out.shape[3]), out=term if number else total)
        if number:
            total += term
    _kernel_gradient(total, tiles, out, memory)


def _kernel_points(kernel: Array, tiles: Tiling, out: Array, memory: Memory) -> None:
    """G kernel G^T."""
    half = memory.scratch("half", (SIZE, kernel.shape[1], kernel[0, 0].size), kernel.dtype)
    np.matmul(tiles.down.kernel, kernel.reshape(len(kernel), -1), out=half.reshape(SIZE, -1))
    np.matmul(tiles.across.kernel, half, out=out.reshape(SIZE, SIZE, -1))


def _kernel_gradient(total: Array, tiles: Tiling, out: Array, memory: Memory) -> None:
    """G^T total G: the gradient of `kernel` in `_kernel_points`, given that of its `out`."""
    half = memory.scratch("half", (SIZE, out.shape[1], out[0, 0].size), total.dtype)
    np.matmul(tiles.across.kernel.T, total.reshape(SIZE, SIZE, -1), out=half)
    np.matmul(tiles.down.kernel.T, half.reshape(SIZE, -1), out=out.reshape(len(out), -1))


def _input_points(image: Array, tiles: Tiling, out: Array, memory: Memory) -> None:
    """B inputs B^T; the first row of tiles begins where `image` does."""
    _, _, count, columns, pixel = out.shape
    row = image[0].size
    half = memory.scratch("half", (count, SIZE, row), image.dtype)
    np.matmul(tiles.down.inputs, view(image, half.shape, (tiles.size[0] * row, row, 1)), out=half)
    shape, strides = (SIZE, count, columns, SIZE, pixel), (row, SIZE * row, tiles.size[1] * pixel, pixel, 1)
    np.matmul(tiles.across.inputs, view(half, shape, strides), out=_columns(out))


def _outputs(products: Array, tiles: Tiling, out: Array, memory: Memory) -> None:
    """A^T products A; the last column of tiles may reach beyond `out`."""
    _, _, count, columns, pixel = products.shape
    half = memory.scratch("half", (count, SIZE, columns, tiles.size[1], pixel), out.dtype)
    np.matmul(tiles.across.outputs.T, _columns(products), out=half.transpose(1, 0, 2, 3, 4))
    rows = half.reshape(count, SIZE, -1)[..., : out[0].size]
    np.matmul(tiles.down.outputs.T, rows, out=out.reshape(count, tiles.size[0], -1))


def _output_points(dy: Array, tiles: Tiling, out: Array, memory: Memory) -> None:
    """A dy A^T: the gradient of `products` in `_outputs`, given that of its `out`, whole tiles here."""
    _, _, count, columns, pixel = out.shape
    half = memory.scratch("half", (count, SIZE, columns, tiles.size[1], pixel), dy.dtype)
    np.matmul(tiles.down.outputs, dy.reshape(count, tiles.size[0], -1), out=half.reshape(count, SIZE, -1))
    np.matmul(tiles.across.outputs, half.transpose(1, 0, 2, 3, 4), out=_columns(out))


def _columns(points: Array) -> Array:
    """Transformed tiles as a matrix (6, N * channels) for each row of each tile: a view."""
    return points.transpose(0, 2, 3, 1, 4)


def _matrices(points: Array, channels: int) -> Array:
    """Transformed tiles as 36 matrices (tiles, channels): a view."""
    return points.reshape(SIZE**2, -1, channels)
