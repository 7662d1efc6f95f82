"""Pooling: the maximum or the mean of the pixels in each window, channel by channel.

Windows lie wholly inside the image: a remainder at the bottom or right that fills no window is not pooled.
"""

import math
from typing import ClassVar

import msgspec
import numpy as np

from cnnpar.errors import InputError
from cnnpar.nn.kernels import Array, Pair, Shape, as_rows, pair, window_count
from cnnpar.nn.layers.base import Layer, Workspace, at_least, image_shape, register
from cnnpar.nn.loops import window_pixels


class Pool2D(Layer, frozen=True):
    """What both kinds share: `size` of the window and `stride` (default: size), one number or [height, width]."""

    size: int | Pair = 2
    stride: int | Pair | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        if self.stride is msgspec.UNSET:
            msgspec.structs.force_setattr(self, "stride", self.size)
        at_least("size", self.size, 1)
        at_least("stride", self._strides(), 1)

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        height, width, channels = image_shape(shape)
        (rows, columns), count = pair(self.size), self._count((height, width))
        if not all(count):
            raise InputError(f"a window of {rows} x {columns} does not fit its input {shape}")
        return (*count, channels)

    def _strides(self) -> Pair:
        assert self.stride is not msgspec.UNSET, "set when the layer was made"
        return pair(self.stride)

    def _count(self, shape: Shape) -> Pair:
        """Windows by axis, for an image of `shape` (H, W, ...)."""
        (rows, columns), (down, right) = pair(self.size), self._strides()
        return window_count(shape[0], rows, down), window_count(shape[1], columns, right)

    def _pixels(self, image: Array) -> list[Array]:
        """For every pixel of a window, in row-major order, the view of `image` that holds it for all windows."""
        pixels = window_pixels(pair(self.size), self._strides(), self._count(image.shape))
        return [image[slices] for slices in pixels]


@register
class MaxPool2D(Pool2D, frozen=True, tag="maxpool2d"):
    """The largest number of each window. Of equal ones the first, in row-major order, gets the gradient."""

    kind: ClassVar[str] = "maxpool"

    def forward(self, x: Array, work: Workspace) -> Array:
        """See Layer."""
        height, width, samples, channels = x.shape
        y = work.array("y", (*self._count((height, width)), samples, channels), x.dtype)
        pixels = math.prod(pair(self.size))
        winner = work.array("winner", y.shape, np.dtype(np.uint8 if pixels <= 256 else np.uint32))
        work.loops.maxpool(as_rows(x), *pair(self.size), *self._strides(), as_rows(y), as_rows(winner))
        return y

    def backward(self, dy: Array, work: Workspace) -> Array:
        """See Layer."""
        dx = work.array("dx", work.x.shape, dy.dtype)
        overlap = any(stride < size for size, stride in zip(pair(self.size), self._strides(), strict=True))
        if overlap:
            dx.fill(0)  # otherwise every pixel is written once, or is in no window and was 0 from the start
        winner = as_rows(work.last("winner"))
        work.loops.maxpool_gradient(as_rows(dy), winner, *pair(self.size), *self._strides(), overlap, as_rows(dx))
        return dx


@register
class AvgPool2D(Pool2D, frozen=True, tag="avgpool2d"):
    """The mean of each window."""

    kind: ClassVar[str] = "avgpool"

    def forward(self, x: Array, work: Workspace) -> Array:
        """See Layer."""
        first, *others = self._pixels(x)
        y = work.array("y", first.shape, x.dtype)
        y[...] = first
        for pixel in others:
            y += pixel
        y /= 1 + len(others)
        return y

    def backward(self, dy: Array, work: Workspace) -> Array:
        """See Layer."""
        dx = work.array("dx", work.x.shape, dy.dtype)
        dx.fill(0)
        gradients = self._pixels(dx)
        share = np.divide(dy, len(gradients), out=work.scratch("share", dy.shape, dy.dtype))
        for gradient in gradients:
            gradient += share
        return dx
