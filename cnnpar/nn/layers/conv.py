"""Two-dimensional convolution, as matrix products over the pixels of all samples."""

from typing import ClassVar, Literal

import numpy as np

import cnnpar.nn.kernels as kernels
import cnnpar.nn.winograd as winograd
from cnnpar.errors import InputError
from cnnpar.nn.kernels import Array, Pair, Shape, pad_sizes, pair, window_count
from cnnpar.nn.layers.base import Init, Layer, Parameter, Positive, Workspace, at_least, image_shape, register


@register
class Conv2D(Layer, frozen=True, kw_only=True, tag="conv2d"):
    """Cross-correlation with `channels` kernels, as deep-learning libraries define convolution.

    `kernel`, `stride`: one number or [height, width]. `padding`: zeros around the image, a number or [vertical,
    horizontal]; "valid" is none; "same" makes the output ceil(size / stride), and where that takes an odd number of
    zeros, the extra row goes to the bottom and the extra column to the right. weight: (height, width, C, channels).
    """

    kind: ClassVar[str] = "conv"

    channels: Positive
    kernel: int | Pair = 3
    stride: int | Pair = 1
    padding: Literal["same", "valid"] | int | Pair = "same"
    init: Init = "he"
    bias: bool = True

    def __post_init__(self) -> None:
        at_least("kernel", self.kernel, 1)
        at_least("stride", self.stride, 1)
        if not isinstance(self.padding, str):
            at_least("padding", self.padding, 0)

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        height, width, _ = image_shape(shape)
        before, count = self._geometry((height, width))
        if not all(count):
            rows, columns = pair(self.kernel)
            raise InputError(f"a kernel of {rows} x {columns} does not fit its input {shape}, padded by {before}")
        return (*count, self.channels)

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """See Layer."""
        rows, columns = pair(self.kernel)
        area, depth = rows * columns, shape[2]
        weight = Parameter((rows, columns, depth, self.channels), self.init, area * depth, area * self.channels)
        return {"weight": weight, "bias": Parameter((self.channels,))} if self.bias else {"weight": weight}

    def forward(self, x: Array, work: Workspace) -> Array:
        """See Layer."""
        (top, left), count = self._geometry(x.shape)
        weight, stride, start = work.p["weight"], pair(self.stride), (-top, -left)
        bias = work.p["bias"] if self.bias else None
        return _correlate(x, weight, bias, start, stride, count, work, keep=True)

    def gradients(self, dy: Array, work: Workspace) -> None:
        """See Layer."""
        gradient = work.g["weight"]
        way = winograd if winograd.suits(gradient.shape, pair(self.stride), dy.shape[:2]) else kernels
        way.kernel_gradient(dy, gradient, work)
        if self.bias:
            flat = dy.reshape(-1, self.channels)  # (pixels, channels)
            ones = np.ones(len(flat), dy.dtype)
            np.matmul(ones, flat, out=work.g["bias"])  # a sum over the pixels, at the speed of a product

    def backward(self, dy: Array, work: Workspace) -> Array:
        """The transposed convolution.

        Input pixels that are a stride apart meet the same elements of the kernel, so each such phase of the input is
        a convolution in its own right: of dy, with stride 1 and every stride-th element of the kernel in reverse.
        """
        (top, left), _ = self._geometry(work.x.shape)
        down, right = pair(self.stride)
        height, width = work.x.shape[:2]
        for y, x in np.ndindex(min(down, height), min(right, width)):
            kernel = work.p["weight"][(y + top) % down :: down, (x + left) % right :: right]
            if not kernel.size:
                continue  # a stride wider than the kernel: no window holds these pixels, and they stay 0
            reverse = kernel[::-1, ::-1].swapaxes(2, 3)  # (rows, columns, channels, C)
            flipped = work.scratch("flipped", reverse.shape, dy.dtype)
            flipped[...] = reverse
            last = (y + top) // down, (x + left) // right  # the last output that sees the input pixel (y, x)
            start = last[0] - len(kernel) + 1, last[1] - len(kernel[0]) + 1
            count = len(range(y, height, down)), len(range(x, width, right))
            part = _correlate(dy, flipped, None, start, (1, 1), count, work.part(f"{y} {x}"))
            if down == right == 1:
                return part
            work.array("dx", work.x.shape, dy.dtype)[y::down, x::right] = part
        return work.array("dx", work.x.shape, dy.dtype)

    def _geometry(self, shape: Shape) -> tuple[Pair, Pair]:
        """Zeros above and to the left, and the number of windows by axis, for an image of `shape` (H, W, ...)."""
        paddings = (self.padding,) * 2 if isinstance(self.padding, str) else pair(self.padding)
        before, count = [], []
        for size, window, stride, padding in zip(shape, pair(self.kernel), pair(self.stride), paddings, strict=False):
            zeros = pad_sizes(size, window, stride, padding)
            before.append(zeros[0])
            count.append(window_count(size + sum(zeros), window, stride))
        return (before[0], before[1]), (count[0], count[1])


def _correlate(
    x: Array,
    kernel: Array,
    bias: Array | None,
    start: Pair,
    stride: Pair,
    count: Pair,
    work: Workspace,
    keep: bool = False,
) -> Array:
    """See `kernels.correlate`. `keep` what the kernel's gradient needs."""
    if winograd.suits(kernel.shape, stride, count):
        return winograd.correlate(x, kernel, bias, start, count, work, keep)
    return kernels.correlate(x, kernel, bias, start, stride, count, work)
