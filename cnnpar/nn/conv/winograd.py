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
from typing import Any, NamedTuple

import numpy as np

from cnnpar.nn.conv.bias import bias_gradient
from cnnpar.nn.conv.pooling import NONE, Pooling
from cnnpar.nn.loops.interface import winner_type
from cnnpar.nn.loops.winograd_formulas import POINTS
from cnnpar.nn.shapes import Array, Pair, Shape, Winner, as_rows
from cnnpar.nn.windows import Windows
from cnnpar.nn.workspace import Workspace

SIZE = len(POINTS) + 1  # points along an axis: 6
_FEWEST = 100_000  # products of the definition a sample; with fewer, transforms cost more than they save
_APART = 144  # numbers between the rows of points: at a distance of a power of 2 they would share few cache sets
_SMALL = 10**6  # products of a pair of matrices; up to as many BLAS is slow where the second one is transposed
_BLOCK = 450_000  # numbers in factors and products of a block of tiles: 1.8 MB of float32, to stay in a cache


def pools(kernel: Shape, pooling: Pooling) -> bool:
    """Tell whether rows of tiles end between pooling windows, for a kernel (height, width, C, channels)."""
    return (SIZE + 1 - kernel[0]) % pooling.size[0] == 0


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
        self.size = SIZE + 1 - kernel[0], SIZE + 1 - kernel[1]  # outputs of a tile by axis
        self.count = -(-outputs[0] // self.size[0]), -(-outputs[1] // self.size[1])  # tiles by axis
        # A block stays in the cache from one transform to the other. All blocks but the last have as many rows.
        row = SIZE**2 * self.count[1] * samples * (kernel[2] + kernel[3])
        rows = -(-self.count[0] // min(-(-self.count[0] * row // _BLOCK), self.count[0]))
        self.blocks = [range(first, min(first + rows, self.count[0])) for first in range(0, self.count[0], rows)]


class _Points(NamedTuple):
    """The values of a block of tiles at the 36 points, (36, tiles * channels, and a gap), and views of them."""

    values: Array
    matrices: Array  # (36, tiles, channels)
    transposed: Array  # (36, channels, tiles)

    @classmethod
    def of(cls, values: Array, channels: int) -> "_Points":
        matrices = values[:, :-_APART].reshape(SIZE**2, -1, channels)
        return cls(values, matrices, matrices.transpose(0, 2, 1))


class _Block(NamedTuple):
    """Some rows of tiles: their place, and the memory that passes over them take."""

    top: int  # first row of outputs
    first: int  # and where it is in `band`
    place: tuple[int, int, int, int]  # outputs of a tile by axis, tiles by axis
    inputs: _Points  # kept from the forward to the backward pass
    products: _Points  # scratch memory
    of_inputs: _Points  # scratch memory: the gradient of `inputs`
    band: Array  # (rows, columns, N * channels): outputs before pooling, or their gradient
    rows: slice  # of pooled outputs
    winner: Winner | None  # (rows, columns, N * channels), after pooling


class _Plan:
    """All memory of a convolution with its gradients."""

    def __init__(self, x: Array, kernel: Shape, windows: Windows, pooling: Pooling, work: Workspace) -> None:
        samples, (*_, depth, channels), dtype = x.shape[2], kernel, x.dtype
        outputs, down = pooling.used(windows).outputs, pooling.size[0]
        self.y = work.array("y", (*pooling.outputs(windows), samples, channels), dtype)
        self.biases = work.array("biases", (samples, channels), dtype)  # as one pixel, (N * channels,)
        self.factors = work.array("factors", (SIZE**2, depth, channels), dtype)
        self.back = transposed = self.factors.transpose(0, 2, 1)  # (36, channels, C)
        self.total, self.term = (work.scratch(name, self.factors.shape, dtype) for name in ("total", "term"))
        self.version = 0  # of the parameters that factors and biases are of
        pooled = pooling is not NONE
        winner = as_rows(work.array("winner", self.y.shape, winner_type(pooling.size))) if pooled else None
        tiles = Tiling(outputs, kernel, samples)
        self.blocks = []
        for number, rows in enumerate(tiles.blocks):
            count = len(rows) * tiles.count[1] * samples
            shapes = [(SIZE**2, count * each + _APART) for each in (depth, channels)]
            top, stop = rows.start * tiles.size[0], min(rows.stop * tiles.size[0], outputs[0])
            part = slice(top // down, stop // down)
            between = (stop - top, outputs[1], samples, channels)
            self.blocks.append(
                _Block(
                    top,
                    0 if pooled else top,
                    (*tiles.size, len(rows), tiles.count[1]),
                    _Points.of(work.array(f"inputs {number}", shapes[0], dtype), depth),
                    _Points.of(work.scratch("products", shapes[1], dtype), channels),
                    _Points.of(work.scratch("inputs", shapes[0], dtype), depth),
                    as_rows(work.scratch("band", between, dtype) if pooled else self.y),
                    part,
                    None if winner is None else winner[part],
                )
            )
            if not number and count * depth * channels <= _SMALL:
                self.back = work.array("back", transposed.shape, dtype)  # a copy, with which BLAS is faster
        self._copied = self.back is not transposed

    def renew(self, kernel: Array, bias: Array | None, work: Workspace) -> None:
        """Compute what depends on the parameters alone, unless it has been: once for all microbatches of a step."""
        if self.version != work.version or not work.version:
            self.version = work.version
            _kernel_points(kernel, self.factors, work)
            self.biases[...] = 0 if bias is None else bias
            if self._copied:
                self.back[...] = self.factors.transpose(0, 2, 1)


def correlate(
    x: Array, kernel: Array, bias: Array | None, windows: Windows, work: Workspace, pooling: Pooling = NONE
) -> Array:
    """Return the convolution of x (H, W, N, C) with `kernel` (height, width, C, channels), plus `bias`, pooled.

    The workspace keeps the factors for `gradients`.
    """
    plan = work.plan("winograd", lambda: _Plan(x, kernel.shape, windows, pooling, work))
    plan.renew(kernel, bias, work)
    (top, left), pixels, y, biases = windows.start, as_rows(x), as_rows(plan.y), np.ravel(plan.biases)
    for block in plan.blocks:
        work.loops.input_points(pixels, top + block.top, left, *block.place, block.inputs.values)
        # 36 times (tiles, C) by (C, channels)
        np.matmul(block.inputs.matrices, plan.factors, out=block.products.matrices)
        work.loops.outputs(block.products.values, biases, block.first, *block.place, block.band)
        if block.winner is not None:
            pooling.forward(block.band, y[block.rows], block.winner, work)
    return plan.y


def gradients(
    dy: Array,
    out: Array,
    bias: Array | None,
    windows: Windows,
    work: Workspace,
    dx: Array | None = None,
    pooling: Pooling = NONE,
) -> None:
    """Write the gradients of kernel and bias, and add that of the inputs to `dx` (H, W, N, C), unless it is None.

    `dy` is the gradient of the last result of `correlate` in this workspace. The forward pass is linear in kernel and
    inputs, so its steps are transposed one by one; the transformed `dy` serves both gradients.
    """
    plan = work.plan("winograd", lambda: _Plan(dy, out.shape, windows, pooling, work))
    (top, left), rows, of_pixels = windows.start, as_rows(dy), None if dx is None else as_rows(dx)
    if bias is not None and pooling is NONE:
        bias_gradient(dy, bias)
    for number, block in enumerate(plan.blocks):
        of_outputs = rows
        if block.winner is not None:
            of_outputs = block.band
            pooling.backward(rows[block.rows], block.winner, of_outputs, work)
            if bias is not None:
                bias_gradient(of_outputs, bias, added=number > 0)
        work.loops.gradient_points(of_outputs, block.first, *block.place, block.products.values)
        np.matmul(block.inputs.transposed, block.products.matrices, out=plan.term if number else plan.total)
        if number:  # blocks are added in their order: a fixed order of roundings
            plan.total += plan.term
        if of_pixels is not None:
            np.matmul(block.products.matrices, plan.back, out=block.of_inputs.matrices)
            work.loops.input_gradients(block.of_inputs.values, top + block.top, left, *block.place, of_pixels)
    _kernel_gradient(plan.total, out, work)


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
