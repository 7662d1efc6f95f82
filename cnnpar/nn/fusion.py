"""Fused layers: neighbours run as one, the same network with fewer trips to memory.

Configurations, names and checkpoints have the single layers; a fused layer has no parameters of its own, and no `type`.
"""

from collections.abc import Callable
from typing import ClassVar, cast

import msgspec
import numpy as np

from cnnpar.nn.conv import banded, dispatch, winograd
from cnnpar.nn.conv.pooling import Pooling
from cnnpar.nn.layers import BatchNorm2D, Conv2D, MaxPool2D, ReLU
from cnnpar.nn.layers.base import Layer
from cnnpar.nn.loops.interface import winner_type
from cnnpar.nn.shapes import Array, Shape, as_rows, pair
from cnnpar.nn.workspace import Workspace

RELU = Pooling((1, 1), True)


class RectifiedPool(MaxPool2D, frozen=True):
    """Max-pooling and relu, in either order: they commute exactly, gradients included.

    The maximum of a window is the same number whether relu comes before or after, and where it is not positive no
    gradient passes either way.
    """

    rectify: ClassVar[bool] = True


class ConvPool(Layer, frozen=True, kw_only=True):
    """Convolution, then max-pooling, relu or both: what is between them never leaves the cache (conv/pooling.py)."""

    conv: Conv2D
    pooling: Pooling

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        windows = self.conv.windows(x.shape)
        correlate = winograd.correlate if self._tiled(x.shape, work) else banded.correlate
        return correlate(x, work.p["weight"], work.p.get("bias"), windows, work, self.pooling)

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """Implement `Layer.backward`."""
        windows, shape, bias = self.conv.windows(work.x.shape), work.x.shape, work.g.get("bias")
        if self._tiled(shape, work):
            dx = work.array("dx", shape, dy.dtype) if work.wanted else None
            if dx is not None:
                dx.fill(0)  # tiles overlap, and add to it
            winograd.gradients(dy, work.g["weight"], bias, windows, work, dx, self.pooling)
            return dx
        banded.gradients(dy, work.g["weight"], bias, windows, work, self.pooling)
        if not work.wanted:
            return None
        # The gradient of the outputs before pooling is needed as a whole here: (rows, columns, N, channels).
        between = work.array("between", (*windows.outputs, *dy.shape[2:]), dy.dtype)  # 0 where no window is
        self.pooling.backward(as_rows(dy), as_rows(work.last("winner")), as_rows(between), work)
        return dispatch.transposed(between, work.p["weight"], None, windows, shape, work)

    def _tiled(self, shape: Shape, work: Workspace) -> bool:
        """Tell whether images (H, W, ...) are convolved in tiles, by Winograd's filtering, or else in bands."""
        return dispatch.way(shape[:2], work.p["weight"].shape, self.conv.windows(shape)) is winograd


class NormReLU(Layer, frozen=True, kw_only=True):
    """Batch normalisation, then relu: one pass over the image."""

    norm: BatchNorm2D

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        y = work.array("y", x.shape, x.dtype)
        scale, shift = self.norm.coefficients(x, work)  # (N * C,)
        work.saved["relu"] = scale, shift  # where they give 0 or less, no gradient passes
        work.loops.affine(as_rows(x), scale, shift, True, as_rows(y))
        return y

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """Implement `Layer.backward`."""
        relu = cast("tuple[Array, Array]", work.saved["relu"])
        gradient, x = as_rows(dy), as_rows(work.x)
        self.norm.gradients(gradient, x, work, relu)
        if not work.wanted:
            return None
        dx = work.array("dx", dy.shape, dy.dtype)
        work.loops.rectified_gradient(gradient, x, relu, self.norm.slopes(work), as_rows(dx))
        return dx


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
    """Fuse a convolution with pooling, where windows lie side by side and the convolution's bands end between them."""
    pooling = Pooling(pair(pool.size), pool.rectify)
    kernel = conv.parameters(shape)["weight"].shape
    way = dispatch.way(shape[:2], kernel, conv.windows(shape))
    if pooling.size != pool.strides() or not (way is banded or (way is winograd and winograd.pools(kernel, pooling))):
        return None
    return ConvPool(conv=conv, pooling=pooling)


def _conv_relu(conv: Conv2D, _relu: ReLU, shape: Shape) -> ConvPool | None:
    return _conv_pool(conv, RectifiedPool(size=1), shape)


def _pool_again(both: ConvPool, pool: MaxPool2D, shape: Shape) -> ConvPool | None:
    """Fuse pooling with a convolution and its relu."""
    return _conv_pool(both.conv, _rectified(pool), shape) if both.pooling == RELU else None


def _relu_again(both: ConvPool, _relu: ReLU, _shape: Shape) -> ConvPool:
    return ConvPool(conv=both.conv, pooling=both.pooling._replace(rectify=True))


def _norm_pool(norm: BatchNorm2D, pool: MaxPool2D) -> NormPool | None:
    return None if pool.overlaps() else NormPool(norm=norm, pool=pool)


# By the types of two neighbours; only the first may have parameters. `shape`: that of its input. None: not to be fused.
_FUSED: dict[tuple[type, type], Callable[..., Layer | None]] = {
    (ReLU, MaxPool2D): lambda _relu, pool, _shape: _rectified(pool),
    (MaxPool2D, ReLU): lambda pool, _relu, _shape: _rectified(pool),
    (Conv2D, ReLU): _conv_relu,
    (Conv2D, MaxPool2D): _conv_pool,
    (Conv2D, RectifiedPool): _conv_pool,
    (ConvPool, MaxPool2D): _pool_again,
    (ConvPool, ReLU): _relu_again,
    (BatchNorm2D, ReLU): lambda norm, _relu, _shape: NormReLU(norm=norm),
    (BatchNorm2D, MaxPool2D): lambda norm, pool, _shape: _norm_pool(norm, pool),
    (NormReLU, MaxPool2D): lambda both, pool, _shape: _norm_pool(both.norm, _rectified(pool)),
    (NormPool, ReLU): lambda both, _relu, _shape: NormPool(norm=both.norm, pool=_rectified(both.pool)),
}


def fused(first: Layer, second: Layer, shape: Shape) -> Layer | None:
    """Return one layer for two, the first of which takes inputs of `shape`; None if they cannot be fused."""
    make = _FUSED.get((type(first), type(second)))
    return make(first, second, shape) if make else None
