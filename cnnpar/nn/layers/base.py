"""Base class of layers: frozen settings and pure functions of arrays; the arrays belong to the network.

Shapes in settings, in messages and in `output_shape` are those of one sample: an image is (H, W, C), a vector
(features,). Arrays hold N samples as (H, W, N, C) and (N, features).
"""

import math
import re
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeVar

import numpy as np
from msgspec import Meta, Struct

from cnnpar.errors import InputError
from cnnpar.nn.shapes import Array, Pair, Shape, pair
from cnnpar.nn.workspace import Workspace
from cnnpar.text import shown

Name = Annotated[str, Meta(pattern="^([A-Za-z][A-Za-z0-9_-]*)?$")]
Positive = Annotated[int, Meta(ge=1)]
Init = Literal["he", "glorot"]


class Parameter(NamedTuple):
    """A trainable array: its shape, and the distribution of its initial values."""

    shape: Shape
    init: Init | Literal["zeros", "ones"] = "zeros"
    fan_in: int = 0  # inputs in the sum of one output
    fan_out: int = 0  # outputs in whose sum one input is

    def draw(self, generator: np.random.Generator) -> Array:
        """Draw initial values, in float64.

        "he": normal, variance 2 / fan_in (He et al. 2015, eq. 10). "glorot": uniform, variance 2 / (fan_in + fan_out)
        (Glorot and Bengio 2010, eq. 16).
        """
        if self.init == "he":
            return generator.standard_normal(self.shape) * math.sqrt(2.0 / self.fan_in)
        if self.init == "glorot":
            limit = math.sqrt(6.0 / (self.fan_in + self.fan_out))
            return generator.uniform(-limit, limit, self.shape)
        return np.full(self.shape, float(self.init == "ones"))


class Buffer(NamedTuple):
    """A running statistic of the training data: each step moves it by `share` of its distance to the batch's own."""

    shape: Shape
    start: float  # initial value
    share: float  # in 0 .. 1


class Layer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """Settings of one layer, and its passes. A subclass has `forward`, `backward`, and what else differs from here."""

    kind: ClassVar[str] = "layer"  # the stem of the names that unnamed layers get: conv1, conv2, ...
    random: ClassVar[bool] = False  # the forward pass of training needs `work.generator`

    name: Name = ""

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of one sample's output. Raises InputError where the layer cannot take `shape`."""
        return shape

    def held_shape(self, shape: Shape) -> Shape:
        """Return the shape of the largest image held in a forward pass: the input, with the zeros around it."""
        return shape

    def parameters(self, shape: Shape) -> dict[str, Parameter]:  # noqa: ARG002
        """Return the trainable arrays for an input of `shape`, by name."""
        return {}

    def buffers(self, shape: Shape) -> dict[str, Buffer]:  # noqa: ARG002
        """Return the running statistics for an input of `shape`, by name; only layers with parameters may have any."""
        return {}

    def products(self, shape: Shape) -> int:
        """Return the multiplications of a forward pass over one sample: the uses of all weights."""
        weight = self.parameters(shape).get("weight")
        return math.prod(weight.shape + self.output_shape(shape)[:-1]) if weight else 0

    def libraries(self, shape: Shape) -> frozenset[str]:  # noqa: ARG002
        """Return the names of packages besides numpy whose version decides the bits of its passes."""
        return frozenset()

    def forward(self, x: Array, work: Workspace) -> Array:
        """Return the output for `x`, which is not changed. It may lie in `work`, valid until the next forward pass."""
        raise NotImplementedError(f"the layer class {type(self).__qualname__} has no method `forward(self, x, work)`")

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """Return the gradient of the input, given the gradient `dy` of the last forward pass's output.

        Overwrites the arrays of `work.g` with the gradients of the parameters, summed over the samples. May return None
        where not `work.wanted`.
        """
        raise NotImplementedError(f"the layer class {type(self).__qualname__} has no method `backward(self, dy, work)`")


LAYERS: dict[str, type[Layer]] = {}  # `type` in a configuration to class

LayerClass = TypeVar("LayerClass", bound=type[Layer])


def register(cls: LayerClass) -> LayerClass:
    """Register a layer class under its tag, which is its `type` in configurations and checkpoints: a class decorator.

    A script may define layers of its own. They are sent to the workers, with the functions and constants of the same
    module that they use; modules that they import must be installed on each node. Register them before a checkpoint
    that has them is loaded.

    >>> import cnnpar
    >>> from cnnpar import Layer, register
    >>> @register
    ... class Shrink(Layer, tag="shrink"):
    ...     kind = "shrink"  # its name in networks, with a number
    ...     threshold: float = 0.5  # a setting
    ...
    ...     def forward(self, x, work):
    ...         return x - x.clip(-self.threshold, self.threshold)
    ...
    ...     def backward(self, dy, work):  # work.x and work.y are the last input and output
    ...         return dy * (abs(work.x) > self.threshold)
    >>> layers = [{"type": "flatten"}, {"type": "shrink", "threshold": 0.1}, {"type": "dense"}]
    >>> result = cnnpar.train({"model": {"layers": layers}, "train": {"epochs": 2}, "engine": {"workers": 0}})
    >>> result.test_accuracy > 0.5
    True

    Raises TypeError for anything but a class derived from `Layer`, and ValueError for a tag that is no word of ASCII
    letters, digits, `_` and `-`, or that another class has. A class of the same module and name, such as one that a
    notebook defines again, replaces its former version.
    """
    if not (isinstance(cls, type) and issubclass(cls, Layer)):
        raise TypeError(f"register takes a class derived from cnnpar.Layer, not {shown(cls)}")
    tag = cls.__struct_config__.tag
    if not isinstance(tag, str) or not re.fullmatch("[A-Za-z0-9_-]{1,60}", tag):
        raise ValueError(f"the tag of a layer is a word of letters, digits, `_` and `-`, not {tag!r}")
    known = LAYERS.get(tag, cls)
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"a layer of type {tag!r} is registered already: {known.__qualname__} of {known.__module__}")
    LAYERS[tag] = cls
    return cls


def image_shape(shape: Shape) -> tuple[int, int, int]:
    """Return `shape` as (H, W, C). Raises InputError if it is not an image's."""
    if len(shape) != 3:
        raise InputError(f"needs an image (H, W, C), but its input is {shape}; put it before `flatten`")
    return shape[0], shape[1], shape[2]


def at_least(key: str, value: int | Pair, minimum: int) -> None:
    """Raise ValueError, which msgspec reports with its place, where a setting, or one of a pair, is below `minimum`."""
    if min(pair(value)) < minimum:
        raise ValueError(f"`{key}` must be at least {minimum}")
