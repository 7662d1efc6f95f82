"""Two-dimensional convolution, as matrix products over the pixels of all samples."""

from typing import ClassVar, Literal

import numpy as np

import cnnpar.nn.bands as bands
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
        start, count = self.geometry((height, width))
        if not all(count):
            rows, columns = pair(self.kernel)
            raise InputError(
                f"a kernel of {rows} x {columns} does not fit its input {shape}, padded by {(-start[0], -start[1])}"
            )
        return (*count, self.channels)

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """See Layer."""
        rows, columns = pair(self.kernel)
        area, depth = rows * columns, shape[2]
        weight = Parameter((rows, columns, depth, self.channels), self.init, area * depth, area * self.channels)
        return {"weight": weight, "bias": Parameter((self.channels,))} if self.bias else {"weight": weight}

    def forward(self, x: Array, work: Workspace) -> Array:
        """See Layer."""
        start, count = self.geometry(x.shape)
        return _correlate(x, work.p["weight"], work.p.get("bias"), start, pair(self.stride), count, work)

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """See Layer."""
        weight, bias = work.g["weight"], work.g.get("bias")
        start, _ = self.geometry(work.x.shape)
        if bands.suits(weight.shape):
            bands.kernel_gradient(dy, weight, bias, pair(self.stride), work)
            return self.transposed(dy, work)
        if bias is not None:
            flat = dy.reshape(-1, self.channels)  # (pixels, channels)
            np.matmul(np.ones(len(flat), dy.dtype), flat, out=bias)  # a sum over the pixels, at the speed of a product
        if not winograd.suits(weight.shape, pair(self.stride), dy.shape[:2]):
            kernels.kernel_gradient(dy, weight, work)
            return self.transposed(dy, work)
        dx = work.array("dx", work.x.shape, dy.dtype) if work.wanted else None
        if dx is not None:
            dx.fill(0)
        winograd.gradients(dy, weight, start, dx, work)
        return dx

    def transposed(self, dy: Array, work: Workspace) -> Array | None:
        """The gradient of the input, if it is wanted.

        Input pixels that are a stride apart meet the same elements of the kernel, so each such phase of the input is
        a convolution in its own right: of dy, with stride 1 and every stride-th element of the kernel in reverse.
        """
        if not work.wanted:
            return None
        (top, left), _ = self.geometry(work.x.shape)
        down, right = pair(self.stride)
        height, width = work.x.shape[:2]
        for y, x in np.ndindex(min(down, height), min(right, width)):
            kernel = work.p["weight"][(y - top) % down :: down, (x - left) % right :: right]
            if not kernel.size:
                continue  # a stride wider than the kernel: no window holds these pixels, and they stay 0
            reverse = kernel[::-1, ::-1].swapaxes(2, 3)  # (rows, columns, channels, C)
            flipped = work.scratch("flipped", reverse.shape, dy.dtype)
            flipped[...] = reverse
            last = (y - top) // down, (x - left) // right  # the last output that sees the input pixel (y, x)
            start = last[0] - len(kernel) + 1, last[1] - len(kernel[0]) + 1
            count = len(range(y, height, down)), len(range(x, width, right))
            part = _correlate(dy, flipped, None, start, (1, 1), count, work.part(f"{y} {x}"))
            if down == right == 1:
                return part
            work.array("dx", work.x.shape, dy.dtype)[y::down, x::right] = part
        return work.array("dx", work.x.shape, dy.dtype)

    def geometry(self, shape: Shape) -> tuple[Pair, Pair]:
        """The pixel at which the first window starts, and the number of windows by axis, for an image (H, W, ...).

        The pixel may lie above and to the left of the image, in zeros.
        """
        paddings = (self.padding,) * 2 if isinstance(self.padding, str) else pair(self.padding)
        before, count = [], []
        for size, window, stride, padding in zip(shape, pair(self.kernel), pair(self.stride), paddings, strict=False):
            zeros = pad_sizes(size, window, stride, padding)
            before.append(zeros[0])
            count.append(window_count(size + sum(zeros), window, stride))
        return (-before[0], -before[1]), (count[0], count[1])


def _correlate(
    x: Array, kernel: Array, bias: Array | None, start: Pair, stride: Pair, count: Pair, work: Workspace
) -> Array:
    """See `kernels.correlate`."""
    if bands.suits(kernel.shape):
        return bands.correlate(x, kernel, bias, start, stride, count, work)
    if winograd.suits(kernel.shape, stride, count):
        return winograd.correlate(x, kernel, bias, start, count, work)
    return kernels.correlate(x, kernel, bias, start, stride, count, work)
