"""Convolution, its gradients, and the transposed convolution, each by the fastest of the ways in this folder.

A convolution is linear in the image and in the kernel, so its gradients are convolutions too. `transposed` is the
gradient with regard to the image, and, used alone, the transposed convolution. Kernels are (height, width, C / groups,
channels). Shapes and windows alone decide on the way, so forward and backward take the same one. Groups and gaps are
taken away first, where that is possible: what remains is dense.
"""

import math
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from cnnpar.nn.conv import banded, depthwise, dilated, fourier, grouped, im2col, scattered, winograd
from cnnpar.nn.conv.inner import Rewriting
from cnnpar.nn.shapes import Array, Shape
from cnnpar.nn.windows import Windows
from cnnpar.nn.workspace import Workspace


class Way(Protocol):
    """One of the modules of this folder, which computes convolutions of x (H, W, N, C) with a kernel."""

    __name__: str

    def correlate(self, x: Array, kernel: Array, bias: Array | None, windows: Windows, work: Workspace) -> Array:
        """Return the convolution (rows, columns, N, channels), plus `bias`."""

    def gradients(self, dy: Array, out: Array, bias: Array | None, windows: Windows, work: Workspace) -> None:
        """Write the gradients of the kernel to `out` and of the bias to `bias`.

        `dy` is the gradient of the last result of `correlate` in this workspace.
        """


# By value: both passes of every convolution ask for it.
@lru_cache(maxsize=256)
def rewriting(shape: Shape, kernel: Shape, windows: Windows) -> Rewriting | None:
    """Return the module that makes a dense convolution of one with groups or gaps, if that is fast; else None."""
    if depthwise.suits(kernel, windows):
        return None
    if grouped.suits(shape, kernel, windows):
        return grouped
    return dilated if dilated.suits(windows) else None


@lru_cache(maxsize=256)
def way(shape: Shape, kernel: Shape, windows: Windows) -> Way:
    """Return the fastest way for images (H, W, ...) and a kernel (height, width, C / groups, channels)."""
    if fourier.suits(kernel, windows):
        return fourier
    if banded.suits(shape, kernel, windows):
        return banded
    if winograd.suits(kernel, windows):
        return winograd
    if banded.has_few_channels(shape, kernel, windows):
        return banded
    if depthwise.suits(kernel, windows):
        return depthwise
    return im2col


def correlate(x: Array, kernel: Array, bias: Array | None, windows: Windows, work: Workspace) -> Array:
    """Return the convolution (rows, columns, N, channels) of x (H, W, N, C) with the kernel, plus `bias`."""
    place = x.shape[:2], kernel.shape, windows
    rewritten = rewriting(*place)
    if rewritten:
        return rewritten.correlate(x, kernel, bias, windows, work, correlate)
    return way(*place).correlate(x, kernel, bias, windows, work)


def gradients(
    shape: Shape,
    dy: Array,
    kernel: Array,
    out: Array,
    bias: Array | None,
    windows: Windows,
    wanted: bool,
    work: Workspace,
) -> Array | None:
    """Write the gradients of the kernel to `out` and of the bias to `bias`; return that of x, if it is `wanted`.

    `dy` is the gradient of the last result of `correlate` in this workspace, which was of x: `shape` (H, W, N, C).
    """
    place = shape[:2], kernel.shape, windows
    rewritten = rewriting(*place)
    if rewritten:
        return rewritten.gradients(shape, dy, kernel, out, bias, windows, wanted, work, gradients)
    chosen = way(*place)
    if wanted and chosen in (winograd, fourier):  # what these make of `dy` serves both gradients
        dx = work.array("dx", shape, dy.dtype)
        dx.fill(0)  # pixels may be in no window; Winograd's tiles overlap, and add to it
        (winograd if chosen is winograd else fourier).gradients(dy, out, bias, windows, work, dx)
        return dx
    chosen.gradients(dy, out, bias, windows, work)
    return transposed(dy, kernel, None, windows, shape, work) if wanted else None


def transposed(dy: Array, kernel: Array, bias: Array | None, windows: Windows, shape: Shape, work: Workspace) -> Array:
    """Return the gradient (H, W, N, C) of the inputs of `correlate`, given that of its outputs; plus `bias`.

    Input pixels that are a stride apart meet the same elements of the kernel. So each such phase of the input is a
    convolution by itself: of dy, with stride 1, and with these elements of the kernel in reverse order.
    """
    if scattered.suits(kernel.shape, windows):
        return scattered.transposed(dy, kernel, bias, windows, shape, work)
    (down, right), groups = windows.stride, windows.groups
    for y, x, taps, seen in _phases(shape[:2], kernel.shape[:2], windows):
        part = kernel[taps]
        if not part.size:  # no window holds these pixels
            if bias is not None:
                work.array("dx", shape, dy.dtype)[y::down, x::right] = bias
            continue  # without a bias they stay 0, as `array` gives them
        # (height, width, channels / groups, groups, C / groups): inputs and outputs of each group change places.
        by_group = part[::-1, ::-1].reshape(*part.shape[:3], groups, -1).transpose(0, 1, 4, 3, 2)
        flipped = work.scratch("flipped", by_group.shape, dy.dtype)
        flipped[...] = by_group  # contiguous, as the loops need it
        phase = correlate(dy, flipped.reshape(*flipped.shape[:3], -1), bias, seen, work.part(f"{y} {x}"))
        if down == right == 1:  # a single phase is the whole image
            return phase
        work.array("dx", shape, dy.dtype)[y::down, x::right] = phase
    return work.array("dx", shape, dy.dtype)


def name(shape: Shape, kernel: Shape, windows: Windows) -> str:
    """Return the name of the way for images (H, W, ...), such as `winograd` or `grouped: winograd`."""
    rewritten = rewriting(shape, kernel, windows)
    first = (rewritten or way(shape, kernel, windows)).__name__.rpartition(".")[2]
    return f"{first}: {name(*rewritten.inner(shape, kernel, windows))}" if rewritten else first


def libraries(shape: Shape, kernel: Shape, windows: Windows) -> frozenset[str]:
    """Return the names of packages that a convolution of images (H, W, ...) or its gradients compute with."""
    rewritten = rewriting(shape[:2], kernel, windows)
    if rewritten:
        return libraries(*rewritten.inner(shape[:2], kernel, windows))
    ways = [way(shape[:2], kernel, windows)]
    for phase in () if scattered.suits(kernel, windows) else _phases(shape[:2], kernel[:2], windows):
        taps = [len(range(*part.indices(size))) for part, size in zip(phase.taps, kernel, strict=False)]
        flipped = (*taps, kernel[3] // windows.groups, kernel[2] * windows.groups)
        if all(taps):
            ways.append(way(windows.outputs, flipped, phase.seen))
    return frozenset({"scipy"} if fourier in ways else ())


class _Phase(NamedTuple):
    """The pixels (y + i * stride, x + j * stride) of an image, and the convolution that gives their gradient."""

    y: int
    x: int
    taps: tuple[slice, slice]  # the elements of the kernel that these pixels meet
    seen: Windows  # windows of the gradient of the outputs


@lru_cache(maxsize=256)
def _phases(shape: Shape, kernel: Shape, windows: Windows) -> list[_Phase]:
    """Return the phases of an image (H, W), for a kernel (height, width)."""
    (top, left), (down, right), (below, beside) = windows.start, windows.stride, windows.dilation
    # Elements of a kernel that meet one pixel are lcm(stride, dilation) pixels of the input apart; divided by
    # the stride, that is their distance in outputs.
    dilation = below // math.gcd(below, down), beside // math.gcd(beside, right)
    phases = []
    for y, x in np.ndindex(min(down, shape[0]), min(right, shape[1])):
        rows, columns = _met(y - top, down, below, kernel[0]), _met(x - left, right, beside, kernel[1])
        # The first element meets the last window that holds the pixel, and the last element the first such window.
        last = (y - top - rows.start * below) // down, (x - left - columns.start * beside) // right
        start = last[0] - dilation[0] * (len(rows) - 1), last[1] - dilation[1] * (len(columns) - 1)
        count = len(range(y, shape[0], down)), len(range(x, shape[1], right))
        taps = slice(rows.start, None, rows.step), slice(columns.start, None, columns.step)
        phases.append(_Phase(y, x, taps, Windows(start, (1, 1), count, dilation, windows.groups)))
    return phases


def _met(pixel: int, stride: int, dilation: int, taps: int) -> range:
    """Return the elements of a kernel that meet a pixel, at `pixel` from the first window's start, along one axis."""
    step = stride // math.gcd(stride, dilation)
    # Element t of some window lies on the pixel where pixel - t * dilation is a multiple of the stride.
    first = next((tap for tap in range(min(step, taps)) if (pixel - tap * dilation) % stride == 0), taps)
    return range(first, taps, step)
