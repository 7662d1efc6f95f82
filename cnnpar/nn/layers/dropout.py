"""Dropout."""

from typing import ClassVar

import numpy as np

from cnnpar.config.float32 import Factor
from cnnpar.nn.layers.base import Layer, register
from cnnpar.nn.shapes import Array
from cnnpar.nn.workspace import Workspace


@register
class Dropout(Layer, frozen=True, tag="dropout"):
    """Dropout: in training, each number is 0 with probability `rate`, else divided by 1 - rate.

    Srivastava et al. 2014, in the inverted form: the expected output is the input, which evaluation returns unchanged.
    """

    kind: ClassVar[str] = "dropout"
    random: ClassVar[bool] = True

    rate: Factor = 0.5

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        if work.generator is None:  # evaluation
            return x
        factors = work.array("factors", x.shape, x.dtype)
        kept = work.generator.random(x.shape, np.float32) >= self.rate  # float32 whatever x is: one stream, one mask
        np.multiply(kept, 1 / (1 - self.rate), out=factors, casting="same_kind")
        return np.multiply(x, factors, out=work.array("y", x.shape, x.dtype))

    def backward(self, dy: Array, work: Workspace) -> Array:
        """Implement `Layer.backward`."""
        if work.y is work.x:  # nothing was dropped
            return dy
        return np.multiply(dy, work.last("factors"), out=work.array("dx", dy.shape, dy.dtype))
