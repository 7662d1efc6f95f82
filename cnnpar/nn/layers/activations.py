"""Activations, for images and vectors alike: elementwise functions, and softmax."""

from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from cnnpar.nn.layers.base import Layer, register
from cnnpar.nn.loops.interface import Loops
from cnnpar.nn.shapes import Array
from cnnpar.nn.workspace import Workspace


@register
class ReLU(Layer, frozen=True, tag="relu"):
    """Rectified linear unit: max(x, 0). The gradient at 0 is 0."""

    kind: ClassVar[str] = "relu"

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        y = work.array("y", x.shape, x.dtype)
        work.loops.relu(np.ravel(x), np.ravel(y))
        return y

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
        y = work.array("y", x.shape, x.dtype)
        work.loops.leaky_relu(np.ravel(x), self.slope, np.ravel(y))
        return y

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Implement `Layer.backward`."""
        dx = work.array("dx", dy.shape, dy.dtype)
        work.loops.leaky_relu_gradient(np.ravel(dy), np.ravel(work.x), self.slope, np.ravel(dx))
        return dx


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
class Sigmoid(Layer, frozen=True, tag="sigmoid"):
    """Logistic function: 1 / (1 + exp(-x))."""

    kind: ClassVar[str] = "sigmoid"

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        y = work.array("y", x.shape, x.dtype)
        work.loops.sigmoid(np.ravel(x), np.ravel(y))
        return y

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Implement `Layer.backward`."""
        dx = work.array("dx", dy.shape, dy.dtype)
        work.loops.sigmoid_gradient(np.ravel(dy), np.ravel(work.y), np.ravel(dx))
        return dx


class _Elementwise(Layer, frozen=True):
    """A function of each number by itself; its derivative is computed with it, and kept for the backward pass."""

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        y, slopes = (work.array(name, x.shape, x.dtype) for name in ("y", "slopes"))
        self._write(np.ravel(x), np.ravel(slopes), np.ravel(y), work.loops)
        return y

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Return dy times the derivative."""
        return np.multiply(dy, work.last("slopes"), out=work.array("dx", dy.shape, dy.dtype))

    def _write(self, x: Array, slopes: Array, out: Array, loops: Loops) -> None:
        """Write the function of x to `out`, and its derivative to `slopes`; all are flat vectors."""
        raise NotImplementedError


@register
class ELU(_Elementwise, frozen=True, tag="elu"):
    """Exponential linear unit: x where x > 0, alpha * (exp(x) - 1) elsewhere (Clevert et al. 2016).

    The gradient at 0 is alpha.
    """

    kind: ClassVar[str] = "elu"

    alpha: Annotated[float, Meta(ge=0, le=1000)] = 1.0

    def _write(self, x: Array, slopes: Array, out: Array, loops: Loops) -> None:
        loops.elu(x, self.alpha, slopes, out)


@register
class SiLU(_Elementwise, frozen=True, tag="silu"):
    """Sigmoid linear unit: x / (1 + exp(-x)), also known as swish (Elfwing et al. 2018)."""

    kind: ClassVar[str] = "silu"

    def _write(self, x: Array, slopes: Array, out: Array, loops: Loops) -> None:
        loops.silu(x, slopes, out)


@register
class GELU(_Elementwise, frozen=True, tag="gelu"):
    """Gaussian error linear unit: x * P(x), with the normal distribution P (Hendrycks and Gimpel 2016).

    P(x) is (1 + erf(x / sqrt(2))) / 2 itself, not its approximation by tanh.
    """

    kind: ClassVar[str] = "gelu"

    def _write(self, x: Array, slopes: Array, out: Array, loops: Loops) -> None:
        loops.gelu(x, slopes, out)


@register
class Softmax(Layer, frozen=True, tag="softmax"):
    """Softmax over the channels of each pixel, or over the features of a vector.

    At the end of a network it is left to the loss `cross_entropy`, which takes the logits before it.
    """

    kind: ClassVar[str] = "softmax"

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        y = work.array("y", x.shape, x.dtype)
        work.loops.softmax(_rows(x), _rows(y))
        return y

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Return y * (dy - sum(y * dy))."""
        dx = work.array("dx", dy.shape, dy.dtype)
        work.loops.softmax_gradient(_rows(dy), _rows(work.y), _rows(dx))
        return dx


def _rows(x: Array) -> Array:
    """Return images or vectors as rows of channels, (rows, C)."""
    return np.ascontiguousarray(x).reshape(-1, x.shape[-1])
