"""Convolution, what its gradients are, and its transpose, each by the way that is fastest for it.

A convolution is linear in the image and in the kernel, so its gradients are convolutions too: `transposed` is that of
the image, and, on its own, the transposed convolution. Kernels are (height, width, C / groups, channels).
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

import cnnpar.nn.conv.banded as banded
import cnnpar.nn.conv.depthwise as depthwise
import cnnpar.nn.conv.im2col as im2col
import cnnpar.nn.conv.winograd as winograd
from cnnpar.nn.shapes import Array, Shape
from cnnpar.nn.windows import Windows
from cnnpar.nn.workspace import Workspace


def correlate(x: Array, kernel: Array, bias: Array | None, windows: Windows, work: Workspace) -> Array:
    """The products of windows of x (H, W, N, C) with the kernel, plus `bias`."""
    if banded.suits(x.shape, kernel.shape, windows):
        return banded.correlate(x, kernel, bias, windows.start, windows.stride, windows.outputs, work)
    if winograd.suits(kernel.shape, windows):
        return winograd.correlate(x, kernel, bias, windows.start, windows.outputs, work)
    if depthwise.suits(kernel.shape, windows):
        return depthwise.correlate(x, kernel, bias, windows, work)
    return im2col.correlate(x, kernel, bias, windows, work)


def gradients(
    x: Array,
    dy: Array,
    kernel: Array,
    out: Array,
    bias: Array | None,
    windows: Windows,
    wanted: bool,
    work: Workspace,
) -> Array | None:
    """Write the gradients of the kernel to `out`, and of the bias to `bias`; return that of x, if it is `wanted`.

    `dy` is the gradient of what `correlate` returned of x when it last used `memory`.
    """
    if banded.suits(x.shape, kernel.shape, windows):
        banded.kernel_gradient(dy, out, bias, windows.stride, work)
        return transposed(dy, kernel, None, windows, x.shape, work) if wanted else None
    if bias is not None:
        bias_gradient(dy, bias)
    if winograd.suits(kernel.shape, windows):
        dx = work.array("dx", x.shape, dy.dtype) if wanted else None
        if dx is not None:
            dx.fill(0)
        winograd.gradients(dy, out, windows.start, dx, work)
        return dx
    if depthwise.suits(kernel.shape, windows):
        depthwise.kernel_gradient(dy, out, windows, work)
    else:
        im2col.kernel_gradient(x, dy, out, windows, work)
    return transposed(dy, kernel, None, windows, x.shape, work) if wanted else None


def bias_gradient(dy: Array, out: Array) -> None:
    """Write the sum over the pixels of dy (H, W, N, channels), at the speed of a product."""
    flat = dy.reshape(-1, dy.shape[3])  # (pixels, channels)
    np.matmul(np.ones(len(flat), dy.dtype), flat, out=out)


def transposed(dy: Array, kernel: Array, bias: Array | None, windows: Windows, shape: Shape, work: Workspace) -> Array:
    """The gradient of the inputs of `shape` of `correlate`, given that of its outputs; plus `bias`.

    Input pixels that are a stride apart meet the same elements of the kernel, so each such phase of the input is
    a convolution in its own right: of dy, with stride 1 and some of the elements of the kernel in reverse.
    """
    (down, right), groups = windows.stride, windows.groups
    for y, x, taps, seen in _phases(shape[:2], kernel.shape[:2], windows):
        part = kernel[taps]
        if not part.size:  # no window holds these pixels
            if bias is not None:
                work.array("dx", shape, dy.dtype)[y::down, x::right] = bias
            continue  # without, they stay 0
        by_group = part[::-1, ::-1].reshape(*part.shape[:3], groups, -1).transpose(0, 1, 4, 3, 2)
        flipped = work.scratch("flipped", by_group.shape, dy.dtype)
        flipped[...] = by_group
        phase = correlate(dy, flipped.reshape(*flipped.shape[:3], -1), bias, seen, work.part(f"{y} {x}"))
        if down == right == 1:
            return phase
        work.array("dx", shape, dy.dtype)[y::down, x::right] = phase
    return work.array("dx", shape, dy.dtype)


class _Phase(NamedTuple):
    """Some pixels of an image, and the convolution that their gradient is."""

    y: int  # the first pixel; the others are strides apart
    x: int
    taps: tuple[slice, slice]  # the elements of the kernel that they meet
    seen: Windows  # of the gradient of the outputs


@lru_cache(maxsize=256)
def _phases(shape: Shape, kernel: Shape, windows: Windows) -> list[_Phase]:
    """Those of an image (H, W), for a kernel (height, width)."""
    (top, left), (down, right), (below, beside) = windows.start, windows.stride, windows.dilation
    dilation = below // math.gcd(below, down), beside // math.gcd(beside, right)
    phases = []
    for y, x in np.ndindex(min(down, shape[0]), min(right, shape[1])):
        rows, columns = _met(y - top, down, below, kernel[0]), _met(x - left, right, beside, kernel[1])
        last = (y - top - rows.start * below) // down, (x - left - columns.start * beside) // right
        start = last[0] - dilation[0] * (len(rows) - 1), last[1] - dilation[1] * (len(columns) - 1)
        count = len(range(y, shape[0], down)), len(range(x, shape[1], right))
        taps = slice(rows.start, None, rows.step), slice(columns.start, None, columns.step)
        phases.append(_Phase(y, x, taps, Windows(start, (1, 1), count, dilation, windows.groups)))
    return phases


def _met(pixel: int, stride: int, dilation: int, taps: int) -> range:
    """Which elements of a kernel meet a pixel, so far from the start of the first window, along one axis."""
    step = stride // math.gcd(stride, dilation)
    first = next((tap for tap in range(min(step, taps)) if (pixel - tap * dilation) % stride == 0), taps)
    return range(first, taps, step)
