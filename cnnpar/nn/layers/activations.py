"""Activations: elementwise functions, for images and vectors alike."""

from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from cnnpar.nn.kernels import Array
from cnnpar.nn.layers.base import Layer, Workspace, register


@register
class ReLU(Layer, frozen=True, tag="relu"):
    """max(x, 0). The gradient at 0 is 0."""

    kind: ClassVar[str] = "relu"

    def forward(self, x: Array, work: Workspace) -> Array:
        """See Layer."""
        return np.maximum(x, 0, out=work.array("y", x.shape, x.dtype))

    def backward(self, dy: Array, work: Workspace) -> Array:
        """See Layer."""
        dx = work.array("dx", dy.shape, dy.dtype)
        work.loops.relu_gradient(np.ravel(dy), np.ravel(work.y), np.ravel(dx))
        return dx


@register
class LeakyReLU(Layer, frozen=True, tag="leakyrelu"):
    """x where x > 0, slope * x elsewhere."""

    kind: ClassVar[str] = "leakyrelu"

    slope: Annotated[float, Meta(ge=0, lt=1)] = 0.01

    def forward(self, x: Array, work: Workspace) -> Array:
        """See Layer."""
        y = np.multiply(x, self.slope, out=work.array("y", x.shape, x.dtype))
        return np.maximum(x, y, out=y)  # slope < 1, so the larger one is the right one on both sides

    def backward(self, dy: Array, work: Workspace) -> Array:
        """See Layer."""
        dx = np.multiply(dy, self.slope, out=work.array("dx", dy.shape, dy.dtype))
        np.copyto(dx, dy, where=work.x > 0)
        return dx


@register
class Sigmoid(Layer, frozen=True, tag="sigmoid"):
    """1 / (1 + exp(-x))."""

    kind: ClassVar[str] = "sigmoid"

    def forward(self, x: Array, work: Workspace) -> Array:
        """See Layer."""
        y = np.negative(x, out=work.array("y", x.shape, x.dtype))
        np.exp(y, out=y)  # an overflow to infinity is right: its reciprocal is 0
        y += 1
        return np.reciprocal(y, out=y)

    def backward(self, dy: Array, work: Workspace) -> Array:
        """dy * y * (1 - y)."""
        dx = np.subtract(1, work.y, out=work.array("dx", dy.shape, dy.dtype))
        dx *= work.y
        return np.multiply(dx, dy, out=dx)


@register
class Tanh(Layer, frozen=True, tag="tanh"):
    """The hyperbolic tangent."""

    kind: ClassVar[str] = "tanh"

    def forward(self, x: Array, work: Workspace) -> Array:
        """See Layer."""
        return np.tanh(x, out=work.array("y", x.shape, x.dtype))

    def backward(self, dy: Array, work: Workspace) -> Array:
        """dy * (1 - y^2)."""
        dx = np.square(work.y, out=work.array("dx", dy.shape, dy.dtype))
        np.subtract(1, dx, out=dx)
        return np.multiply(dx, dy, out=dx)
