"""Convolution in groups, as a few dense convolutions: each of some neighbouring groups, with zeros between them.

Matrices of few channels are slow: two groups of 8 channels take longer than 16 channels of which each output sees half.
So groups are joined until they have enough channels; the kernel of such a part is block-diagonal. Parts have images of
their own, which are copied, and each is convolved by the fastest way for it.
"""

import numpy as np

from cnnpar.nn.conv.inner import Convolution, Correlate, Gradients
from cnnpar.nn.shapes import Array, Shape
from cnnpar.nn.windows import Windows
from cnnpar.nn.workspace import Workspace

_FEW = 8  # channels, of inputs or outputs; more make matrices large enough


def suits(x: Shape, kernel: Shape, windows: Windows) -> bool:
    """Tell whether this way is possible and fast for images (H, W, ...) and a kernel (height, width, C / groups, K)."""
    # Strided windows are left to im2col, which copies them once; pixels it need not copy at all.
    return windows.groups > 1 and windows.stride == (1, 1) and not windows.are_pixels(x, kernel)


def inner(x: Shape, kernel: Shape, windows: Windows) -> Convolution:
    """Return the dense convolution of a part."""
    joined = _joined(kernel, windows.groups)
    part = (*kernel[:2], joined * kernel[2], joined * kernel[3] // windows.groups)
    return Convolution(x, part, windows._replace(groups=1))


def correlate(
    x: Array, kernel: Array, bias: Array | None, windows: Windows, work: Workspace, dense: Correlate
) -> Array:
    """Return the convolution of x (H, W, N, C) with the kernel (height, width, C / groups, K), plus `bias`."""
    _, shape, within = inner(x.shape[:2], kernel.shape, windows)
    images = work.array(
        "images", (x.shape[3] // shape[2], *x.shape[:3], shape[2]), x.dtype
    )  # (parts, H, W, N, C / parts)
    images[...] = _by_part(x, len(images))
    kernels = work.array("kernels", (len(images), *shape), x.dtype)  # 0 from the start where a group meets another
    for block, own in _blocks(kernels, kernel, windows.groups):
        block[...] = own
    biases = [None] * len(images) if bias is None else bias.reshape(len(images), -1)
    y = work.array("y", (*windows.outputs, x.shape[2], kernel.shape[3]), x.dtype)
    for number, out in enumerate(_by_part(y, len(images))):
        out[...] = dense(images[number], kernels[number], biases[number], within, work.part(f"part {number}"))
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
    within = inner(x[:2], kernel.shape, windows).windows
    kernels = work.last("kernels")
    parts = len(kernels)
    totals = work.scratch("kernels", kernels.shape, dy.dtype)
    biases = [None] * parts if bias is None else bias.reshape(parts, -1)  # views
    dx = work.array("dx", x, dy.dtype) if wanted else None
    places = [None] * parts if dx is None else _by_part(dx, parts)
    for number, part in enumerate(_by_part(dy, parts)):
        own = work.scratch("part", part.shape, dy.dtype)
        own[...] = part
        place, inside = places[number], work.part(f"part {number}")
        shape = (*x[:3], x[3] // parts)
        gradient = dense(shape, own, kernels[number], totals[number], biases[number], within, wanted, inside)
        if place is not None:
            place[...] = gradient
    for block, own in _blocks(totals, out, windows.groups):
        own[...] = block
    return dx


def _joined(kernel: Shape, groups: int) -> int:
    """Return the number of groups in a part: the fewest with enough channels, or all."""
    least = min(kernel[2], kernel[3] // groups)
    return next((many for many in range(1, groups) if groups % many == 0 and many * least > _FEW), groups)


def _by_part(x: Array, parts: int) -> Array:
    """Return a view of images (H, W, N, C) as (parts, H, W, N, C / parts)."""
    return np.moveaxis(x.reshape(*x.shape[:3], parts, -1), 3, 0)


def _blocks(kernels: Array, kernel: Array, groups: int) -> list[tuple[Array, Array]]:
    """Return views of the blocks of the parts' kernels, and of the same weights in the kernel of all groups.

    kernels: (parts, height, width, C / parts, K / parts); kernel: (height, width, C / groups, K). One view for all
    parts: the first blocks of each, the second blocks, ...
    """
    parts, height, width = kernels.shape[:3]
    joined, depth = groups // parts, kernel.shape[2]
    wide = kernels.reshape(parts, height, width, joined, depth, joined, -1)
    narrow = kernel.reshape(height, width, depth, parts, joined, -1)
    return [(wide[:, :, :, i, :, i], np.moveaxis(narrow[..., i, :], 3, 0)) for i in range(joined)]
