"""Dense (fully connected) layer, and the flattening of images before it."""

import math
from typing import ClassVar

import msgspec
import numpy as np

from cnnpar.errors import InputError
from cnnpar.nn.layers.base import Init, Layer, Parameter, Positive, register
from cnnpar.nn.shapes import Array, Shape
from cnnpar.nn.workspace import Workspace

_MANY = 48  # samples; with as many or more, transposing the gradient of the input takes longer than it saves


@register
class Dense(Layer, frozen=True, tag="dense"):
    """Dense layer: y = x W + b, with x (N, features), W (features, units), b (units,).

    `units` left out means the number of classes, which the last layer needs.
    """

    kind: ClassVar[str] = "dense"

    units: Positive | msgspec.UnsetType = msgspec.UNSET
    init: Init = "he"

    def output_shape(self, shape: Shape) -> Shape:
        """Implement `Layer.output_shape`."""
        if len(shape) != 1:
            raise InputError(f"needs a vector, but its input is {shape}; put `flatten` or `globalavgpool2d` before it")
        return (self._units(),)

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """Implement `Layer.parameters`."""
        units, (features,) = self._units(), shape
        return {"weight": Parameter((features, units), self.init, features, units), "bias": Parameter((units,))}

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        y = np.matmul(x, work.p["weight"], out=work.array("y", (len(x), self._units()), x.dtype))
        y += work.p["bias"]
        return y

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """Implement `Layer.backward`."""
        np.matmul(work.x.T, dy, out=work.g["weight"])  # (features, N) by (N, units): summed over samples
        np.add.reduce(dy, axis=0, out=work.g["bias"])
        if not work.wanted:
            return None
        dx = work.array("dx", work.x.shape, dy.dtype)
        if len(dx) >= _MANY:
            return np.matmul(dy, work.p["weight"].T, out=dx)
        transposed = work.scratch("transposed", dx.T.shape, dy.dtype)  # (features, N)
        dx[...] = np.matmul(work.p["weight"], dy.T, out=transposed).T  # twice as fast: W is read in its own order
        return dx

    def _units(self) -> int:
        assert self.units is not msgspec.UNSET, "the network fills in the number of classes"
        return self.units


@register
class Flatten(Layer, frozen=True, tag="flatten"):
    """Flattening: an image (H, W, C) becomes a vector of H * W * C features, in that order; a vector stays one."""

    kind: ClassVar[str] = "flatten"

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of the vector."""
        return (math.prod(shape),)

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        if x.ndim == 2:
            return x
        height, width, samples, channels = x.shape
        y = work.array("y", (samples, height * width * channels), x.dtype)
        y.reshape(samples, height, width, channels)[...] = x.transpose(2, 0, 1, 3)  # samples lie side by side in x
        return y

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Implement `Layer.backward`."""
        if work.x.ndim == 2:
            return dy
        height, width, samples, channels = work.x.shape
        dx = work.array("dx", work.x.shape, dy.dtype)
        dx[...] = dy.reshape(samples, height, width, channels).transpose(1, 2, 0, 3)
        return dx
