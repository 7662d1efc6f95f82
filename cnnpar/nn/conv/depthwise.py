"""Convolution in groups of few channels, by elementwise products: matrices of that size would be slower.

Channel i of every group together make plane i, (H, W, N, groups). An output channel of all groups is then a sum of
planes, each multiplied elementwise by the kernel's weights of its group: long runs of N * groups numbers, at memory
speed. Depthwise convolution has one channel a group, so one plane.
"""

import numpy as np

from cnnpar.nn.conv.bias import bias_gradient
from cnnpar.nn.shapes import Array, Shape, as_rows
from cnnpar.nn.windows import Windows, copy_pixels
from cnnpar.nn.workspace import Workspace

_MOST = 9  # products of input and output channels of a group; with more, products of matrices are faster


def suits(kernel: Shape, windows: Windows) -> bool:
    """Tell whether this way is possible and fast for a kernel (height, width, C / groups, channels)."""
    return windows.groups > 1 and kernel[2] * kernel[3] <= _MOST * windows.groups


def correlate(x: Array, kernel: Array, bias: Array | None, windows: Windows, work: Workspace) -> Array:
    """Return the convolution of x (H, W, N, C) with the kernel (height, width, C / groups, channels), plus `bias`."""
    samples, groups = x.shape[2], windows.groups
    depth, each = kernel.shape[2], kernel.shape[3] // groups  # channels of one group: inputs, outputs
    planes = work.array("planes", (depth, *windows.span(kernel.shape), samples, groups), x.dtype)
    for i, plane in enumerate(planes):
        copy_pixels(x[..., i::depth], windows.start, plane)
    y = work.array("y", (*windows.outputs, samples, kernel.shape[3]), x.dtype)
    weights = work.scratch("weights", (*kernel.shape[:2], samples, groups), x.dtype)  # repeated for each sample
    for o in range(each):
        out = y if each == 1 else work.scratch("plane", (*windows.outputs, samples, groups), x.dtype)
        out[...] = 0 if bias is None else bias[o::each]  # (groups,): output channel o of each
        for i, plane in enumerate(planes):
            weights[...] = kernel[:, :, np.newaxis, i, o::each]  # (height, width, 1, groups)
            work.loops.depthwise(as_rows(plane), as_rows(weights), windows.stride, windows.dilation, as_rows(out))
        if each > 1:
            y[..., o::each] = out
    return y


def gradients(dy: Array, out: Array, bias: Array | None, windows: Windows, work: Workspace) -> None:
    """Write the gradients of kernel and bias, given `dy` of the last result of `correlate` in this workspace."""
    if bias is not None:
        bias_gradient(dy, bias)
    samples, groups = dy.shape[2], windows.groups
    each = dy.shape[3] // groups
    sums = work.scratch("weights", (*out.shape[:2], samples, groups), dy.dtype)  # over pixels, for each sample
    for o in range(each):
        part = as_rows(dy[..., o::each])  # (rows, columns, N * groups)
        for i, plane in enumerate(work.last("planes")):
            work.loops.depthwise_gradient(as_rows(plane), part, windows.stride, windows.dilation, as_rows(sums))
            np.add.reduce(sums, axis=2, out=out[:, :, i, o::each])
