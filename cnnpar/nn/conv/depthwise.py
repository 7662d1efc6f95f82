"""Convolution in groups of so few channels that products of matrices are slower than numbers multiplied one by one.

The channels of all groups that have the same place in theirs make an image, a plane: an output sees the same elements
of the kernel in every group's own channel. Rows of N * groups numbers are multiplied and added, at memory speed.
"""

import numpy as np

from cnnpar.nn.shapes import Array, Shape, as_rows
from cnnpar.nn.windows import Windows, copy_pixels
from cnnpar.nn.workspace import Workspace

_MOST = 9  # pairs of an input and an output of a group; with more, products of matrices are faster


def suits(kernel: Shape, windows: Windows) -> bool:
    """Whether this is the way for a kernel (height, width, C / groups, channels)."""
    return windows.groups > 1 and kernel[2] * kernel[3] <= _MOST * windows.groups


def correlate(x: Array, kernel: Array, bias: Array | None, windows: Windows, work: Workspace) -> Array:
    """See `kernels.correlate`."""
    samples, groups = x.shape[2], windows.groups
    depth, each = kernel.shape[2], kernel.shape[3] // groups  # of one group
    planes = work.array("planes", (depth, *windows.span(kernel.shape), samples, groups), x.dtype)
    for i, plane in enumerate(planes):
        copy_pixels(x[..., i::depth], windows.start, plane)
    y = work.array("y", (*windows.outputs, samples, kernel.shape[3]), x.dtype)
    weights = work.scratch("weights", (*kernel.shape[:2], samples, groups), x.dtype)
    for o in range(each):
        out = y if each == 1 else work.scratch("plane", (*windows.outputs, samples, groups), x.dtype)
        out[...] = 0 if bias is None else bias[o::each]
        for i, plane in enumerate(planes):
            weights[...] = kernel[:, :, np.newaxis, i, o::each]
            work.loops.depthwise(as_rows(plane), as_rows(weights), windows.stride, windows.dilation, as_rows(out))
        if each > 1:
            y[..., o::each] = out
    return y


def kernel_gradient(dy: Array, out: Array, windows: Windows, work: Workspace) -> None:
    """See `kernels.kernel_gradient`."""
    samples, groups = dy.shape[2], windows.groups
    each = dy.shape[3] // groups
    sums = work.scratch("weights", (*out.shape[:2], samples, groups), dy.dtype)
    for o in range(each):
        part = as_rows(dy[..., o::each])
        for i, plane in enumerate(work.last("planes")):
            work.loops.depthwise_gradient(as_rows(plane), part, windows.stride, windows.dilation, as_rows(sums))
            np.add.reduce(sums, axis=2, out=out[:, :, i, o::each])
