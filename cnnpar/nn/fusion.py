"""Fused layers: neighbours run as one, the same network with fewer trips to memory.

Configurations, names and checkpoints have the single layers; a fused layer has no parameters of its own, and no `type`.
"""

from collections.abc import Callable
from typing import ClassVar

import msgspec
import numpy as np

from cnnpar.nn.conv import banded, dispatch
from cnnpar.nn.layers import BatchNorm2D, Conv2D, MaxPool2D, ReLU
from cnnpar.nn.layers.base import Layer
from cnnpar.nn.loops.interface import winner_type
from cnnpar.nn.shapes import Array, Shape, as_rows, pair
from cnnpar.nn.workspace import Workspace


class RectifiedPool(MaxPool2D, frozen=True):
    """Max-pooling and relu, in either order: they commute exactly, gradients included.

    The maximum of a window is the same number whether relu comes before or after, and where it is not positive no
    gradient passes either way.
    """

    rectify: ClassVar[bool] = True


class ConvPool(Layer, frozen=True, kw_only=True):
    """Convolution of few channels, then max-pooling: what is between them never leaves the cache (conv/banded.py)."""

    conv: Conv2D
    pool: MaxPool2D

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        windows = self.conv.windows(x.shape)
        return banded.correlate(x, work.p["weight"], work.p.get("bias"), windows, work, self._pooling())

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """Implement `Layer.backward`."""
        windows = self.conv.windows(work.x.shape)
        banded.gradients(dy, work.g["weight"], work.g.get("bias"), windows, work, self._pooling())
        if not work.wanted:
            return None
        # The gradient of the outputs before pooling is needed as a whole here: (rows, columns, N, channels).
        shape = (*windows.outputs, *dy.shape[2:])
        between = work.array("between", shape, dy.dtype)  # 0 from the start where no window is
        size, winner = pair(self.pool.size), as_rows(work.last("winner"))
        work.loops.maxpool_gradient(as_rows(dy), winner, *size, *size, False, as_rows(between))
        return dispatch.transposed(between, work.p["weight"], None, windows, work.x.shape, work)

    def _pooling(self) -> banded.Pooling:
        return banded.Pooling(pair(self.pool.size), self.pool.rectify)


class NormReLU(Layer, frozen=True, kw_only=True):
    """Batch normalisation, then relu: one pass over the image."""

    norm: BatchNorm2D

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        y = work.array("y", x.shape, x.dtype)
        work.loops.affine(as_rows(x), *self.norm.coefficients(x, work), True, as_rows(y))
        return y

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """Implement `Layer.backward`."""
        return self.norm.backward(_through_relu(dy, work), work)


class NormPool(Layer, frozen=True, kw_only=True):
    """Batch normalisation and max-pooling, with or without relu: pooled first, so that less is normalised.

    All numbers of a channel have the same scale and shift, and rounding keeps their order: the maximum of a window is
    what its largest number becomes, or its smallest where `scale` is below 0. (Two numbers that differ may be rounded
    to the same one: then the larger one gets the gradient, not the first.)
    """

    norm: BatchNorm2D
    pool: MaxPool2D

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        scale, shift = self.norm.coefficients(x, work)  # (N * C,)
        shape = (*self.pool.count(x.shape), *x.shape[2:])  # (rows, columns, N, C)
        extremes, y = (work.array(name, shape, x.dtype) for name in ("extremes", "y"))
        winner = as_rows(work.array("winner", shape, winner_type(pair(self.pool.size))))
        sign = np.where(scale < 0, x.dtype.type(-1), x.dtype.type(1))  # (N * C,): -1 asks for the smallest number
        work.loops.extremes(as_rows(x), sign, *pair(self.pool.size), *self.pool.strides(), as_rows(extremes), winner)
        work.loops.affine(as_rows(extremes), scale, shift, self.pool.rectify, as_rows(y))
        return y

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """Implement `Layer.backward`."""
        part = as_rows(_through_relu(dy, work) if self.pool.rectify else dy)  # (rows, columns, N * C)
        self.norm.gradients(part, as_rows(work.last("extremes")), work)
        if not work.wanted:
            return None
        slope, scale, shift = self.norm.slopes(work)  # (N * C,)
        # dy reaches the extremes alone, but the means of the statistics reach every pixel: x * scale + shift.
        sloped = np.multiply(part, slope, out=work.scratch("sloped", part.shape, dy.dtype))
        dx = work.array("dx", work.x.shape, dy.dtype)  # (H, W, N, C)
        places = *pair(self.pool.size), *self.pool.strides()
        winner = as_rows(work.last("winner"))
        work.loops.extremes_gradient(sloped, winner, as_rows(work.x), scale, shift, *places, as_rows(dx))
        return dx


def _through_relu(dy: Array, work: Workspace) -> Array:
    """Return the gradient of the input of the relu that gave `work.y`."""
    out = work.array("between", dy.shape, dy.dtype)
    work.loops.relu_gradient(np.ravel(dy), np.ravel(work.y), np.ravel(out))
    return out


def _rectified(pool: MaxPool2D) -> RectifiedPool:
    return RectifiedPool(**msgspec.structs.asdict(pool))


def _conv_pool(conv: Conv2D, pool: MaxPool2D, shape: Shape) -> ConvPool | None:
    side_by_side = pair(pool.size) == pool.strides()  # bands end between windows
    way = dispatch.way(shape[:2], conv.parameters(shape)["weight"].shape, conv.windows(shape))
    return ConvPool(conv=conv, pool=pool) if side_by_side and way is banded else None


def _norm_pool(norm: BatchNorm2D, pool: MaxPool2D) -> NormPool | None:
    return None if pool.overlaps() else NormPool(norm=norm, pool=pool)


# By the types of two neighbours; only the first may have parameters. `shape`: that of its input. None: not to be fused.
_FUSED: dict[tuple[type, type], Callable[..., Layer | None]] = {
    (ReLU, MaxPool2D): lambda _relu, pool, _shape: _rectified(pool),
    (MaxPool2D, ReLU): lambda pool, _relu, _shape: _rectified(pool),
    (Conv2D, MaxPool2D): _conv_pool,
    (Conv2D, RectifiedPool): _conv_pool,
    (ConvPool, ReLU): lambda both, _relu, _shape: ConvPool(conv=both.conv, pool=_rectified(both.pool)),
    (BatchNorm2D, ReLU): lambda norm, _relu, _shape: NormReLU(norm=norm),
    (BatchNorm2D, MaxPool2D): lambda norm, pool, _shape: _norm_pool(norm, pool),
    (NormReLU, MaxPool2D): lambda both, pool, _shape: _norm_pool(both.norm, _rectified(pool)),
    (NormPool, ReLU): lambda both, _relu, _shape: NormPool(norm=both.norm, pool=_rectified(both.pool)),
}


def fused(first: Layer, second: Layer, shape: Shape) -> Layer | None:
    """Return one layer for two, the first of which takes inputs of `shape`; None if they cannot be fused."""
    make = _FUSED.get((type(first), type(second)))
    return make(first, second, shape) if make else None
