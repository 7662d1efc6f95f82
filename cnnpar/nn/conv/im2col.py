"""Convolution by im2col: windows are copied to the rows of a matrix, which is multiplied by the kernel.

This is the definition, for any stride, dilation and groups; the other ways are for cases that they do faster.
"""

import math

import numpy as np
from numpy.typing import NDArray

from cnnpar.nn.conv.bias import bias_gradient
from cnnpar.nn.shapes import Array, Pair, Shape, view
from cnnpar.nn.windows import Windows, copy_pixels
from cnnpar.nn.workspace import Workspace


def padded(x: Array, start: Pair, size: Pair, work: Workspace) -> Array:
    """Return `size` pixels of x (H, W, N, C) from the pixel `start` on, 0 where they lie outside of the image."""
    out = work.array("padded", (*size, *x.shape[2:]), x.dtype)  # 0 from the start where no image is
    copy_pixels(x, start, out)
    return out


def correlate(x: Array, kernel: Array, bias: Array | None, windows: Windows, work: Workspace) -> Array:
    """Return the convolution of x (H, W, N, C) with `kernel` (height, width, C / groups, channels), plus `bias`.

    The workspace keeps the matrix of windows, which may be a view of x, for `gradients`.
    """
    matrix = _matrix(x, kernel.shape, windows, work)  # (groups, windows, elements)
    work.saved["matrix"] = (matrix,)
    y = work.array("y", (*windows.outputs, x.shape[2], kernel.shape[3]), x.dtype)
    np.matmul(matrix, _by_group(kernel, windows.groups), out=_by_group(y, windows.groups))
    if bias is not None:
        row = work.scratch("biases", y.shape[1:], y.dtype)  # (columns, N, channels), to add in long runs
        row[...] = bias
        y += row
    return y


def gradients(dy: Array, out: Array, bias: Array | None, windows: Windows, work: Workspace) -> None:
    """Write the gradients of kernel and bias, given `dy` of the last result of `correlate` in this workspace."""
    if bias is not None:
        bias_gradient(dy, bias)
    (matrix,) = work.saved["matrix"]
    np.matmul(matrix.swapaxes(1, 2), _by_group(dy, windows.groups), out=_by_group(out, windows.groups))


def _matrix(x: Array, kernel: Shape, windows: Windows, work: Workspace) -> Array:
    """Return the windows of x as matrices (groups, windows of all samples, height * width * C / groups).

    Windows that are single pixels, all of them in order, are not copied: x itself is the matrix.
    """
    if windows.are_pixels(x.shape, kernel):
        return _by_group(x, windows.groups)
    height, width, depth, _ = kernel
    (down, right), (below, beside) = windows.stride, windows.dilation
    image = padded(x, windows.start, windows.span(kernel), work)
    row, pixel, sample = image[0].size, image[0, 0].size, image[0, 0, 0].size  # strides in numbers
    shape = (windows.groups, *windows.outputs, x.shape[2], height, width, depth)
    # A view of overlapping windows: going down a window, and from window to window, are strides of the same image.
    everywhere = view(image, shape, (depth, down * row, right * pixel, sample, below * row, beside * pixel, 1))
    copies = work.array("windows", shape, x.dtype)
    _blocks(copies)[...] = _blocks(everywhere)
    return copies.reshape(windows.groups, -1, math.prod(kernel[:3]))


def _by_group(array: Array, groups: int) -> Array:
    """Return an array (..., C) as matrices (groups, all other axes, C / groups); a view if it is contiguous."""
    return array.reshape(-1, groups, array.shape[-1] // groups).swapaxes(0, 1)


def _blocks(array: Array) -> NDArray[np.void]:
    """Return a view whose last axis is one opaque item: numpy then copies a block, not a number, at a time."""
    return array.view(np.dtype((np.void, array.shape[-1] * array.itemsize)))[..., 0]
