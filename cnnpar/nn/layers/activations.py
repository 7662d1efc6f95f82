"""Activations, for images and vectors alike: elementwise functions, and softmax."""

import math
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from cnnpar.nn.functions import write_normal_cdf, write_sigmoid
from cnnpar.nn.layers.base import Layer, register
from cnnpar.nn.shapes import Array
from cnnpar.nn.workspace import Workspace


@register
class ReLU(Layer, frozen=True, tag="relu"):
    """Rectified linear unit: max(x, 0). The gradient at 0 is 0."""

    kind: ClassVar[str] = "relu"

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        return np.maximum(x, 0, out=work.array("y", x.shape, x.dtype))

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Implement `Layer.backward`."""
        dx = work.array("dx", dy.shape, dy.dtype)
        work.loops.relu_gradient(np.ravel(dy), np.ravel(work.y), np.ravel(dx))
        return dx


@register
class LeakyReLU(Layer, frozen=True, tag="leakyrelu"):
    """Leaky rectified linear unit: x where x > 0, slope * x elsewhere."""

    kind: ClassVar[str] = "leakyrelu"

    slope: Annotated[float, Meta(ge=0, lt=1)] = 0.01

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        y = np.multiply(x, self.slope, out=work.array("y", x.shape, x.dtype))
        return np.maximum(x, y, out=y)  # slope < 1, so the larger one is the right one on both sides

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Implement `Layer.backward`."""
        dx = np.multiply(dy, self.slope, out=work.array("dx", dy.shape, dy.dtype))
        np.copyto(dx, dy, where=work.x > 0)
        return dx


@register
class Sigmoid(Layer, frozen=True, tag="sigmoid"):
    """Logistic function: 1 / (1 + exp(-x))."""

    kind: ClassVar[str] = "sigmoid"

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        return write_sigmoid(x, work.array("y", x.shape, x.dtype))

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Return dy * y * (1 - y)."""
        dx = np.subtract(1, work.y, out=work.array("dx", dy.shape, dy.dtype))
        dx *= work.y
        return np.multiply(dx, dy, out=dx)


@register
class Tanh(Layer, frozen=True, tag="tanh"):
    """Hyperbolic tangent."""

    kind: ClassVar[str] = "tanh"

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        return np.tanh(x, out=work.array("y", x.shape, x.dtype))

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Return dy * (1 - y^2)."""
        dx = np.square(work.y, out=work.array("dx", dy.shape, dy.dtype))
        np.subtract(1, dx, out=dx)
        return np.multiply(dx, dy, out=dx)


@register
class ELU(Layer, frozen=True, tag="elu"):
    """Exponential linear unit: x where x > 0, alpha * (exp(x) - 1) elsewhere (Clevert et al. 2016).

    The gradient at 0 is alpha.
    """

    kind: ClassVar[str] = "elu"

    alpha: Annotated[float, Meta(ge=0, le=1000)] = 1.0

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        y = np.minimum(x, 0, out=work.array("y", x.shape, x.dtype))  # else exp could overflow where it is not used
        np.expm1(y, out=y)
        y *= self.alpha
        y += np.maximum(x, 0, out=work.scratch("above", x.shape, x.dtype))  # one of the two is 0
        return y

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Return dy where x > 0, dy * (y + alpha) = dy * alpha * exp(x) elsewhere."""
        dx = np.add(work.y, self.alpha, out=work.array("dx", dy.shape, dy.dtype))
        above = work.x > 0
        dx *= ~above
        dx += above  # 1 where x > 0
        dx *= dy
        return dx


@register
class SiLU(Layer, frozen=True, tag="silu"):
    """Sigmoid linear unit: x / (1 + exp(-x)), also known as swish (Elfwing et al. 2018)."""

    kind: ClassVar[str] = "silu"

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        share = write_sigmoid(x, work.array("share", x.shape, x.dtype))
        return np.multiply(x, share, out=work.array("y", x.shape, x.dtype))

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Return dy * (s + y * (1 - s)), where s = 1 / (1 + exp(-x))."""
        share = work.last("share")
        dx = np.subtract(1, share, out=work.array("dx", dy.shape, dy.dtype))
        dx *= work.y
        dx += share
        return np.multiply(dx, dy, out=dx)


@register
class GELU(Layer, frozen=True, tag="gelu"):
    """Gaussian error linear unit: x * P(x), with the normal distribution P (Hendrycks and Gimpel 2016).

    P(x) is (1 + erf(x / sqrt(2))) / 2 itself, not its approximation by tanh.
    """

    kind: ClassVar[str] = "gelu"

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        cdf = work.array("cdf", x.shape, x.dtype)
        write_normal_cdf(np.ravel(x), np.ravel(cdf), work)
        return np.multiply(x, cdf, out=work.array("y", x.shape, x.dtype))

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Return dy * (P(x) + x * p(x)), with the density p(x) = exp(-x^2 / 2) / sqrt(2 pi)."""
        dx = np.square(work.x, out=work.array("dx", dy.shape, dy.dtype))
        dx *= -0.5
        np.exp(dx, out=dx)
        dx *= 1 / math.sqrt(2 * math.pi)
        dx *= work.x
        dx += work.last("cdf")
        return np.multiply(dx, dy, out=dx)


@register
class Softmax(Layer, frozen=True, tag="softmax"):
    """Softmax over the channels of each pixel, or over the features of a vector.

    At the end of a network it is left to the loss `cross_entropy`, which takes the logits before it.
    """

    kind: ClassVar[str] = "softmax"

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        y = work.array("y", x.shape, x.dtype)
        np.subtract(x, x.max(axis=-1, keepdims=True), out=y)  # exp gets 0 at most, so nothing overflows
        np.exp(y, out=y)
        y /= y.sum(axis=-1, keepdims=True)
        return y

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Return y * (dy - sum(y * dy))."""
        dx = np.multiply(work.y, dy, out=work.array("dx", dy.shape, dy.dtype))
        np.subtract(dy, dx.sum(axis=-1, keepdims=True), out=dx)
        return np.multiply(dx, work.y, out=dx)
