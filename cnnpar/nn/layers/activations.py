"""Activations, for images and vectors alike: elementwise functions, and softmax."""

import math
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from cnnpar.nn.kernels import Array
from cnnpar.nn.layers.base import Layer, Workspace, register

# Hart et al. 1968, function ERFC 5666, as West 2005 has it for the normal distribution: for z >= 0 the probability of
# less than -z is exp(-z^2 / 2) top(z) / bottom(z), within 3e-16. All coefficients are positive, so no digits cancel.
# (scipy's erf takes longer, and importing it 0.3 s; it brings a BLAS of its own, whose threads nobody has limited.)
_TOP = (
    3.52624965998911e-2,
    0.700383064443688,
    6.37396220353165,
    33.912866078383,
    112.079291497871,
    221.213596169931,
    220.206867912376,
)
_BOTTOM = (
    8.83883476483184e-2,
    1.75566716318264,
    16.064177579207,
    86.7807322029461,
    296.564248779674,
    637.333633378831,
    793.826512519948,
    440.413735824752,
)
_FAR = 40.0  # from here on the probability is 0 in float64 too, and the powers of z overflow nowhere
_PIECE = 1 << 15  # numbers at a time, which stay in a cache through some thirty operations


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
        return _sigmoid(x, work.array("y", x.shape, x.dtype))

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


@register
class ELU(Layer, frozen=True, tag="elu"):
    """x where x > 0, alpha * (exp(x) - 1) elsewhere (Clevert et al. 2016). The gradient at 0 is alpha."""

    kind: ClassVar[str] = "elu"

    alpha: Annotated[float, Meta(ge=0, le=1000)] = 1.0

    def forward(self, x: Array, work: Workspace) -> Array:
        """See Layer."""
        y = np.minimum(x, 0, out=work.array("y", x.shape, x.dtype))  # exp of what is above would overflow for nothing
        np.expm1(y, out=y)
        y *= self.alpha
        y += np.maximum(x, 0, out=work.scratch("above", x.shape, x.dtype))  # one of the two is 0
        return y

    def backward(self, dy: Array, work: Workspace) -> Array:
        """dy * (y + alpha) where x <= 0: alpha * exp(x)."""
        dx = np.add(work.y, self.alpha, out=work.array("dx", dy.shape, dy.dtype))
        above = work.x > 0
        dx *= ~above
        dx += above
        dx *= dy
        return dx


@register
class SiLU(Layer, frozen=True, tag="silu"):
    """x / (1 + exp(-x)), also known as swish (Elfwing et al. 2018)."""

    kind: ClassVar[str] = "silu"

    def forward(self, x: Array, work: Workspace) -> Array:
        """See Layer."""
        share = _sigmoid(x, work.array("share", x.shape, x.dtype))
        return np.multiply(x, share, out=work.array("y", x.shape, x.dtype))

    def backward(self, dy: Array, work: Workspace) -> Array:
        """dy * (s + y * (1 - s)), where s = 1 / (1 + exp(-x))."""
        share = work.last("share")
        dx = np.subtract(1, share, out=work.array("dx", dy.shape, dy.dtype))
        dx *= work.y
        dx += share
        return np.multiply(dx, dy, out=dx)


@register
class GELU(Layer, frozen=True, tag="gelu"):
    """x times the probability that a normal number is less than x (Hendrycks and Gimpel 2016).

    It is x * (1 + erf(x / sqrt(2))) / 2, and not the approximation of it by tanh.
    """

    kind: ClassVar[str] = "gelu"

    def forward(self, x: Array, work: Workspace) -> Array:
        """See Layer."""
        less = work.array("less", x.shape, x.dtype)
        _normal(np.ravel(x), np.ravel(less), work)
        return np.multiply(x, less, out=work.array("y", x.shape, x.dtype))

    def backward(self, dy: Array, work: Workspace) -> Array:
        """dy * (P(x) + x * p(x)): the probability of less than x, and its density."""
        dx = np.square(work.x, out=work.array("dx", dy.shape, dy.dtype))
        dx *= -0.5
        np.exp(dx, out=dx)
        dx *= 1 / math.sqrt(2 * math.pi)
        dx *= work.x
        dx += work.last("less")
        return np.multiply(dx, dy, out=dx)


@register
class Softmax(Layer, frozen=True, tag="softmax"):
    """exp(x), divided by its sum over the channels of a pixel, or over the features of a vector.

    At a network's end it is what the loss `cross_entropy` does itself, of the logits before it.
    """

    kind: ClassVar[str] = "softmax"

    def forward(self, x: Array, work: Workspace) -> Array:
        """See Layer."""
        y = work.array("y", x.shape, x.dtype)
        np.subtract(x, x.max(axis=-1, keepdims=True), out=y)  # so that nothing overflows
        np.exp(y, out=y)
        y /= y.sum(axis=-1, keepdims=True)
        return y

    def backward(self, dy: Array, work: Workspace) -> Array:
        """y * (dy - sum(y * dy))."""
        dx = np.multiply(work.y, dy, out=work.array("dx", dy.shape, dy.dtype))
        np.subtract(dy, dx.sum(axis=-1, keepdims=True), out=dx)
        return np.multiply(dx, work.y, out=dx)


def _sigmoid(x: Array, out: Array) -> Array:
    """Write 1 / (1 + exp(-x))."""
    np.negative(x, out=out)
    np.exp(out, out=out)  # an overflow to infinity is right: its reciprocal is 0
    out += 1
    return np.reciprocal(out, out=out)


def _normal(x: Array, out: Array, work: Workspace) -> None:
    """Write the probability that a normal number, of mean 0 and variance 1, is less than x; both are vectors."""
    size, bottom = (work.scratch(name, (_PIECE,), x.dtype) for name in ("size", "bottom"))
    for start in range(0, len(x), _PIECE):
        piece, top = x[start : start + _PIECE], out[start : start + _PIECE]
        z, below = size[: len(piece)], bottom[: len(piece)]
        np.abs(piece, out=z)
        np.minimum(z, _FAR, out=z)
        _polynomial(_TOP, z, top)
        _polynomial(_BOTTOM, z, below)
        top /= below
        np.square(z, out=z)
        z *= -0.5
        top *= np.exp(z, out=z)
        np.subtract(piece > 0, top, out=top)
        np.abs(top, out=top)


def _polynomial(coefficients: tuple[float, ...], z: Array, out: Array) -> None:
    """Write the polynomial of these coefficients, the highest power's first, at z."""
    np.multiply(z, coefficients[0], out=out)
    for coefficient in coefficients[1:-1]:
        out += coefficient
        out *= z
    out += coefficients[-1]
