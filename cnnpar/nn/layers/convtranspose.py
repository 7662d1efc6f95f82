"""Two-dimensional transposed convolution; `cnnpar.nn.conv` has the ways of computing it."""

import math
from typing import ClassVar

from cnnpar.errors import InputError
from cnnpar.nn.conv import dispatch
from cnnpar.nn.conv.bias import bias_gradient
from cnnpar.nn.layers.base import Init, Layer, Parameter, Positive, at_least, image_shape, register
from cnnpar.nn.shapes import Array, Pair, Shape, pair
from cnnpar.nn.windows import Windows
from cnnpar.nn.workspace import Workspace


@register
class ConvTranspose2D(Layer, frozen=True, kw_only=True, tag="convtranspose2d"):
    """Transposed convolution: the gradient of a convolution with regard to its image, which makes images larger.

    Each input pixel adds a multiple of the kernel to the output, `stride` apart: (size - 1) * stride + kernel pixels by
    axis. Of these, `padding` are cut off on both sides, and `output_padding`, less than the stride, are appended at the
    bottom and right. All are one number or [height, width]. weight: (height, width, channels, C), that of the
    convolution of which this is the gradient; bias: (channels,). Dumoulin and Visin 2016, chapter 4.
    """

    kind: ClassVar[str] = "convtranspose"

    channels: Positive
    kernel: int | Pair = 3
    stride: int | Pair = 1
    padding: int | Pair = 0
    output_padding: int | Pair = 0
    init: Init = "he"
    bias: bool = True

    def __post_init__(self) -> None:
        at_least("kernel", self.kernel, 1)
        at_least("stride", self.stride, 1)
        at_least("padding", self.padding, 0)
        at_least("output_padding", self.output_padding, 0)
        if any(more >= step for more, step in zip(pair(self.output_padding), pair(self.stride), strict=True)):
            raise ValueError("`output_padding` must be less than `stride`")

    def output_shape(self, shape: Shape) -> Shape:
        """Implement `Layer.output_shape`."""
        height, width, _ = image_shape(shape)
        size = self._size((height, width))
        if min(size) < 1:
            raise InputError(f"`padding` {pair(self.padding)} leaves {size} pixels of what its input {shape} grows to")
        return (*size, self.channels)

    def held_shape(self, shape: Shape) -> Shape:
        """Return the shape of the output before `padding` is cut off."""
        return (*self.windows(shape).span(pair(self.kernel)), self.channels)

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """Implement `Layer.parameters`."""
        (rows, columns), (down, right) = pair(self.kernel), pair(self.stride)
        # On average: an output pixel meets every stride-th element of the kernel.
        fan_in = rows * columns * shape[2] // (min(rows, down) * min(columns, right))
        fan_out = rows * columns * self.channels
        weight = Parameter((rows, columns, self.channels, shape[2]), self.init, fan_in, fan_out)
        return {"weight": weight, "bias": Parameter((self.channels,))} if self.bias else {"weight": weight}

    def products(self, shape: Shape) -> int:
        """Return the multiplications of one sample: each weight is used for every input pixel."""
        return math.prod((*pair(self.kernel), self.channels, *shape))

    def libraries(self, shape: Shape) -> frozenset[str]:
        """Implement `Layer.libraries`."""
        return dispatch.libraries(self.output_shape(shape), self.parameters(shape)["weight"].shape, self.windows(shape))

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        shape = (*self._size(x.shape), x.shape[2], self.channels)  # (rows, columns, N, channels)
        return dispatch.transposed(x, work.p["weight"], work.p.get("bias"), self.windows(x.shape), shape, work)

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """Implement `Layer.backward`."""
        weight, windows, own = work.p["weight"], self.windows(work.x.shape), work.part("backward")
        # The gradient of the gradient is the convolution itself, of dy; x is the gradient of its outputs.
        dx = dispatch.correlate(dy, weight, None, windows, own)
        dispatch.gradients(dy.shape, work.x, weight, work.g["weight"], None, windows, False, own)
        if "bias" in work.g:
            bias_gradient(dy, work.g["bias"])
        return dx

    def _size(self, shape: Shape) -> Pair:
        """Return the pixels of the output by axis, for an image (H, W, ...)."""
        height, width = (
            (size - 1) * step - 2 * cut + taps + more
            for size, step, cut, taps, more in zip(
                shape, pair(self.stride), pair(self.padding), pair(self.kernel), pair(self.output_padding), strict=False
            )
        )
        return height, width

    def windows(self, shape: Shape) -> Windows:
        """Return the windows of the convolution from the output to the input (H, W, ...)."""
        top, left = pair(self.padding)
        return Windows((-top, -left), pair(self.stride), (shape[0], shape[1]))
