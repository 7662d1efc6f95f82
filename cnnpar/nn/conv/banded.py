"""Convolution of images of few channels by im2col, a band of rows at a time, with max-pooling in the same bands.

The windows of a band are the columns of a matrix (elements, windows of all samples), which is filled row by row:
windows of few numbers, as of a grey image, are slow to copy one by one. The bias is one more element, which is 1 in
every window. A band is small enough to stay in a cache from its windows to its pooled outputs; the outputs before
pooling are never written as a whole.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cnnpar.nn.conv.im2col import padded
from cnnpar.nn.loops.interface import winner_type
from cnnpar.nn.shapes import Array, Pair, Shape, as_rows
from cnnpar.nn.windows import Windows
from cnnpar.nn.workspace import Workspace

_SHORT = 16  # numbers in a row of a window; with as many or more, windows are copied one by one (im2col.py)
_BAND = 100_000  # numbers in the windows and outputs of a band: 400 KB of float32, to stay in a cache


class Pooling(NamedTuple):
    """Max-pooling without overlaps or gaps (stride = size), with or without relu."""

    size: Pair
    rectify: bool


NONE = Pooling((1, 1), False)


def suits(x: Shape, kernel: Shape, windows: Windows) -> bool:
    """Tell whether this way is possible and fast for images (H, W, ...) and a kernel (height, width, C, channels)."""
    short = kernel[1] * kernel[2] < _SHORT and not windows.are_pixels(x, kernel)  # pixels need no copies at all
    return windows.dense() and short


def correlate(
    x: Array, kernel: Array, bias: Array | None, windows: Windows, work: Workspace, pooling: Pooling = NONE
) -> Array:
    """Return the convolution of x (H, W, N, C) with `kernel` (height, width, C, channels), plus `bias`, pooled.

    The result is (rows, columns, N, channels); outputs at the bottom and right that fill no pooled one are left out.
    """
    samples, channels = x.shape[2], kernel.shape[3]
    (down, across), elements = pooling.size, kernel[..., 0].size
    count = windows.outputs[0] // down, windows.outputs[1] // across  # pooled outputs by axis
    used = windows._replace(outputs=(count[0] * down, count[1] * across))
    columns = used.outputs[1]  # windows in a row, before pooling
    image = as_rows(padded(x, used.start, used.span(kernel.shape), work))  # (H, W, N * C) with the zeros around it
    weights = work.scratch("weights", (elements + (bias is not None), channels), x.dtype)
    weights[:elements] = kernel.reshape(-1, channels)
    weights[elements:] = 0 if bias is None else bias  # one row more, or none
    y = work.array("y", (*count, samples, channels), x.dtype)
    winner = work.array("winner", y.shape, winner_type(pooling.size)) if pooling is not NONE else None
    for rows in _bands(count[0], columns * down * samples * (len(weights) + channels)):
        matrix = _windows(image, rows, kernel.shape, windows.stride, columns, down, samples, len(weights), work)
        # The product is (windows, channels): pixels in the order (row, column, sample).
        if winner is None:
            np.matmul(matrix.T, weights, out=y[rows.start : rows.stop].reshape(-1, channels))
            continue
        band = work.scratch("band", (len(rows) * down, columns, samples, channels), x.dtype)
        np.matmul(matrix.T, weights, out=band.reshape(-1, channels))
        part, own = as_rows(y[rows.start : rows.stop]), as_rows(winner[rows.start : rows.stop])
        work.loops.maxpool(as_rows(band), down, across, down, across, pooling.rectify, part, own)
    return y


def gradients(
    dy: Array, out: Array, bias: Array | None, windows: Windows, work: Workspace, pooling: Pooling = NONE
) -> None:
    """Write the gradients of kernel and bias, given `dy` of the last result of `correlate` in this workspace.

    Windows are copied again, band by band, so that nothing larger than a band is ever written.
    """
    image, samples, channels = as_rows(work.last("padded")), dy.shape[2], dy.shape[3]
    (down, across), elements = pooling.size, out[..., 0].size
    columns = dy.shape[1] * across  # windows in a row, before pooling
    total, term = (
        work.scratch(name, (elements + (bias is not None), channels), dy.dtype) for name in ("weights", "term")
    )
    # Bands are added in their order, so that roundings are the same each time.
    for rows in _bands(dy.shape[0], columns * down * samples * (len(total) + channels)):
        matrix = _windows(image, rows, out.shape, windows.stride, columns, down, samples, len(total), work)
        gradient = dy[rows.start : rows.stop]
        if pooling is not NONE:
            winner = as_rows(work.last("winner")[rows.start : rows.stop])
            band = work.scratch("band", (len(rows) * down, columns, samples, channels), dy.dtype)
            # Every pixel is in one window, so the scratch memory is written in full.
            work.loops.maxpool_gradient(as_rows(gradient), winner, down, across, down, across, False, as_rows(band))
            gradient = band
        np.matmul(matrix, gradient.reshape(-1, channels), out=term if rows.start else total)  # (elements, channels)
        if rows.start:
            total += term
    out.reshape(-1, channels)[...] = total[:elements]
    if bias is not None:
        bias[...] = total[elements]


def _bands(rows: int, numbers: int) -> Iterator[range]:
    """Yield `rows` rows, of `numbers` numbers each, in bands of about `_BAND` numbers."""
    height = max(_BAND // numbers, 1)
    return (range(first, min(first + height, rows)) for first in range(0, rows, height))


def _windows(
    image: Array,
    rows: range,
    kernel: Shape,
    stride: Pair,
    columns: int,
    down: int,
    samples: int,
    elements: int,
    work: Workspace,
) -> Array:
    """Return the matrix (elements, windows) of some rows of pooled outputs; elements beyond the kernel's are 1."""
    count = len(rows) * down, columns
    matrix = work.scratch("windows", (elements, count[0] * columns * samples), image.dtype)
    top = rows.start * down * stride[0]  # row of the padded image
    work.loops.windows(image, top, kernel[0], kernel[1], kernel[2], *stride, count, matrix)
    matrix[kernel[0] * kernel[1] * kernel[2] :] = 1  # the element of the bias
    return matrix
