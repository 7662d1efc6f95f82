"""What a layer is: frozen settings and pure functions of arrays; the arrays belong to the network.

Shapes as people see them, in configurations and messages, leave the samples out: an image is (H, W, C), a vector
(features,). The arrays that pass between layers hold N samples as (H, W, N, C) and (N, features).
"""

import math
import re
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeVar

import numpy as np
from msgspec import Meta, Struct

from cnnpar.errors import InputError
from cnnpar.nn.shapes import Array, Pair, Shape, pair
from cnnpar.nn.workspace import Workspace

Name = Annotated[str, Meta(pattern="^([A-Za-z][A-Za-z0-9_-]*)?$")]
Positive = Annotated[int, Meta(ge=1)]
Init = Literal["he", "glorot"]


class Parameter(NamedTuple):
    """A trainable array: its shape, and how it starts."""

    shape: Shape
    init: Init | Literal["zeros", "ones"] = "zeros"
    fan_in: int = 0  # inputs that one output sums
    fan_out: int = 0  # outputs that one input reaches

    def draw(self, generator: np.random.Generator) -> Array:
        """Starting values in float64.

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
    """A running statistic of the training data: each step moves it by a share of the way to what its batch had."""

    shape: Shape
    start: float
    share: float


class Layer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """Settings of one layer, and what it computes. A subclass overrides what differs from doing nothing."""

    kind: ClassVar[str] = "layer"  # the stem of the names that unnamed layers get: conv1, conv2, ...
    random: ClassVar[bool] = False  # whether training needs a generator

    name: Name = ""

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of one sample's output for the shape of its input. Raises InputError where they do not fit."""
        return shape

    def held_shape(self, shape: Shape) -> Shape:
        """Shape of the largest image that is held on the way to the output: the input, with the zeros around it."""
        return shape

    def parameters(self, shape: Shape) -> dict[str, Parameter]:  # noqa: ARG002
        """The trainable arrays for an input of `shape`, by name."""
        return {}

    def buffers(self, shape: Shape) -> dict[str, Buffer]:  # noqa: ARG002
        """The running statistics for an input of `shape`, by name. Only a layer with parameters may have some."""
        return {}

    def products(self, shape: Shape) -> int:
        """Multiplications of a forward pass over one sample of `shape`: each weight as often as it is used."""
        weight = self.parameters(shape).get("weight")
        return math.prod(weight.shape + self.output_shape(shape)[:-1]) if weight else 0

    def forward(self, x: Array, work: Workspace) -> Array:
        """The output for input `x`, which is not changed. It may lie in `work`, valid until the next forward pass."""
        raise NotImplementedError

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """The gradient of the input, given the gradient `dy` of the output of the last forward pass.

        `work.g` is overwritten. None may be returned where the gradient of the input is not `wanted`.
        """
        raise NotImplementedError


LAYERS: dict[str, type[Layer]] = {}  # `type` in a configuration -> class

LayerClass = TypeVar("LayerClass", bound=type[Layer])


def register(cls: LayerClass) -> LayerClass:
    """Class decorator: make a layer known by its tag, which is its `type` in configurations and checkpoints.

    A script may define layers of its own. Workers get them from it, with the functions and constants of its module that
    they use; what they import must be there on each node. Whoever loads a checkpoint registers them first.

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

    Raises ValueError for a tag that is no word of ASCII letters, digits, `_` and `-`, or is another layer's already; a
    class that is defined anew, as notebooks do, takes its own former place.
    """
    tag = cls.__struct_config__.tag
    if not isinstance(tag, str) or not re.fullmatch("[A-Za-z0-9_-]{1,60}", tag):
        raise ValueError(f"the tag of a layer is a word of letters, digits, `_` and `-`, not {tag!r}")
    known = LAYERS.get(tag, cls)
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"a layer of type {tag!r} is registered already: {known.__qualname__} of {known.__module__}")
    LAYERS[tag] = cls
    return cls


def image_shape(shape: Shape) -> tuple[int, int, int]:
    """`shape` if it is an image's; raises InputError otherwise."""
    if len(shape) != 3:
        raise InputError(f"needs an image (H, W, C), but its input is {shape}; put it before `flatten`")
    return shape[0], shape[1], shape[2]


def at_least(key: str, value: int | Pair, minimum: int) -> None:
    """Raises ValueError, which msgspec reports with its place, where a setting or one of a pair is too small."""
    if min(pair(value)) < minimum:
        raise ValueError(f"`{key}` must be at least {minimum}")
