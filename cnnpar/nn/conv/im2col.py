"""Convolution by im2col: windows are copied to the rows of a matrix, which is multiplied by the kernel.

This is the definition, for any stride, dilation and groups; the other ways are for cases that they do faster. A band of
rows of outputs at a time, small enough to stay in a cache; the gradient copies the windows again, band by band, which
is faster than to read a matrix of all of them from memory.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cnnpar.nn.conv.bias import bias_gradient
from cnnpar.nn.shapes import Array, Pair, Shape, view
from cnnpar.nn.windows import Windows, bands, copy_pixels
from cnnpar.nn.workspace import Workspace

_BAND = 200_000  # numbers in the windows of a band: 800 KB of float32, to stay in a cache


def padded(x: Array, start: Pair, size: Pair, work: Workspace) -> Array:
    """Return `size` pixels of x (H, W, N, C) from the pixel `start` on, 0 where they lie outside of the image."""
    out = work.array("padded", (*size, *x.shape[2:]), x.dtype)  # 0 from the start where no image is
    copy_pixels(x, start, out)
    return out


def correlate(x: Array, kernel: Array, bias: Array | None, windows: Windows, work: Workspace) -> Array:
    """Return the convolution of x (H, W, N, C) with `kernel` (height, width, C / groups, channels), plus `bias`.

    The workspace keeps the image, which may be x itself, for `gradients`.
    """
    pixels = windows.are_pixels(x.shape, kernel.shape)
    image = x if pixels else padded(x, windows.start, windows.span(kernel.shape), work)
    work.saved["image"] = image, pixels
    y = work.array("y", (*windows.outputs, x.shape[2], kernel.shape[3]), x.dtype)
    weights = _by_group(kernel, windows.groups)  # (groups, elements, channels / groups)
    row = work.scratch("biases", y.shape[1:], y.dtype)  # (columns, N, channels), to add in long runs
    if bias is not None:
        row[...] = bias
    for rows in _bands(y.shape, kernel.shape, windows, pixels):
        matrix = _matrix(image, rows, kernel.shape, windows, pixels, work)  # (groups, windows, elements)
        band = y[rows.start : rows.stop]
        np.matmul(matrix, weights, out=_by_group(band, windows.groups))
        if bias is not None:
            band += row
    return y


def gradients(dy: Array, out: Array, bias: Array | None, windows: Windows, work: Workspace) -> None:
    """Write the gradients of kernel and bias, given `dy` of the last result of `correlate` in this workspace."""
    if bias is not None:
        bias_gradient(dy, bias)
    image, pixels = work.saved["image"]
    total = _by_group(out, windows.groups)
    term = _by_group(work.scratch("term", out.shape, dy.dtype), windows.groups)
    for rows in _bands(dy.shape, out.shape, windows, pixels):
        matrix = _matrix(image, rows, out.shape, windows, pixels, work)
        gradient = _by_group(dy[rows.start : rows.stop], windows.groups)
        np.matmul(matrix.swapaxes(1, 2), gradient, out=term if rows.start else total)
        if rows.start:  # bands are added in their order: a fixed order of roundings
            total += term


def _bands(y: Shape, kernel: Shape, windows: Windows, pixels: bool) -> Iterator[range]:
    """Yield the rows of the outputs y (rows, columns, N, channels) in bands; one band where nothing is copied."""
    row = y[1] * y[2] * math.prod(kernel[:3]) * windows.groups  # numbers in a row of windows
    return iter([range(y[0])]) if pixels else bands(y[0], row, _BAND)


def _matrix(image: Array, rows: range, kernel: Shape, windows: Windows, pixels: bool, work: Workspace) -> Array:
    """Return windows of some rows as matrices (groups, windows of all samples, height * width * C / groups).

    Windows that are single pixels, all of them in order, are not copied: the image itself is the matrix.
    """
    if pixels:
        return _by_group(image, windows.groups)
    height, width, depth, _ = kernel
    (down, right), (below, beside) = windows.stride, windows.dilation
    row, pixel, sample = image[0].size, image[0, 0].size, image[0, 0, 0].size  # strides in numbers
    shape = (windows.groups, len(rows), windows.outputs[1], image.shape[2], height, width, depth)
    # A view of overlapping windows: going down a window, and from window to window, are strides of the same image.
    strides = (depth, down * row, right * pixel, sample, below * row, beside * pixel, 1)
    everywhere = view(image[down * rows.start :], shape, strides)
    copies = work.scratch("windows", shape, image.dtype)
    _blocks(copies)[...] = _blocks(everywhere)
    return copies.reshape(windows.groups, -1, math.prod(kernel[:3]))


def _by_group(array: Array, groups: int) -> Array:
    """Return an array (..., C) as matrices (groups, all other axes, C / groups); a view if it is contiguous."""
    return array.reshape(-1, groups, array.shape[-1] // groups).swapaxes(0, 1)


def _blocks(array: Array) -> NDArray[np.void]:
    """Return a view whose last axis is one opaque item: numpy then copies a block, not a number, at a time."""
    return array.view(np.dtype((np.void, array.shape[-1] * array.itemsize)))[..., 0]
