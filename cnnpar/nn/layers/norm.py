"""Normalisation."""

import math
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from cnnpar.nn.kernels import Array, Shape, as_rows
from cnnpar.nn.layers.base import Buffer, Layer, Parameter, Workspace, image_shape, register
from cnnpar.nn.loops import Sums


@register
class BatchNorm2D(Layer, frozen=True, kw_only=True, tag="batchnorm2d"):
    """Each channel with mean 0 and variance 1, over the pixels of a microbatch; then scaled and shifted.

    Ioffe and Szegedy 2015, algorithm 1. Statistics are those of the microbatch alone (ghost batch normalisation,
    Hoffer et al. 2017), so they do not depend on the number of workers. In evaluation they are the running ones, which
    each step moves by the share `momentum` to the mean of its microbatches; the variance that is remembered is the
    unbiased one, as PyTorch's.
    """

    kind: ClassVar[str] = "batchnorm"

    momentum: Annotated[float, Meta(gt=0, le=1)] = 0.1
    epsilon: Annotated[float, Meta(gt=0, le=1)] = 1e-5

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        return image_shape(shape)

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """See Layer."""
        return {"scale": Parameter(shape[2:], "ones"), "shift": Parameter(shape[2:])}

    def buffers(self, shape: Shape) -> dict[str, Buffer]:
        """See Layer."""
        return {"mean": Buffer(shape[2:], 0.0, self.momentum), "variance": Buffer(shape[2:], 1.0, self.momentum)}

    def forward(self, x: Array, work: Workspace) -> Array:
        """See Layer."""
        y = work.array("y", x.shape, x.dtype)
        work.loops.affine(as_rows(x), *self.coefficients(x, work), False, as_rows(y))
        return y

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """See Layer."""
        self.gradients(as_rows(dy), as_rows(work.x), work)
        if not work.wanted:
            return None
        dx = work.array("dx", dy.shape, dy.dtype)
        work.loops.affine_gradient(as_rows(dy), as_rows(work.x), *self.slopes(work), as_rows(dx))
        return dx

    def coefficients(self, x: Array, work: Workspace) -> tuple[Array, Array]:
        """What a number is multiplied by, and what is added then: for each of a pixel's numbers (N * C,).

        In training the statistics are taken from x, and kept.
        """
        if work.training:
            count = math.prod(x.shape[:3])
            mean, square = _by_channel(x, x, work) / count
            variance = np.maximum(square - mean * mean, 0)
            work.saved["seen"] = mean, variance * (count / max(count - 1, 1))
        else:
            mean, variance = (work.p[name].astype(np.float64) for name in ("mean", "variance"))
        inverse = 1 / np.sqrt(variance + self.epsilon)
        work.saved["statistics"] = mean, inverse
        scale = work.p["scale"] * inverse
        return _spread(scale, x), _spread(work.p["shift"] - mean * scale, x)

    def gradients(self, dy: Array, x: Array, work: Workspace) -> None:
        """Write the gradients, of dy and the inputs that it belongs to, as (H, W, N * C); keep what `slopes` needs."""
        mean, inverse = work.saved["statistics"]
        total, product = _by_channel(dy, x, work)
        work.saved["totals"] = total, (product - mean * total) * inverse
        work.g["shift"][...], work.g["scale"][...] = work.saved["totals"]
        samples = work.x.shape[2]
        for name, value in zip(("mean", "variance"), work.saved["seen"], strict=True):
            np.multiply(value, samples, out=work.g[name], casting="same_kind")

    def slopes(self, work: Workspace) -> tuple[Array, Array, Array]:
        """What the gradient of the output and the input are multiplied by to give that of the input, and an addend."""
        mean, inverse = work.saved["statistics"]
        total, product = work.saved["totals"]
        slope = work.p["scale"] * inverse
        scale = -slope * inverse * product / math.prod(work.x.shape[:3])
        shift = -slope * total / math.prod(work.x.shape[:3]) - scale * mean
        return _spread(slope, work.x), _spread(scale, work.x), _spread(shift, work.x)


def _by_channel(x: Array, y: Array, work: Workspace) -> Sums:
    """For each channel the sums of x and of x * y, (2, C), of images (H, W, N, C) or (H, W, N * C)."""
    x, y = as_rows(x), as_rows(y)
    out: Any = work.scratch("moments", (2, x.shape[2]), np.dtype(np.float64))
    work.loops.moments(x, y, out)
    sums: Sums = out.reshape(2, work.x.shape[2], -1).sum(axis=1)
    return sums


def _spread(values: Sums, x: Array) -> Array:
    """One number for each channel, for all samples of x (H, W, N, C) side by side."""
    return np.tile(values.astype(x.dtype), x.shape[2])
