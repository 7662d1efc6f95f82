"""Convolution as the definition has it: windows are copied side by side (im2col) and multiplied by the kernel."""

import math

import numpy as np
from numpy.typing import NDArray

from cnnpar.nn.shapes import Array, Pair, Shape, view
from cnnpar.nn.windows import Windows, copy_pixels
from cnnpar.nn.workspace import Workspace


def padded(x: Array, start: Pair, size: Pair, work: Workspace) -> Array:
    """The `size` pixels of x (H, W, N, C) from the pixel `start` on; outside of the image they are 0."""
    out = work.array("padded", (*size, *x.shape[2:]), x.dtype)  # written where the image is, and 0 elsewhere
    copy_pixels(x, start, out)
    return out


def correlate(x: Array, kernel: Array, bias: Array | None, windows: Windows, work: Workspace) -> Array:
    """The products of windows of x (H, W, N, C) with `kernel` (height, width, C / groups, channels), plus `bias`.

    All windows are copied, for each group as the rows of a matrix, unless they are the pixels themselves.
    """
    if not windows.are_pixels(x.shape, kernel.shape):
        _copy_windows(x, kernel.shape, windows, work)
    y = work.array("y", (*windows.outputs, x.shape[2], kernel.shape[3]), x.dtype)
    matrix = _matrix(x, kernel.shape, windows, work)
    np.matmul(matrix, _by_group(kernel, windows.groups), out=_by_group(y, windows.groups))
    if bias is not None:
        row = work.scratch("biases", y.shape[1:], y.dtype)  # for a whole row of pixels, to add in long runs
        row[...] = bias
        y += row
    return y


def kernel_gradient(x: Array, dy: Array, out: Array, windows: Windows, work: Workspace) -> None:
    """Write the gradient of the kernel, given that of what `correlate` returned of x when it last used `memory`."""
    matrix = _matrix(x, out.shape, windows, work)
    np.matmul(matrix.swapaxes(1, 2), _by_group(dy, windows.groups), out=_by_group(out, windows.groups))


def _copy_windows(x: Array, kernel: Shape, windows: Windows, work: Workspace) -> None:
    """Copy the numbers of all windows to the array `windows` of `memory`."""
    height, width, depth, _ = kernel
    (down, right), (below, beside) = windows.stride, windows.dilation
    image = padded(x, windows.start, windows.span(kernel), work)
    row, pixel, sample = image[0].size, image[0, 0].size, image[0, 0, 0].size
    shape = (windows.groups, *windows.outputs, x.shape[2], height, width, depth)
    everywhere = view(image, shape, (depth, down * row, right * pixel, sample, below * row, beside * pixel, 1))
    _blocks(work.array("windows", shape, x.dtype))[...] = _blocks(everywhere)


def _matrix(x: Array, kernel: Shape, windows: Windows, work: Workspace) -> Array:
    """The windows of x as matrices (groups, windows of all samples, numbers)."""
    if windows.are_pixels(x.shape, kernel):
        return _by_group(x, windows.groups)
    return work.last("windows").reshape(windows.groups, -1, math.prod(kernel[:3]))


def _by_group(array: Array, groups: int) -> Array:
    """An array (..., C) as matrices (groups, all that comes before, C / groups): a view of one that is contiguous."""
    return array.reshape(-1, groups, array.shape[-1] // groups).swapaxes(0, 1)


def _blocks(array: Array) -> NDArray[np.void]:
    """The last axis as one opaque item (a view): numpy then copies a block at a time, not a number at a time."""
    return array.view(np.dtype((np.void, array.shape[-1] * array.itemsize)))[..., 0]
