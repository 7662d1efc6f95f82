"""Two-dimensional convolution; `cnnpar.nn.conv` has the ways of computing it."""

from functools import lru_cache
from typing import ClassVar, Literal

from cnnpar.errors import InputError
from cnnpar.nn.conv import dispatch
from cnnpar.nn.layers.base import Init, Layer, Parameter, Positive, at_least, image_shape, register
from cnnpar.nn.shapes import Array, Pair, Shape, pair
from cnnpar.nn.windows import Windows, extent, pad_sizes, window_count
from cnnpar.nn.workspace import Workspace
from cnnpar.text import dimensions


@register
class Conv2D(Layer, frozen=True, kw_only=True, tag="conv2d"):
    """Cross-correlation with `channels` kernels, which deep-learning libraries call convolution.

    - `kernel`, `stride`, `dilation` (distance of neighbouring pixels of a window): one number or [height, width].
    - `padding`: zeros around the image, a number or [vertical, horizontal]. "valid" is none. "same" makes the output
      ceil(size / stride); where that takes an odd number of zeros, the extra one is at the bottom or right.
    - `groups`: equal shares of the input's channels make equal shares of the output's, in order. As many groups as
      input channels is a depthwise convolution.
    - weight: (height, width, C / groups, channels); bias: (channels,).
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
        """Return (rows, columns, channels) of the windows. Raises InputError where groups or kernel do not fit."""
        _, _, depth = image_shape(shape)
        if depth % self.groups or self.channels % self.groups:
            raise InputError(
                f"`groups` is {self.groups}, which must divide both the channels of its input {shape} and its own "
                f"{self.channels} channels"
            )
        windows = self.windows(shape)
        if not all(windows.outputs):
            kernel = dimensions(pair(self.kernel))
            apart = "" if windows.dilation == (1, 1) else f" pixels, {dimensions(windows.dilation)} apart,"
            padding = -windows.start[0], -windows.start[1]  # zeros above, zeros on the left
            raise InputError(f"a kernel of {kernel}{apart} does not fit its input {shape}, padded by {padding}")
        return (*windows.outputs, self.channels)

    def held_shape(self, shape: Shape) -> Shape:
        """Return the shape of the input with the zeros around it."""
        return (*self.windows(shape).span(pair(self.kernel)), shape[2])

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """Implement `Layer.parameters`."""
        rows, columns = pair(self.kernel)
        # `depth` and `each`: input and output channels of a group, which decide on how many numbers are summed.
        area, depth, each = rows * columns, shape[2] // self.groups, self.channels // self.groups
        weight = Parameter((rows, columns, depth, self.channels), self.init, area * depth, area * each)
        return {"weight": weight, "bias": Parameter((self.channels,))} if self.bias else {"weight": weight}

    def libraries(self, shape: Shape) -> frozenset[str]:
        """Implement `Layer.libraries`."""
        return dispatch.libraries(shape, self.parameters(shape)["weight"].shape, self.windows(shape))

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        # (rows, columns, N, channels)
        return dispatch.correlate(x, work.p["weight"], work.p.get("bias"), self.windows(x.shape), work)

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """Implement `Layer.backward`."""
        shape, weight, bias = work.x.shape, work.p["weight"], work.g.get("bias")
        return dispatch.gradients(shape, dy, weight, work.g["weight"], bias, self.windows(shape), work.wanted, work)

    def windows(self, shape: Shape) -> Windows:
        """Return the windows of an image (H, W, ...)."""
        return _windows(self, shape[:2])


# Every pass asks for them, more than once. A frozen struct is hashed by value, so equal layers share an entry.
@lru_cache(maxsize=256)
def _windows(conv: Conv2D, shape: Shape) -> Windows:
    paddings = (conv.padding,) * 2 if isinstance(conv.padding, str) else pair(conv.padding)
    stride, dilation = pair(conv.stride), pair(conv.dilation)
    before, count = [], []  # by axis: zeros before the image, windows
    for size, taps, step, apart, padding in zip(shape, pair(conv.kernel), stride, dilation, paddings, strict=True):
        window = extent(taps, apart)  # pixels, with the gaps of dilation
        zeros = pad_sizes(size, window, step, padding)
        before.append(zeros[0])
        count.append(window_count(size + sum(zeros), window, step))
    # Zeros before the image put the first window at negative coordinates.
    return Windows((-before[0], -before[1]), stride, (count[0], count[1]), dilation, conv.groups)
