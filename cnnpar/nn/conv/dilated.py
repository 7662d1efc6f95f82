"""Convolution with gaps between the pixels of a window, as a dense one of smaller images.

With a dilation of 2, windows at even rows hold pixels of even rows only, and those at odd rows of odd ones; columns
likewise. So the four phases of an image, every other pixel along both axes, are images without gaps, and one dense
convolution computes them all: as if they were samples.
"""

from collections.abc import Iterator

import numpy as np

from cnnpar.nn.conv.inner import Convolution, Correlate, Gradients
from cnnpar.nn.shapes import Array, Shape
from cnnpar.nn.windows import Slices, Windows, common
from cnnpar.nn.workspace import Workspace


def suits(windows: Windows) -> bool:
    """Tell whether this way is possible: for windows of any dilation, but next to each other."""
    return windows.dilation != (1, 1) and windows.stride == (1, 1)


def inner(x: Shape, kernel: Shape, windows: Windows) -> Convolution:
    """Return the dense convolution of the phases, for a kernel (height, width, ...)."""
    del x
    height, width = (-(-size // apart) for size, apart in zip(windows.span(kernel), windows.dilation, strict=True))
    outputs = height - kernel[0] + 1, width - kernel[1] + 1
    return Convolution((height, width), kernel, Windows((0, 0), (1, 1), outputs, groups=windows.groups))


def correlate(
    x: Array, kernel: Array, bias: Array | None, windows: Windows, work: Workspace, dense: Correlate
) -> Array:
    """Return the convolution of x (H, W, N, C) with the kernel (height, width, C / groups, K), plus `bias`."""
    size, _, within = inner(x.shape[:2], kernel.shape, windows)
    images = work.array("images", (*size, *windows.dilation, *x.shape[2:]), x.dtype)  # 0 where no image is
    for phase, own, place in _phases(x.shape, size, windows.start, windows.dilation):
        images[(*own, *phase)] = x[place]
    phases = dense(_as_samples(images), kernel, bias, within, work.part("dense"))
    y = work.array("y", (*windows.outputs, x.shape[2], kernel.shape[3]), x.dtype)
    found = phases.reshape(*within.outputs, *windows.dilation, *y.shape[2:])
    for phase, own, place in _phases(y.shape, within.outputs, (0, 0), windows.dilation):
        y[place] = found[(*own, *phase)]
    return y


def gradients(
    x: Shape,
    dy: Array,
    kernel: Array,
    out: Array,
    bias: Array | None,
    windows: Windows,
    wanted: bool,
    work: Workspace,
    dense: Gradients,
) -> Array | None:
    """Write the gradients of kernel and bias; return that of the images x (H, W, N, C), if it is `wanted`.

    `dy` is the gradient of the last result of `correlate` in this workspace.
    """
    size, _, within = inner(x[:2], kernel.shape, windows)
    phases = work.array("gradients", (*within.outputs, *windows.dilation, *dy.shape[2:]), dy.dtype)  # 0 beyond `dy`
    for phase, own, place in _phases(dy.shape, within.outputs, (0, 0), windows.dilation):
        phases[(*own, *phase)] = dy[place]
    samples = _as_samples(phases)
    shape = (*size, samples.shape[2], x[3])
    found = dense(shape, samples, kernel, out, bias, within, wanted, work.part("dense"))
    if found is None:
        return None
    dx, images = work.array("dx", x, dy.dtype), found.reshape(*size, *windows.dilation, *x[2:])
    for phase, own, place in _phases(x, size, windows.start, windows.dilation):
        dx[place] = images[(*own, *phase)]  # pixels in no window stay 0
    return dx


def _phases(x: Shape, size: Shape, start: Shape, apart: Shape) -> Iterator[tuple[tuple[int, int], Slices, Slices]]:
    """Yield each phase, slices of its image of `size` pixels, and slices of x (H, W, ...) of the same pixels.

    Phases begin at the pixel `start` of x, and their pixels are `apart`; what lies outside of x is left out.
    """
    for i, j in np.ndindex(*apart):
        rows, columns = (
            common(x[axis], start[axis] + phase, size[axis], apart[axis]) for axis, phase in enumerate((i, j))
        )
        yield (i, j), (rows[0], columns[0]), (rows[1], columns[1])


def _as_samples(phases: Array) -> Array:
    """Return images by phase, (H, W, down, across, N, C), as images of as many times the samples, (H, W, N, C)."""
    return phases.reshape(*phases.shape[:2], -1, phases.shape[-1])
