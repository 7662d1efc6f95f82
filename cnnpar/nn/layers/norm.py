"""Normalisation by the statistics of each channel, of groups of channels, or of a whole sample.

All three have the same form: with x' = (x - mean) * inverse and inverse = 1 / sqrt(variance + epsilon), the output is
scale * x' + shift. Mean and variance come from sums of x and x^2 in float64, and to normalise is one multiplication
and one addition a number. With d = dy * scale, the gradient of x', the gradient of x is

    inverse * (d - mean(d) - x' * mean(d * x'))

(Ioffe and Szegedy 2015, section 3), computed as a multiple of dy, plus a multiple of x, plus an addend, which differ by
channel or sample only. Shapes: images (H, W, N, C), vectors (N, C) with C features.
"""

import math
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from cnnpar.errors import InputError
from cnnpar.nn.layers.base import Buffer, Layer, Parameter, Positive, image_shape, register
from cnnpar.nn.shapes import Array, Shape, Statistics, as_rows
from cnnpar.nn.workspace import Workspace

Epsilon = Annotated[float, Meta(gt=0, le=1)]  # added to a variance


@register
class BatchNorm2D(Layer, frozen=True, kw_only=True, tag="batchnorm2d"):
    """Batch normalisation: each channel gets mean 0 and variance 1 over a microbatch, then is scaled and shifted.

    Ioffe and Szegedy 2015, algorithm 1. Statistics are those of the microbatch alone (ghost batch normalisation,
    Hoffer et al. 2017), so they do not depend on the number of workers. Evaluation uses the running statistics, which
    each step moves by the share `momentum` towards the mean over its microbatches; the running variance is unbiased, as
    PyTorch's. A frozen layer uses the running statistics in training too, as constants. scale and shift: (C,).
    """

    kind: ClassVar[str] = "batchnorm"

    momentum: Annotated[float, Meta(gt=0, le=1)] = 0.1
    epsilon: Epsilon = 1e-5

    def output_shape(self, shape: Shape) -> Shape:
        """Return `shape`. Raises InputError if it is not an image's."""
        return image_shape(shape)

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """Implement `Layer.parameters`."""
        return {"scale": Parameter(shape[2:], "ones"), "shift": Parameter(shape[2:])}

    def buffers(self, shape: Shape) -> dict[str, Buffer]:
        """Implement `Layer.buffers`."""
        return {"mean": Buffer(shape[2:], 0.0, self.momentum), "variance": Buffer(shape[2:], 1.0, self.momentum)}

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        y = work.array("y", x.shape, x.dtype)
        work.loops.affine(as_rows(x), *self.coefficients(x, work), False, as_rows(y))
        return y

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """Implement `Layer.backward`."""
        self.gradients(as_rows(dy), as_rows(work.x), work)
        if not work.wanted:
            return None
        dx = work.array("dx", dy.shape, dy.dtype)
        work.loops.affine_gradient(as_rows(dy), as_rows(work.x), *self.slopes(work), as_rows(dx))
        return dx

    def coefficients(self, x: Array, work: Workspace) -> tuple[Array, Array]:
        """Return the factor and the addend of each of a pixel's numbers, both (N * C,), for the output.

        In training the statistics are those of x (H, W, N, C), and are saved for `gradients`.
        """
        if work.training:
            count = math.prod(x.shape[:3])  # numbers of a channel
            mean, square = _by_channel(x, x, work) / count  # (C,) in float64
            variance = np.maximum(square - mean * mean, 0)  # rounding may go below 0
            work.saved["seen"] = mean, variance * (count / max(count - 1, 1))
        else:
            mean, variance = (work.p[name].astype(np.float64) for name in ("mean", "variance"))
        inverse = 1 / np.sqrt(variance + self.epsilon)
        work.saved["statistics"] = mean, inverse
        scale = work.p["scale"] * inverse
        return _spread(scale, x), _spread(work.p["shift"] - mean * scale, x)

    def gradients(self, dy: Array, x: Array, work: Workspace, relu: tuple[Array, ...] = ()) -> None:
        """Write the gradients of scale and shift, and the statistics; save what `slopes` needs.

        dy and x, the inputs that it belongs to, are (H, W, N * C). Fused with pooling they are only the pooled pixels.
        With a relu behind, dy is the gradient of that, and `relu` are the two `coefficients` of what it is applied to.
        """
        if not work.training:  # frozen: nothing is updated
            return
        mean, inverse = work.saved["statistics"]
        total, product = _by_channel(dy, x, work, relu)  # (C,)
        work.saved["totals"] = total, (product - mean * total) * inverse
        work.g["shift"][...], work.g["scale"][...] = work.saved["totals"]
        # As sums over samples, like gradients: the server divides by the number of samples.
        samples = work.x.shape[2]
        for name, value in zip(("mean", "variance"), work.saved["seen"], strict=True):
            np.multiply(value, samples, out=work.g[name], casting="same_kind")

    def slopes(self, work: Workspace) -> tuple[Array, Array, Array]:
        """Return slope, scale and shift (N * C,): the gradient of the input is dy * slope + (x * scale + shift)."""
        mean, inverse = work.saved["statistics"]
        slope = work.p["scale"] * inverse  # (C,)
        if not work.training:  # running statistics are constants: no gradient goes through them
            across = _spread(slope, work.x)
            return across, np.zeros_like(across), np.zeros_like(across)
        total, product = work.saved["totals"]
        scale = -slope * inverse * product / math.prod(work.x.shape[:3])
        shift = -slope * total / math.prod(work.x.shape[:3]) - scale * mean
        return _spread(slope, work.x), _spread(scale, work.x), _spread(shift, work.x)


@register
class GroupNorm(Layer, frozen=True, kw_only=True, tag="groupnorm"):
    """Group normalisation: groups of neighbouring channels get mean 0 and variance 1 in each sample.

    Wu and He 2018, section 3. Then each channel is scaled and shifted: scale and shift are (C,). As many groups as
    channels is instance normalisation. A vector is a single pixel with its features as channels. Statistics are the
    sample's own, in training and evaluation alike.
    """

    kind: ClassVar[str] = "groupnorm"

    groups: Positive
    epsilon: Epsilon = 1e-5

    def output_shape(self, shape: Shape) -> Shape:
        """Return `shape`. Raises InputError if `groups` does not divide its channels."""
        if shape[-1] % self.groups:
            raise InputError(f"{self.groups:,} groups do not divide the {shape[-1]:,} channels of its input {shape}")
        return shape

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """Implement `Layer.parameters`."""
        return {"scale": Parameter(shape[-1:], "ones"), "shift": Parameter(shape[-1:])}

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        mean, square = self._means(_by_number(x, x, work), work)  # (N, C)
        inverse = 1 / np.sqrt(np.maximum(square - mean * mean, 0) + self.epsilon)
        work.saved["statistics"] = mean, inverse
        scale = work.p["scale"] * inverse
        y = work.array("y", x.shape, x.dtype)
        shift = work.p["shift"] - mean * scale
        work.loops.affine(_pixels(x, work), _spread(scale, x), _spread(shift, x), False, _pixels(y, work))
        return y

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """Implement `Layer.backward`."""
        mean, inverse = work.saved["statistics"]
        sums = _by_number(dy, work.x, work)
        sums[1] = (sums[1] - mean * sums[0]) * inverse  # of dy and dy * x', (2, N, C)
        work.g["shift"][...], work.g["scale"][...] = sums.sum(axis=1)
        if not work.wanted:
            return None
        total, product = self._means(work.p["scale"] * sums, work)  # (N, C)
        scale = -inverse * inverse * product
        numbers = work.p["scale"] * inverse, scale, -inverse * total - scale * mean
        slope, scale, shift = (_spread(values, work.x) for values in numbers)
        dx = work.array("dx", dy.shape, dy.dtype)
        work.loops.affine_gradient(_pixels(dy, work), _pixels(work.x, work), slope, scale, shift, _pixels(dx, work))
        return dx

    def _means(self, sums: Statistics, work: Workspace) -> Statistics:
        """Return the means over each group (2, N, C), repeated for its channels, given sums over pixels (2, N, C)."""
        samples, channels = work.x.shape[-2:]
        groups = sums.reshape(2, samples, self.groups, -1)  # (2, N, groups, C / groups)
        count = work.x.size // (samples * self.groups)  # numbers of a group in a sample
        return np.repeat(groups.sum(axis=3) / count, channels // self.groups, axis=2)


@register
class LayerNorm(Layer, frozen=True, kw_only=True, tag="layernorm"):
    """Layer normalisation: the numbers of each sample get mean 0 and variance 1, then each is scaled and shifted.

    Ba et al. 2016, section 3. scale and shift: (H, W, C), or (features,). Statistics are the sample's own, in training
    and evaluation alike.
    """

    kind: ClassVar[str] = "layernorm"

    epsilon: Epsilon = 1e-5

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """Implement `Layer.parameters`."""
        return {"scale": Parameter(shape, "ones"), "shift": Parameter(shape)}

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        mean, square = _by_sample(x, x, work)  # (N, 1)
        inverse = 1 / np.sqrt(np.maximum(square - mean * mean, 0) + self.epsilon)
        work.saved["inverse"] = (inverse,)
        normal, y = (work.array(name, x.shape, x.dtype) for name in ("normal", "y"))  # normal: x', for `backward`
        numbers = _spread(inverse, x), _spread(-mean * inverse, x)
        work.loops.affine(_pixels(x, work), *numbers, False, _pixels(normal, work))
        np.multiply(normal, _for_all(work.p["scale"], x), out=y)
        y += _for_all(work.p["shift"], x)
        return y

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """Implement `Layer.backward`."""
        normal, scaled = work.last("normal"), work.scratch("scaled", dy.shape, dy.dtype)
        _over_samples(dy, work.g["shift"])
        _over_samples(np.multiply(dy, normal, out=scaled), work.g["scale"])  # before `scaled` is overwritten
        if not work.wanted:
            return None
        np.multiply(dy, _for_all(work.p["scale"], dy), out=scaled)  # the gradient of x'
        # (N, 1): scale differs within a sample, so the means are those of dy * scale, and x' takes the place of x.
        (inverse,), (total, product) = work.saved["inverse"], _by_sample(scaled, normal, work)
        slope, scale, shift = (_spread(values, dy) for values in (inverse, -inverse * product, -inverse * total))
        dx = work.array("dx", dy.shape, dy.dtype)
        work.loops.affine_gradient(_pixels(scaled, work), _pixels(normal, work), slope, scale, shift, _pixels(dx, work))
        return dx


def _pixels(x: Array, work: Workspace) -> Array:
    """Return images or vectors as one row of pixels, (1, pixels, N * C); a vector is one pixel."""
    return np.ascontiguousarray(x).reshape(1, -1, math.prod(work.x.shape[-2:]))


def _by_number(x: Array, y: Array, work: Workspace, relu: tuple[Array, ...] = ()) -> Statistics:
    """Return the sums over the pixels of x and of x * y, (2, N, C); they lie in scratch memory. `relu`: `gradients`."""
    out: Any = work.scratch("moments", (2, math.prod(work.x.shape[-2:])), np.dtype(np.float64))
    compute: Any = work.loops.rectified_moments if relu else work.loops.moments
    compute(_pixels(x, work), _pixels(y, work), *relu, out)
    sums: Statistics = out.reshape(2, *work.x.shape[-2:])
    return sums


def _by_channel(x: Array, y: Array, work: Workspace, relu: tuple[Array, ...] = ()) -> Statistics:
    """Return the sums over pixels and samples of x and of x * y, (2, C). `relu`: that of `gradients`."""
    sums: Statistics = _by_number(x, y, work, relu).sum(axis=1)
    return sums


def _by_sample(x: Array, y: Array, work: Workspace) -> Statistics:
    """Return the means over each sample of x and of x * y, (2, N, 1)."""
    means: Statistics = _by_number(x, y, work).sum(axis=2, keepdims=True) / (x.size // x.shape[-2])
    return means


def _spread(values: Statistics, x: Array) -> Array:
    """Return values of channels (C,), samples (N, 1) or both (N, C) for a pixel's numbers (N * C,), in x's dtype."""
    return np.broadcast_to(values.astype(x.dtype), x.shape[-2:]).flatten()


def _for_all(values: Array, x: Array) -> Array:
    """Return values of a sample, (H, W, C) or (features,), repeated for all samples, in the shape of x."""
    return np.repeat(np.expand_dims(values, -2), x.shape[-2], axis=-2)


def _over_samples(x: Array, out: Array) -> None:
    """Write the sums over the samples, (H, W, C) or (features,): a product with ones, faster than a sum."""
    np.matmul(np.ones((1, x.shape[-2]), x.dtype), x, out=np.expand_dims(out, -2))
