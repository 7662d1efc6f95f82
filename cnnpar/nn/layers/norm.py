"""Normalisation, by the statistics of each channel, of groups of channels, or of a whole sample."""

import math
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from cnnpar.errors import InputError
from cnnpar.nn.layers.base import Buffer, Layer, Parameter, Positive, image_shape, register
from cnnpar.nn.loops.interface import Sums
from cnnpar.nn.shapes import Array, Shape, as_rows
from cnnpar.nn.workspace import Workspace

Epsilon = Annotated[float, Meta(gt=0, le=1)]  # added to a variance


@register
class BatchNorm2D(Layer, frozen=True, kw_only=True, tag="batchnorm2d"):
    """Each channel with mean 0 and variance 1, over the pixels of a microbatch; then scaled and shifted.

    Ioffe and Szegedy 2015, algorithm 1. Statistics are those of the microbatch alone (ghost batch normalisation,
    Hoffer et al. 2017), so they do not depend on the number of workers. In evaluation they are the running ones, which
    each step moves by the share `momentum` to the mean of its microbatches; the variance that is remembered is the
    unbiased one, as PyTorch's. A frozen layer uses the running statistics in training too, as constants.
    """

    kind: ClassVar[str] = "batchnorm"

    momentum: Annotated[float, Meta(gt=0, le=1)] = 0.1
    epsilon: Epsilon = 1e-5

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
        if not work.training:
            return
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
        slope = work.p["scale"] * inverse
        if not work.training:
            across = _spread(slope, work.x)
            return across, np.zeros_like(across), np.zeros_like(across)
        total, product = work.saved["totals"]
        scale = -slope * inverse * product / math.prod(work.x.shape[:3])
        shift = -slope * total / math.prod(work.x.shape[:3]) - scale * mean
        return _spread(slope, work.x), _spread(scale, work.x), _spread(shift, work.x)


@register
class GroupNorm(Layer, frozen=True, kw_only=True, tag="groupnorm"):
    """Each of `groups` of neighbouring channels with mean 0 and variance 1 in each sample; then scaled and shifted.

    Wu and He 2018, section 3. One group is all channels together; as many groups as channels is instance
    normalisation. scale and shift: (C,), a vector's features being channels of a single pixel. Statistics are the
    sample's own, in training and evaluation alike.
    """

    kind: ClassVar[str] = "groupnorm"

    groups: Positive
    epsilon: Epsilon = 1e-5

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        if shape[-1] % self.groups:
            raise InputError(f"{self.groups:,} groups do not divide the {shape[-1]:,} channels of its input {shape}")
        return shape

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """See Layer."""
        return {"scale": Parameter(shape[-1:], "ones"), "shift": Parameter(shape[-1:])}

    def forward(self, x: Array, work: Workspace) -> Array:
        """See Layer."""
        mean, square = self._means(_by_number(x, x, work), work)
        inverse = 1 / np.sqrt(np.maximum(square - mean * mean, 0) + self.epsilon)
        work.saved["statistics"] = mean, inverse
        scale = work.p["scale"] * inverse
        y = work.array("y", x.shape, x.dtype)
        shift = work.p["shift"] - mean * scale
        work.loops.affine(_pixels(x, work), _spread(scale, x), _spread(shift, x), False, _pixels(y, work))
        return y

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """See Layer."""
        mean, inverse = work.saved["statistics"]
        sums = _by_number(dy, work.x, work)
        sums[1] = (sums[1] - mean * sums[0]) * inverse
        work.g["shift"][...], work.g["scale"][...] = sums.sum(axis=1)
        if not work.wanted:
            return None
        total, product = self._means(work.p["scale"] * sums, work)
        scale = -inverse * inverse * product
        numbers = work.p["scale"] * inverse, scale, -inverse * total - scale * mean
        slope, scale, shift = (_spread(values, work.x) for values in numbers)
        dx = work.array("dx", dy.shape, dy.dtype)
        work.loops.affine_gradient(_pixels(dy, work), _pixels(work.x, work), slope, scale, shift, _pixels(dx, work))
        return dx

    def _means(self, sums: Sums, work: Workspace) -> Sums:
        """For each channel the mean in its group, given sums over the pixels (2, N, C)."""
        samples, channels = work.x.shape[-2:]
        groups = sums.reshape(2, samples, self.groups, -1)
        count = work.x.size // (samples * self.groups)
        return np.repeat(groups.sum(axis=3) / count, channels // self.groups, axis=2)


@register
class LayerNorm(Layer, frozen=True, kw_only=True, tag="layernorm"):
    """All numbers of each sample with mean 0 and variance 1; then each scaled and shifted by its own.

    Ba et al. 2016, section 3. scale and shift: (H, W, C), or (features,). Statistics are the sample's own, in training
    and evaluation alike.
    """

    kind: ClassVar[str] = "layernorm"

    epsilon: Epsilon = 1e-5

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """See Layer."""
        return {"scale": Parameter(shape, "ones"), "shift": Parameter(shape)}

    def forward(self, x: Array, work: Workspace) -> Array:
        """See Layer."""
        mean, square = _by_sample(x, x, work)
        inverse = 1 / np.sqrt(np.maximum(square - mean * mean, 0) + self.epsilon)
        work.saved["inverse"] = (inverse,)
        normal, y = (work.array(name, x.shape, x.dtype) for name in ("normal", "y"))
        numbers = _spread(inverse, x), _spread(-mean * inverse, x)
        work.loops.affine(_pixels(x, work), *numbers, False, _pixels(normal, work))
        np.multiply(normal, _for_all(work.p["scale"], x), out=y)
        y += _for_all(work.p["shift"], x)
        return y

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """See Layer."""
        normal, scaled = work.last("normal"), work.scratch("scaled", dy.shape, dy.dtype)
        _over_samples(dy, work.g["shift"])
        _over_samples(np.multiply(dy, normal, out=scaled), work.g["scale"])
        if not work.wanted:
            return None
        np.multiply(dy, _for_all(work.p["scale"], dy), out=scaled)
        (inverse,), (total, product) = work.saved["inverse"], _by_sample(scaled, normal, work)
        slope, scale, shift = (_spread(values, dy) for values in (inverse, -inverse * product, -inverse * total))
        dx = work.array("dx", dy.shape, dy.dtype)
        work.loops.affine_gradient(_pixels(scaled, work), _pixels(normal, work), slope, scale, shift, _pixels(dx, work))
        return dx


def _pixels(x: Array, work: Workspace) -> Array:
    """Images or vectors as one row of pixels, (1, pixels, N * C); a vector is one pixel."""
    return np.ascontiguousarray(x).reshape(1, -1, math.prod(work.x.shape[-2:]))


def _by_number(x: Array, y: Array, work: Workspace) -> Sums:
    """The sums over the pixels of x and of x * y, (2, N, C); they lie in the scratch memory."""
    out: Any = work.scratch("moments", (2, math.prod(work.x.shape[-2:])), np.dtype(np.float64))
    work.loops.moments(_pixels(x, work), _pixels(y, work), out)
    sums: Sums = out.reshape(2, *work.x.shape[-2:])
    return sums


def _by_channel(x: Array, y: Array, work: Workspace) -> Sums:
    """For each channel the sums of x and of x * y, (2, C)."""
    sums: Sums = _by_number(x, y, work).sum(axis=1)
    return sums


def _by_sample(x: Array, y: Array, work: Workspace) -> Sums:
    """For each sample the means of x and of x * y, (2, N, 1)."""
    means: Sums = _by_number(x, y, work).sum(axis=2, keepdims=True) / (x.size // x.shape[-2])
    return means


def _spread(values: Sums, x: Array) -> Array:
    """Values of channels (C,), samples (N, 1) or both (N, C), for the numbers of a pixel of x side by side."""
    return np.broadcast_to(values.astype(x.dtype), x.shape[-2:]).flatten()


def _for_all(values: Array, x: Array) -> Array:
    """What each number of a sample has of its own, (H, W, C) or (features,), for all samples of x."""
    return np.repeat(np.expand_dims(values, -2), x.shape[-2], axis=-2)


def _over_samples(x: Array, out: Array) -> None:
    """Write the sums over the samples of images or vectors, at the speed of a product."""
    np.matmul(np.ones((1, x.shape[-2]), x.dtype), x, out=np.expand_dims(out, -2))
