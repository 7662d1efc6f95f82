"""Two-dimensional convolution, as matrix products over the pixels of all samples."""

from functools import lru_cache
from typing import ClassVar, Literal

import cnnpar.nn.conv.dispatch as dispatch
from cnnpar.errors import InputError
from cnnpar.nn.layers.base import Init, Layer, Parameter, Positive, at_least, image_shape, register
from cnnpar.nn.shapes import Array, Pair, Shape, pair
from cnnpar.nn.windows import Windows, extent, pad_sizes, window_count
from cnnpar.nn.workspace import Workspace


@register
class Conv2D(Layer, frozen=True, kw_only=True, tag="conv2d"):
    """Cross-correlation with `channels` kernels, as deep-learning libraries define convolution.

    `kernel`, `stride`, `dilation` (from one pixel of a window to the next): one number or [height, width]. `padding`:
    zeros around the image, a number or [vertical, horizontal]; "valid" is none; "same" makes the output
    ceil(size / stride), and where that takes an odd number of zeros, the extra row goes to the bottom and the extra
    column to the right. `groups`: equal shares of the input's channels make equal shares of the output's, in order; as
    many as there are input channels is a depthwise convolution. weight: (height, width, C / groups, channels).
    """

    kind: ClassVar[str] = "conv"

    channels: Positive
    kernel: int | Pair = 3
    stride: int | Pair = 1
    padding: Literal["same", "valid"] | int | Pair = "same"
    dilation: int | Pair = 1
    groups: Positive = 1
    init: Init = "he"
    bias: bool = True

    def __post_init__(self) -> None:
        at_least("kernel", self.kernel, 1)
        at_least("stride", self.stride, 1)
        at_least("dilation", self.dilation, 1)
        if not isinstance(self.padding, str):
            at_least("padding", self.padding, 0)

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        _, _, depth = image_shape(shape)
        if depth % self.groups or self.channels % self.groups:
            raise InputError(
                f"`groups` is {self.groups}, which must divide both the channels of its input {shape} and its own "
                f"{self.channels} channels"
            )
        windows = self.windows(shape)
        if not all(windows.outputs):
            (rows, columns), (below, beside) = pair(self.kernel), windows.dilation
            apart = "" if below == beside == 1 else f" pixels, {below} x {beside} apart,"
            padding = -windows.start[0], -windows.start[1]
            raise InputError(
                f"a kernel of {rows} x {columns}{apart} does not fit its input {shape}, padded by {padding}"
            )
        return (*windows.outputs, self.channels)

    def held_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        return (*self.windows(shape).span(pair(self.kernel)), shape[2])

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """See Layer."""
        rows, columns = pair(self.kernel)
        area, depth, each = rows * columns, shape[2] // self.groups, self.channels // self.groups
        weight = Parameter((rows, columns, depth, self.channels), self.init, area * depth, area * each)
        return {"weight": weight, "bias": Parameter((self.channels,))} if self.bias else {"weight": weight}

    def forward(self, x: Array, work: Workspace) -> Array:
        """See Layer."""
        return dispatch.correlate(x, work.p["weight"], work.p.get("bias"), self.windows(x.shape), work)

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """See Layer."""
        weight, windows = work.p["weight"], self.windows(work.x.shape)
        return dispatch.gradients(work.x, dy, weight, work.g["weight"], work.g.get("bias"), windows, work.wanted, work)

    def windows(self, shape: Shape) -> Windows:
        """Those of an image (H, W, ...)."""
        return _windows(self, shape[:2])


@lru_cache(maxsize=256)
def _windows(conv: Conv2D, shape: Shape) -> Windows:
    paddings = (conv.padding,) * 2 if isinstance(conv.padding, str) else pair(conv.padding)
    stride, dilation = pair(conv.stride), pair(conv.dilation)
    before, count = [], []
    for size, taps, step, apart, padding in zip(shape, pair(conv.kernel), stride, dilation, paddings, strict=True):
        window = extent(taps, apart)
        zeros = pad_sizes(size, window, step, padding)
        before.append(zeros[0])
        count.append(window_count(size + sum(zeros), window, step))
    return Windows((-before[0], -before[1]), stride, (count[0], count[1]), dilation, conv.groups)
