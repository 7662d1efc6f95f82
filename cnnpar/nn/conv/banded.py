"""Convolution of images of few channels by im2col, a band of rows at a time, with max-pooling in the same bands.

The windows of a band are the columns of a matrix (elements, windows of all samples), which is filled row by row:
windows of few numbers, as of a grey image, are slow to copy one by one. The bias is one more element, which is 1 in
every window. A band is small enough to stay in a cache from its windows to its pooled outputs; the outputs before
pooling are never written as a whole.
"""

import math
from typing import NamedTuple

import numpy as np

from cnnpar.nn.conv.pooling import NONE, Pooling
from cnnpar.nn.loops.interface import winner_type
from cnnpar.nn.shapes import Array, Pair, Shape, Winner, as_rows
from cnnpar.nn.windows import Windows, bands, copy_pixels
from cnnpar.nn.workspace import Workspace

_SHORT = 16  # numbers in a row of a window; with as many or more, tiles (winograd.py) are faster, where possible
_FEW = 8  # channels; more are copied side by side as fast as one by one
_BAND = 100_000  # numbers in the windows and outputs of a band: 400 KB of float32, to stay in a cache


def suits(x: Shape, kernel: Shape, windows: Windows) -> bool:
    """Tell whether this way is possible and the fastest, for images (H, W, ...) and a kernel (height, width, C, K)."""
    return kernel[1] * kernel[2] < _SHORT and _possible(x, kernel, windows)


def has_few_channels(x: Shape, kernel: Shape, windows: Windows) -> bool:
    """Tell whether this way is possible and faster than to copy windows one by one (im2col.py)."""
    return kernel[2] <= _FEW and _possible(x, kernel, windows)


def _possible(x: Shape, kernel: Shape, windows: Windows) -> bool:
    return windows.dense() and not windows.are_pixels(x, kernel)  # pixels need no copies at all


class _Band(NamedTuple):
    """Some rows of pooled outputs: their place, and the memory that passes over them take."""

    rows: slice  # of pooled outputs
    top: int  # first row of the padded image
    size: Pair  # windows by axis, before pooling
    windows: Array  # (elements, windows): scratch memory
    band: Array  # (rows, columns, N * channels): outputs before pooling, or their gradient; scratch memory
    winner: Winner | None  # (rows, columns, N * channels), after pooling


class _Plan:
    """All memory of a convolution, and its cut into bands. The bias is an element more, which is 1 in every window."""

    def __init__(
        self, x: Array, shape: Shape, biased: bool, windows: Windows, pooling: Pooling, work: Workspace
    ) -> None:
        samples, (*_, depth, channels), (down, _) = x.shape[2], shape, pooling.size
        self.elements = math.prod(shape[:3])
        self.kernel, self.stride = (shape[0], shape[1], depth), windows.stride
        count, used = pooling.outputs(windows), pooling.used(windows)
        padded = work.array("padded", (*used.span(shape), samples, depth), x.dtype)  # 0 where no image is
        self.padded, self.image = padded, as_rows(padded)
        self.weights = work.array("weights", (self.elements + biased, channels), x.dtype)
        self.total, self.term = (work.scratch(name, self.weights.shape, x.dtype) for name in ("weights", "term"))
        self.version = 0  # of the parameters that the weights are of
        self.y = work.array("y", (*count, samples, channels), x.dtype)
        pooled = pooling is not NONE
        winner = as_rows(work.array("winner", self.y.shape, winner_type(pooling.size))) if pooled else None
        self.bands = []
        columns = used.outputs[1]
        for rows in bands(count[0], columns * down * samples * (len(self.weights) + channels), _BAND):
            height, part = len(rows) * down, slice(rows.start, rows.stop)
            matrix = work.scratch("windows", (len(self.weights), height * columns * samples), x.dtype)
            outputs = work.scratch("band", (height, columns, samples, channels), x.dtype) if pooled else self.y[part]
            own = None if winner is None else winner[part]
            top = rows.start * down * windows.stride[0]
            self.bands.append(_Band(part, top, (height, columns), matrix, as_rows(outputs), own))

    def renew(self, kernel: Array, bias: Array | None, work: Workspace) -> None:
        """Join kernel and bias, unless they have been: once for all microbatches of a step."""
        if self.version != work.version or not work.version:
            self.version = work.version
            self.weights[: self.elements] = kernel.reshape(self.elements, -1)
            self.weights[self.elements :] = 0 if bias is None else bias  # one row more, or none

    def fill(self, band: _Band, work: Workspace) -> Array:
        """Return the matrix (elements, windows) of a band."""
        work.loops.windows(self.image, band.top, *self.kernel, *self.stride, band.size, band.windows)
        band.windows[self.elements :] = 1  # the element of the bias
        return band.windows


def correlate(
    x: Array, kernel: Array, bias: Array | None, windows: Windows, work: Workspace, pooling: Pooling = NONE
) -> Array:
    """Return the convolution of x (H, W, N, C) with `kernel` (height, width, C, channels), plus `bias`, pooled.

    The result is (rows, columns, N, channels); outputs at the bottom and right that fill no pooled one are left out.
    """
    biased, channels = bias is not None, kernel.shape[3]
    plan = work.plan("banded", lambda: _Plan(x, kernel.shape, biased, windows, pooling, work))
    plan.renew(kernel, bias, work)
    copy_pixels(x, windows.start, plan.padded)
    y = as_rows(plan.y)
    for band in plan.bands:
        # The product is (windows, channels): pixels in the order (row, column, sample).
        np.matmul(plan.fill(band, work).T, plan.weights, out=band.band.reshape(-1, channels))
        if band.winner is not None:
            pooling.forward(band.band, y[band.rows], band.winner, work)
    return plan.y


def gradients(
    dy: Array, out: Array, bias: Array | None, windows: Windows, work: Workspace, pooling: Pooling = NONE
) -> None:
    """Write the gradients of kernel and bias, given `dy` of the last result of `correlate` in this workspace.

    Windows are copied again, band by band, so that nothing larger than a band is ever written.
    """
    biased, channels, x = bias is not None, dy.shape[3], work.last("padded")
    plan = work.plan("banded", lambda: _Plan(x, out.shape, biased, windows, pooling, work))
    rows = as_rows(dy)
    # Bands are added in their order, so that roundings are the same each time.
    for number, band in enumerate(plan.bands):
        matrix, gradient = plan.fill(band, work), rows[band.rows]
        if band.winner is not None:
            pooling.backward(gradient, band.winner, band.band, work)
            gradient = band.band
        np.matmul(matrix, gradient.reshape(-1, channels), out=plan.term if number else plan.total)
        if number:
            plan.total += plan.term
    out.reshape(-1, channels)[...] = plan.total[: plan.elements]
    if bias is not None:
        bias[...] = plan.total[plan.elements]
