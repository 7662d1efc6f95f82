"""Pooling, channel by channel: the maximum or the mean of each window, or the mean of the whole image.

All windows lie inside the image: rows and columns at the bottom and right that fill no window are left out.
"""

from typing import ClassVar

import msgspec
import numpy as np

from cnnpar.errors import InputError
from cnnpar.nn.layers.base import Layer, at_least, image_shape, register
from cnnpar.nn.loops.interface import winner_type
from cnnpar.nn.shapes import Array, Pair, Shape, as_rows, pair
from cnnpar.nn.windows import window_count, window_pixels
from cnnpar.nn.workspace import Workspace
from cnnpar.text import dimensions


class Pool2D(Layer, frozen=True):
    """Base class of pooling: `size` of the window and `stride` (default: size), one number or [height, width]."""

    size: int | Pair = 2
    stride: int | Pair | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        if self.stride is msgspec.UNSET:
            msgspec.structs.force_setattr(self, "stride", self.size)
        at_least("size", self.size, 1)
        at_least("stride", self.strides(), 1)

    def output_shape(self, shape: Shape) -> Shape:
        """Return (rows, columns, C) of the windows. Raises InputError where none fits."""
        height, width, channels = image_shape(shape)
        count = self.count((height, width))
        if not all(count):
            raise InputError(f"a window of {dimensions(pair(self.size))} does not fit its input {shape}")
        return (*count, channels)

    def overlaps(self) -> bool:
        """Tell whether a pixel may be in more than one window."""
        return any(stride < size for size, stride in zip(pair(self.size), self.strides(), strict=True))

    def strides(self) -> Pair:
        """Return the strides down and across."""
        assert self.stride is not msgspec.UNSET, "set when the layer was made"
        return pair(self.stride)

    def count(self, shape: Shape) -> Pair:
        """Return the number of windows by axis, for an image (H, W, ...)."""
        (rows, columns), (down, right) = pair(self.size), self.strides()
        return window_count(shape[0], rows, down), window_count(shape[1], columns, right)

    def _pixels(self, image: Array) -> list[Array]:
        """Return, for every pixel of a window in row-major order, the view of `image` that holds it for all windows."""
        pixels = window_pixels(pair(self.size), self.strides(), self.count(image.shape))
        return [image[slices] for slices in pixels]


@register
class MaxPool2D(Pool2D, frozen=True, tag="maxpool2d"):
    """Max-pooling. Of equal numbers in a window the first one, in row-major order, gets the gradient."""

    kind: ClassVar[str] = "maxpool"
    rectify: ClassVar[bool] = False  # relu too; see cnnpar/nn/fusion.py

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        y = work.array("y", (*self.count(x.shape), *x.shape[2:]), x.dtype)
        winner = as_rows(work.array("winner", y.shape, winner_type(pair(self.size))))  # (rows, columns, N * C)
        work.loops.maxpool(as_rows(x), *pair(self.size), *self.strides(), self.rectify, as_rows(y), winner)
        return y

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Implement `Layer.backward`."""
        dx = work.array("dx", work.x.shape, dy.dtype)
        if self.overlaps():
            dx.fill(0)  # else every pixel is written once, or is in no window and 0 from the start
        places = *pair(self.size), *self.strides(), self.overlaps()
        work.loops.maxpool_gradient(as_rows(dy), as_rows(work.last("winner")), *places, as_rows(dx))
        return dx


@register
class AvgPool2D(Pool2D, frozen=True, tag="avgpool2d"):
    """Average pooling: the mean of each window."""

    kind: ClassVar[str] = "avgpool"

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        first, *others = self._pixels(x)  # views (rows, columns, N, C)
        y = work.array("y", first.shape, x.dtype)
        y[...] = first
        for pixel in others:  # in row-major order
            y += pixel
        y /= 1 + len(others)
        return y

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Implement `Layer.backward`."""
        dx = work.array("dx", work.x.shape, dy.dtype)
        dx.fill(0)
        gradients = self._pixels(dx)  # views, to add to: windows may overlap
        share = np.divide(dy, len(gradients), out=work.scratch("share", dy.shape, dy.dtype))
        for gradient in gradients:
            gradient += share
        return dx


@register
class GlobalAvgPool2D(Layer, frozen=True, tag="globalavgpool2d"):
    """Global average pooling: each channel's mean over the image (H, W, C), (C,). Lin et al. 2014, section 3.2."""

    kind: ClassVar[str] = "globalavgpool"

    def output_shape(self, shape: Shape) -> Shape:
        """Return (C,)."""
        return image_shape(shape)[2:]

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        y = work.array("y", x.shape[2:], x.dtype)
        np.add.reduce(x, axis=(0, 1), out=y)
        y /= x.shape[0] * x.shape[1]
        return y

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Implement `Layer.backward`."""
        dx = work.array("dx", work.x.shape, dy.dtype)
        dx[...] = np.divide(dy, dx.shape[0] * dx.shape[1], out=work.scratch("share", dy.shape, dy.dtype))
        return dx
