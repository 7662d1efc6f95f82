"""Convolution of images of few channels, a band of rows at a time, and the pooling that follows it in the same bands.

All windows are the columns of a matrix: pixels of an element lie side by side, since windows of few numbers, as of a
grey image, are slow to copy one by one. The bias is one more element, which is 1 in every window. A band is small
enough to stay in a cache from its windows to its pooled outputs; nothing larger is ever written.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cnnpar.nn.conv.im2col import padded
from cnnpar.nn.shapes import Array, Pair, Shape, as_rows
from cnnpar.nn.windows import Windows
from cnnpar.nn.workspace import Workspace

_SHORT = 16  # numbers in a row of a window, from which on windows are copied one by one
_BAND = 100_000  # numbers in the windows and outputs of a band


class Pooling(NamedTuple):
    """Max-pooling by windows side by side, with or without relu."""

    size: Pair
    rectify: bool


NONE = Pooling((1, 1), False)


def suits(x: Shape, kernel: Shape, windows: Windows) -> bool:
    """Whether this is the way for an image (H, W, ...) and a kernel (height, width, C, channels)."""
    short = kernel[1] * kernel[2] < _SHORT and not windows.are_pixels(x, kernel)  # which need no copies at all
    return windows.plain() and short


def correlate(
    x: Array,
    kernel: Array,
    bias: Array | None,
    start: Pair,
    stride: Pair,
    count: Pair,
    work: Workspace,
    pooling: Pooling = NONE,
) -> Array:
    """The products of windows of x (H, W, N, C) with `kernel` (height, width, C, channels), plus `bias`; pooled.

    `count` is that of the pooled outputs. The first window starts at the pixel `start`, which may lie outside of the
    image, in zeros.
    """
    samples, channels = x.shape[2], kernel.shape[3]
    (down, across), elements = pooling.size, kernel[..., 0].size
    windows = count[0] * down, count[1] * across
    size = tuple(
        step * (number - 1) + length for step, number, length in zip(stride, windows, kernel.shape, strict=False)
    )
    image = as_rows(padded(x, start, (size[0], size[1]), work))
    weights = work.scratch("weights", (elements + (bias is not None), channels), x.dtype)
    weights[:elements] = kernel.reshape(-1, channels)
    weights[elements:] = 0 if bias is None else bias
    y = work.array("y", (*count, samples, channels), x.dtype)
    winner = work.array("winner", y.shape, winner_type(pooling.size)) if pooling is not NONE else None
    for rows in _bands(count[0], windows[1] * down * samples * (len(weights) + channels)):
        matrix = _windows(image, rows, kernel.shape, stride, windows[1], down, samples, len(weights), work)
        if winner is None:
            np.matmul(matrix.T, weights, out=y[rows.start : rows.stop].reshape(-1, channels))
            continue
        band = work.scratch("band", (len(rows) * down, windows[1], samples, channels), x.dtype)
        np.matmul(matrix.T, weights, out=band.reshape(-1, channels))
        part, own = as_rows(y[rows.start : rows.stop]), as_rows(winner[rows.start : rows.stop])
        work.loops.maxpool(as_rows(band), down, across, down, across, pooling.rectify, part, own)
    return y


def kernel_gradient(
    dy: Array, out: Array, bias: Array | None, stride: Pair, work: Workspace, pooling: Pooling = NONE
) -> None:
    """Write the gradient of kernel and bias, given that of what `correlate` returned when it last used `memory`."""
    image, samples, channels = as_rows(work.last("padded")), dy.shape[2], dy.shape[3]
    (down, across), elements = pooling.size, out[..., 0].size
    columns = dy.shape[1] * across
    total, term = (
        work.scratch(name, (elements + (bias is not None), channels), dy.dtype) for name in ("weights", "term")
    )
    for rows in _bands(dy.shape[0], columns * down * samples * (len(total) + channels)):
        matrix = _windows(image, rows, out.shape, stride, columns, down, samples, len(total), work)
        gradient = dy[rows.start : rows.stop]
        if pooling is not NONE:
            winner = as_rows(work.last("winner")[rows.start : rows.stop])
            band = work.scratch("band", (len(rows) * down, columns, samples, channels), dy.dtype)
            work.loops.maxpool_gradient(as_rows(gradient), winner, down, across, down, across, False, as_rows(band))
            gradient = band
        np.matmul(matrix, gradient.reshape(-1, channels), out=term if rows.start else total)
        if rows.start:
            total += term
    out.reshape(-1, channels)[...] = total[:elements]
    if bias is not None:
        bias[...] = total[elements]


def winner_type(size: Pair) -> "np.dtype[np.unsignedinteger]":
    """What holds the number of a pixel in a window of such a size, and one more."""
    return np.dtype(np.uint8 if size[0] * size[1] <= 255 else np.uint32)


def _bands(rows: int, numbers: int) -> Iterator[range]:
    """So many rows, which take so many numbers each, in bands."""
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
    """The windows of some rows of pooled outputs, as the columns of a matrix; elements beyond the kernel's are 1."""
    count = len(rows) * down, columns
    matrix = work.scratch("windows", (elements, count[0] * columns * samples), image.dtype)
    top = rows.start * down * stride[0]
    work.loops.windows(image, top, kernel[0], kernel[1], kernel[2], *stride, count, matrix)
    matrix[kernel[0] * kernel[1] * kernel[2] :] = 1
    return matrix
