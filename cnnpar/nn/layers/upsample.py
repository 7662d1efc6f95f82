"""Upsampling of images: copies of pixels, or weighted sums of those around, one axis after the other."""

from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np

from cnnpar.nn.layers.base import Layer, at_least, image_shape, register
from cnnpar.nn.shapes import Array, Indices, Pair, Shape, as_rows, pair
from cnnpar.nn.workspace import Workspace


@register
class Upsample2D(Layer, frozen=True, kw_only=True, tag="upsample2d"):
    """Upsampling to `factor` times as many rows and columns: one number, or [vertical, horizontal].

    "nearest" repeats each pixel. "bilinear" interpolates between the centres of pixels; beyond the outermost centres it
    repeats the outermost pixels (PyTorch's align_corners=False).
    """

    kind: ClassVar[str] = "upsample"

    factor: int | Pair = 2
    mode: Literal["nearest", "bilinear"] = "nearest"

    def __post_init__(self) -> None:
        at_least("factor", self.factor, 1)

    def output_shape(self, shape: Shape) -> Shape:
        """Return (H * factor, W * factor, C)."""
        (height, width, channels), (down, across) = image_shape(shape), pair(self.factor)
        return height * down, width * across, channels

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        (height, width), (down, across) = x.shape[:2], pair(self.factor)
        y = work.array("y", (height * down, width * across, *x.shape[2:]), x.dtype)
        if self.mode == "nearest":
            self._blocks(y)[...] = as_rows(x)[:, np.newaxis, :, np.newaxis]
            return y
        rows, columns = self._axes(x)
        between = work.array("between", (height * down, *x.shape[1:]), x.dtype)  # rows first
        work.loops.weighted_sums(_as_line(x), *rows.outputs, _as_line(between))
        work.loops.weighted_sums(as_rows(between), *columns.outputs, as_rows(y))
        return y

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Implement `Layer.backward`."""
        dx = work.array("dx", work.x.shape, dy.dtype)
        if self.mode == "nearest":
            total, blocks = as_rows(dx), self._blocks(dy)
            total[...] = blocks[:, 0, :, 0]
            for i, j in list(np.ndindex(*pair(self.factor)))[1:]:  # in this order
                total += blocks[:, i, :, j]
            return dx
        (rows, columns), between = self._axes(work.x), work.last("between")
        work.loops.weighted_sums(as_rows(dy), *columns.gradients, as_rows(between))
        work.loops.weighted_sums(_as_line(between), *rows.gradients, _as_line(dx))
        return dx

    def _blocks(self, y: Array) -> Array:
        """Return images as the pixels that are made of each one, a view (H, down, W, across, N * C)."""
        down, across = pair(self.factor)
        return as_rows(y).reshape(len(y) // down, down, y.shape[1] // across, across, -1)

    def _axes(self, x: Array) -> "list[_Axis]":
        """Return how the rows and the columns of x (H, W, N, C) are upsampled."""
        return [_axis(size, factor, x.dtype) for size, factor in zip(x.shape, pair(self.factor), strict=False)]


Sums: TypeAlias = tuple[Indices, Indices, Array]  # starts, places and weights of `Loops.weighted_sums`


class _Axis(NamedTuple):
    """Interpolation along an axis: its outputs as sums of its inputs, and the gradients of these, as the transpose."""

    outputs: Sums
    gradients: Sums


# By value: both passes of every layer ask for it.
@lru_cache(maxsize=256)
def _axis(size: int, factor: int, dtype: np.dtype[Any]) -> _Axis:
    """Return the sums of an axis of `size` pixels."""
    outputs: list[dict[int, float]] = []  # for each output: weights by input
    gradients: list[dict[int, float]] = [{} for _ in range(size)]  # for each input: weights by output
    for place in range(size * factor):
        source, phase = divmod(place, factor)
        shift = (phase + 0.5) / factor - 0.5  # distance, in inputs, from the centre of the input to that of the output
        beside = min(max(source + (1 if shift > 0 else -1), 0), size - 1)  # at the edge the outermost input itself
        alone = shift == 0 or beside == source
        outputs.append({source: 1.0} if alone else {source: 1 - abs(shift), beside: abs(shift)})
        for each, weight in outputs[-1].items():
            gradients[each][place] = weight
    return _Axis(_sums(outputs, dtype), _sums(gradients, dtype))


def _sums(weights: list[dict[int, float]], dtype: np.dtype[Any]) -> Sums:
    """Return the arguments of `Loops.weighted_sums` for sums whose weights are given by place."""
    starts = np.cumsum([0, *map(len, weights)])
    places = np.array([place for terms in weights for place in terms])
    return starts, places, np.array([weight for terms in weights for weight in terms.values()], dtype)


def _as_line(x: Array) -> Array:
    """Return images (H, W, N, C) as a line of H pixels, (1, H, W * N * C)."""
    return np.ascontiguousarray(x).reshape(1, x.shape[0], -1)
