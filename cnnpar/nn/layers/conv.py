"""Two-dimensional convolution, as matrix products over the pixels of all samples."""

from typing import ClassVar, Literal

import numpy as np

from cnnpar.errors import InputError
from cnnpar.nn.kernels import (
    Array,
    Pair,
    Shape,
    add_correlation,
    kernel_gradient,
    pad_sizes,
    pair,
    unroll,
    unrolled,
    window_count,
)
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
        samples, stride, weight = x.shape[2], pair(self.stride), work.p["weight"]
        shape, order = unrolled(count, samples, weight.shape[:3], stride)
        windows = work.array("windows", shape, x.dtype, order)
        unroll(x, (-top, -left), stride, windows)
        y = work.array("y", (*count, samples, self.channels), x.dtype)
        row = work.array("row", y.shape[1:], x.dtype)
        row[...] = work.p.get("bias", 0)  # for a whole row of pixels, to copy in long runs
        y[...] = row
        add_correlation(windows, weight, y)
        return y

    def gradients(self, dy: Array, work: Workspace) -> None:
        """See Layer."""
        kernel_gradient(work.last("windows"), dy, work.g["weight"])
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
        dx = work.array("dx", work.x.shape, dy.dtype)
        for y, x in np.ndindex(min(down, dx.shape[0]), min(right, dx.shape[1])):
            kernel = work.p["weight"][(y + top) % down :: down, (x + left) % right :: right]
            if not kernel.size:
                continue  # a stride wider than the kernel: no window holds these pixels, and they stay 0
            flipped = np.ascontiguousarray(kernel[::-1, ::-1].swapaxes(2, 3))  # (rows, columns, channels, C)
            size, part = flipped.shape[:3], dx[y::down, x::right]
            shape, order = unrolled(part.shape[:2], part.shape[2], size, (1, 1))
            windows = work.array(f"windows {y} {x}", shape, dy.dtype, order)
            last = (y + top) // down, (x + left) // right  # the last output that sees the input pixel (y, x)
            unroll(dy, (last[0] - size[0] + 1, last[1] - size[1] + 1), (1, 1), windows)
            product = part if part.flags.c_contiguous else work.array(f"product {y} {x}", part.shape, dy.dtype)
            product.fill(0)
            add_correlation(windows, flipped, product)
            if product is not part:
                part[...] = product
        return dx

    def _geometry(self, shape: Shape) -> tuple[Pair, Pair]:
        """Zeros above and to the left, and the number of windows by axis, for an image of `shape` (H, W, ...)."""
        paddings = (self.padding,) * 2 if isinstance(self.padding, str) else pair(self.padding)
        before, count = [], []
        for size, window, stride, padding in zip(shape, pair(self.kernel), pair(self.stride), paddings, strict=False):
            zeros = pad_sizes(size, window, stride, padding)
            before.append(zeros[0])
            count.append(window_count(size + sum(zeros), window, stride))
        return (before[0], before[1]), (count[0], count[1])
