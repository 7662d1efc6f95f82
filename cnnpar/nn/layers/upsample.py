"""Upsampling of images, one axis after the other."""

from typing import ClassVar, Literal

import numpy as np

from cnnpar.nn.layers.base import Layer, at_least, image_shape, register
from cnnpar.nn.shapes import Array, Pair, Shape, as_rows, pair
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
        down, across = pair(self.factor)
        height, width = x.shape[:2]
        y = work.array("y", (height * down, width * across, *x.shape[2:]), x.dtype)
        # (H * down, W, N * C): rows first. Columns are rows of the transposed view.
        between = as_rows(work.array("between", (height * down, *x.shape[1:]), x.dtype))
        self._stretch(as_rows(x), down, between, work)
        self._stretch(between.swapaxes(0, 1), across, as_rows(y).swapaxes(0, 1), work)
        return y

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Implement `Layer.backward`."""
        down, across = pair(self.factor)
        dx, between = work.array("dx", work.x.shape, dy.dtype), as_rows(work.last("between"))
        self._gather(as_rows(dy).swapaxes(0, 1), across, between.swapaxes(0, 1), work)
        self._gather(between, down, as_rows(dx), work)
        return dx

    def _stretch(self, x: Array, factor: int, out: Array, work: Workspace) -> None:
        """Write `factor` rows for each row of x."""
        for phase, shift in enumerate(self._shifts(factor)):  # row `phase` of every `factor`
            np.multiply(x, 1 - abs(shift), out=out[phase::factor])
            for rows, sources in _beside(phase, shift, factor):
                source = x[sources]  # neighbours on the side of the shift
                out[rows] += np.multiply(source, abs(shift), out=work.scratch("term", source.shape, x.dtype))

    def _gather(self, dy: Array, factor: int, out: Array, work: Workspace) -> None:
        """Write the gradient of x in `_stretch`, given that of its output: its transpose."""
        term = work.scratch("term", out.shape, dy.dtype)
        for phase, shift in enumerate(self._shifts(factor)):  # dy: (rows * factor, ...), out: (rows, ...)
            # The first phase overwrites, the others add, always in this order.
            own = np.multiply(dy[phase::factor], 1 - abs(shift), out=term if phase else out)
            if phase:
                out += own
            for rows, sources in _beside(phase, shift, factor):
                out[sources] += np.multiply(dy[rows], abs(shift), out=term[: len(dy[rows])])

    def _shifts(self, factor: int) -> list[float]:
        """Return the distances, in rows of x, from the centre of a row to those of the `factor` rows made of it."""
        return [(phase + 0.5) / factor - 0.5 if self.mode == "bilinear" else 0.0 for phase in range(factor)]


def _beside(phase: int, shift: float, factor: int) -> list[tuple[slice, slice]]:
    """Return pairs of slices: rows `phase` of every `factor`, and the row of x beside the one that each is made of.

    For a shift below 0 that is the row above, else the row below; at the edge it is the outermost row itself.
    """
    if shift < 0:
        return [(slice(phase + factor, None, factor), slice(None, -1)), (slice(phase, phase + 1), slice(1))]
    if shift > 0:
        last = phase - factor
        return [(slice(phase, -factor, factor), slice(1, None)), (slice(last, last + 1 or None), slice(-1, None))]
    return []
