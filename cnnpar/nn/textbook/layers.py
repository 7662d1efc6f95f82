"""Layers that compute by the functions of this folder. Settings, names and parameters are those of the engine's layers.

Between layers a network has images as (H, W, N, C), the functions as (N, H, W, C): `_images` and `_passed` turn one
into the other. A layer's gradients, `work.g`, are written in place.
"""

from typing import ClassVar, Protocol

import numpy as np

from cnnpar.nn.layers import (
    AvgPool2D,
    Conv2D,
    ConvTranspose2D,
    Dense,
    GlobalAvgPool2D,
    Layer,
    MaxPool2D,
    ReLU,
)
from cnnpar.nn.shapes import Array, Pair, Shape, pair
from cnnpar.nn.textbook import convolution, dense, pooling
from cnnpar.nn.textbook.convolution import Geometry
from cnnpar.nn.windows import Windows
from cnnpar.nn.workspace import Workspace


class Convolution(Protocol):
    """The functions of convolution.py, or of another module that has the same ones."""

    def correlate(self, x: Array, w: Array, geometry: Geometry) -> Array:
        """Return y (N, rows, columns, K)."""

    def kernel_gradient(self, x: Array, dy: Array, size: Pair, geometry: Geometry) -> Array:
        """Return dw (height, width, C / groups, K)."""

    def image_gradient(self, dy: Array, w: Array, shape: Shape, geometry: Geometry) -> Array:
        """Return dx (N, H, W, C)."""


class TextbookConv2D(Conv2D, frozen=True, kw_only=True):
    """Convolution by its definition."""

    functions: ClassVar[Convolution] = convolution

    def libraries(self, shape: Shape) -> frozenset[str]:
        """Return nothing besides numpy."""
        return Layer.libraries(self, shape)

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        images, weight = _images(x), work.p["weight"]
        y = self.functions.correlate(images, weight, _geometry(self.windows(x.shape), images.shape, weight.shape))
        return _passed(y + work.p["bias"] if self.bias else y)

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """Implement `Layer.backward`."""
        images, gradients, weight = _images(work.x), _images(dy), work.p["weight"]
        geometry = _geometry(self.windows(work.x.shape), images.shape, weight.shape)
        work.g["weight"][...] = self.functions.kernel_gradient(images, gradients, pair(self.kernel), geometry)
        if self.bias:
            work.g["bias"][...] = gradients.sum(axis=(0, 1, 2))
        if not work.wanted:
            return None
        return _passed(self.functions.image_gradient(gradients, weight, images.shape, geometry))


class TextbookConvTranspose2D(ConvTranspose2D, frozen=True, kw_only=True):
    """Transposed convolution: the gradient of a convolution from its large output to its small input."""

    functions: ClassVar[Convolution] = convolution

    def libraries(self, shape: Shape) -> frozenset[str]:
        """Return nothing besides numpy."""
        return Layer.libraries(self, shape)

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        small, weight = _images(x), work.p["weight"]
        large, geometry = self._large(small.shape, weight.shape)
        y = self.functions.image_gradient(small, weight, large, geometry)
        return _passed(y + work.p["bias"] if self.bias else y)

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """Implement `Layer.backward`."""
        small, large, weight = _images(work.x), _images(dy), work.p["weight"]
        _, geometry = self._large(small.shape, weight.shape)
        # The image of that convolution is dy, and the gradient of its output is x.
        work.g["weight"][...] = self.functions.kernel_gradient(large, small, pair(self.kernel), geometry)
        if self.bias:
            work.g["bias"][...] = large.sum(axis=(0, 1, 2))
        # Outputs at the end of dy that no input pixel has reached are left out.
        dx = self.functions.correlate(large, weight, geometry)[:, : small.shape[1], : small.shape[2]]
        return _passed(dx) if work.wanted else None

    def _large(self, small: Shape, weight: Shape) -> tuple[Shape, Geometry]:
        """Return the shape of the output, for an input (N, H, W, C), and the geometry of the convolution back."""
        samples, *image = small
        large = (samples, *self.output_shape(tuple(image)))
        return large, _geometry(self.windows(small[1:]), large, weight)


class TextbookMaxPool2D(MaxPool2D, frozen=True):
    """Max-pooling by its definition."""

    def forward(self, x: Array, work: Workspace) -> Array:  # noqa: ARG002
        """Implement `Layer.forward`."""
        return _passed(pooling.maximum(_images(x), pair(self.size), self.strides()))

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Implement `Layer.backward`."""
        return _passed(pooling.maximum_gradient(_images(work.x), _images(dy), pair(self.size), self.strides()))


class TextbookAvgPool2D(AvgPool2D, frozen=True):
    """Average pooling by its definition."""

    def forward(self, x: Array, work: Workspace) -> Array:  # noqa: ARG002
        """Implement `Layer.forward`."""
        return _passed(pooling.mean(_images(x), pair(self.size), self.strides()))

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Implement `Layer.backward`."""
        images = _images(work.x)
        return _passed(pooling.mean_gradient(_images(dy), images.shape, pair(self.size), self.strides()))


class TextbookGlobalAvgPool2D(GlobalAvgPool2D, frozen=True):
    """Global average pooling: average pooling with one window, which is the image."""

    def forward(self, x: Array, work: Workspace) -> Array:  # noqa: ARG002
        """Implement `Layer.forward`."""
        return pooling.mean(_images(x), x.shape[:2], (1, 1))[:, 0, 0]  # (N, C)

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Implement `Layer.backward`."""
        shape = _images(work.x).shape
        return _passed(pooling.mean_gradient(dy[:, np.newaxis, np.newaxis], shape, shape[1:3], (1, 1)))


class TextbookDense(Dense, frozen=True):
    """Dense layer by its definition."""

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        return dense.affine(x, work.p["weight"], work.p["bias"])

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Implement `Layer.backward`."""
        dx, work.g["weight"][...], work.g["bias"][...] = dense.affine_gradients(work.x, dy, work.p["weight"])
        return dx


class TextbookReLU(ReLU, frozen=True):
    """Rectified linear unit by its definition."""

    def forward(self, x: Array, work: Workspace) -> Array:  # noqa: ARG002
        """Implement `Layer.forward`."""
        return dense.relu(x)

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Implement `Layer.backward`."""
        return dense.relu_gradient(work.x, dy)


NUMPY: dict[type[Layer], type[Layer]] = {  # the engine's layers, and those that take their place
    Conv2D: TextbookConv2D,
    ConvTranspose2D: TextbookConvTranspose2D,
    MaxPool2D: TextbookMaxPool2D,
    AvgPool2D: TextbookAvgPool2D,
    GlobalAvgPool2D: TextbookGlobalAvgPool2D,
    Dense: TextbookDense,
    ReLU: TextbookReLU,
}


def _images(x: Array) -> Array:
    """Return images (H, W, N, C) as (N, H, W, C), a view."""
    return x.transpose(2, 0, 1, 3)


def _passed(x: Array) -> Array:
    """Return images (N, H, W, C) as layers pass them on, (H, W, N, C)."""
    return np.ascontiguousarray(x.transpose(1, 2, 0, 3))


def _geometry(windows: Windows, images: Shape, kernel: Shape) -> Geometry:
    """Return the geometry of windows of images (N, H, W, C), with a kernel (height, width, ...).

    The zeros after an image are those that the last window reaches to.
    """
    (above, below), (left, right) = (
        (-start, max(start + span - size, 0))
        for start, span, size in zip(windows.start, windows.span(kernel), images[1:3], strict=True)
    )
    return Geometry(windows.stride, ((above, below), (left, right)), windows.dilation, windows.groups)
