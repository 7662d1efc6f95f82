"""The network: layers in order, on one flat vector of parameters.

The vector is what crosses processes, what optimizers update and what checkpoints hold; `Layout` says which part of it
is `conv1.weight`. A network holds no parameters, only workspaces that it reuses from batch to batch: it serves one
thread at a time, and a result depends on nothing but the arguments.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

from cnnpar.errors import InputError
from cnnpar.nn import loops
from cnnpar.nn.kernels import Array, Shape
from cnnpar.nn.layers import Layer, MaxPool2D, Parameter, ReLU, Workspace
from cnnpar.nn.losses import softmax, softmax_cross_entropy
from cnnpar.nn.tables import check_sizes, layers_from_tables

Labels = NDArray[np.integer[Any]]
Generators = Callable[[int], np.random.Generator]

_INIT_DOMAIN = 3  # second word of the Philox key: keeps these streams apart from the project's others
_MOST_PARAMETERS = 2**31
_KEPT_SIZES = 4  # numbers of samples whose workspaces are kept: training, its last microbatch, evaluation


class Sums(NamedTuple):
    """What a batch adds to the totals: sums over its samples, never means."""

    loss: float  # softmax cross-entropy
    correct: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody asks of sums


class Entry(NamedTuple):
    """One parameter's place in the vector."""

    name: str
    shape: Shape
    offset: int


class Layout(NamedTuple):
    """The parameters in the order of the vector, without gaps."""

    entries: tuple[Entry, ...]
    size: int

    def views(self, vector: Array) -> dict[str, Array]:
        """The parts of a contiguous vector (size,) by name, in their shapes, sharing its memory."""
        if vector.shape != (self.size,) or not vector.flags.c_contiguous:
            raise ValueError(f"expected a contiguous vector of {self.size} parameters, got {vector.shape}")
        return {name: vector[offset : offset + math.prod(shape)].reshape(shape) for name, shape, offset in self.entries}


class Network:
    """Layers in order, from images (n, H, W, C) to the softmax cross-entropy of their labels."""

    def __init__(self, layers: Sequence[Layer], input_shape: tuple[int, int, int], dtype: DTypeLike) -> None:
        """For layers that fit each other; see `from_tables`."""
        self.layers = tuple(layers)
        self.input_shape = input_shape
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._parameters: list[dict[str, Parameter]] = []
        self.products: list[int] = []  # by layer, for one sample, forward: each weight as often as it is used
        shape: Shape = input_shape
        for layer in self.layers:
            parameters = layer.parameters(shape)
            shape = layer.output_shape(shape)
            self._parameters.append(parameters)
            used = "weight" in parameters
            self.products.append(math.prod(parameters["weight"].shape + shape[:-1]) if used else 0)
        self.classes = shape[0]
        self.layout = _layout(self.layers, self._parameters)
        self._order = _order(self.layers)
        self._kept: dict[int, list[Workspace]] = {}  # by number of samples: a workspace for each layer
        self._scratch: dict[str, Array] = {}  # what they all need for a moment only

    def __getstate__(self) -> dict[str, Any]:
        """All but the workspaces: a copy makes its own, whose arrays then lie in memory as they must."""
        return {**self.__dict__, "_kept": {}, "_scratch": {}}

    @classmethod
    def from_tables(
        cls,
        tables: Sequence[Mapping[str, Any]],
        input_shape: tuple[int, int, int],
        classes: int,
        dtype: DTypeLike = np.float32,
    ) -> "Network":
        """The network that a configuration's `model.layers` describe, for images (H, W, C).

        Raises InputError that names the layer and what is wrong: its type, a key, or a shape that does not fit.
        """
        network = cls(layers_from_tables(tables, input_shape, classes), input_shape, dtype)
        if not 0 < network.layout.size <= _MOST_PARAMETERS:
            raise InputError(
                f"the network has {network.layout.size:,} parameters, but needs 1 to {_MOST_PARAMETERS:,}; "
                "check its layers, their `channels` and `units`"
            )
        check_sizes(network.layers, input_shape)
        return network

    def tables(self) -> list[dict[str, Any]]:
        """The layers as plain tables with every setting filled in; `from_tables` makes the same network of them."""
        encoded = msgspec.json.encode(self.layers)  # and back: pairs are lists, as in files, with which tables compare
        return msgspec.json.decode(encoded, type=list[dict[str, Any]])

    def init(self, seed: int) -> Array:
        """Starting parameters (size,). Each parameter has a random stream of its own, keyed by seed and place."""
        vector = np.empty(self.layout.size, self.dtype)
        views = self.layout.views(vector)
        for index, (layer, parameters) in enumerate(zip(self.layers, self._parameters, strict=True)):
            for number, (name, parameter) in enumerate(parameters.items()):
                philox = np.random.Philox(key=[seed, _INIT_DOMAIN], counter=[0, 0, number, index])
                views[f"{layer.name}.{name}"][...] = parameter.draw(np.random.Generator(philox))
        return vector

    def loss_and_gradient(
        self, parameters: Array, images: Array, labels: Labels, rng: Generators | None, out: Array
    ) -> Sums:
        """Sums over the samples of `images` (n, H, W, C); their gradient overwrites `out` (size,).

        `rng` gives a random layer (dropout), by its index, its generator; None means that nothing is random.
        Not a number in, not a number out: nothing is clipped.
        """
        if not len(images):
            out.fill(0)
            return Sums(0.0, 0, 0)
        with np.errstate(all="ignore"):
            work = self._workspaces(len(images), parameters)
            for layer_work, g in zip(work, self._views(out), strict=True):
                layer_work.g = g
            logits = self._forward(images, work, rng)
            loss, correct, gradient = softmax_cross_entropy(logits, labels)
            self._backward(gradient.astype(self.dtype), work)
        return Sums(loss, correct, len(images))

    def loss(self, parameters: Array, images: Array, labels: Labels) -> Sums:
        """Sums over the samples of `images` (n, H, W, C), as in evaluation: without dropout."""
        if not len(images):
            return Sums(0.0, 0, 0)
        with np.errstate(all="ignore"):
            logits = self._forward(images, self._workspaces(len(images), parameters), None)
            loss, correct, _ = softmax_cross_entropy(logits, labels)
        return Sums(loss, correct, len(images))

    def probabilities(self, parameters: Array, images: Array) -> NDArray[np.float64]:
        """The probability of each class for each image, (n, classes)."""
        if not len(images):
            return np.zeros((0, self.classes))
        with np.errstate(all="ignore"):
            return softmax(self._forward(images, self._workspaces(len(images), parameters), None))

    def _forward(self, images: Array, work: list[Workspace], rng: Generators | None) -> Array:
        """The logits (n, classes)."""
        x = np.empty((*images.shape[1:3], len(images), images.shape[3]), self.dtype)
        x[...] = images.transpose(1, 2, 0, 3)
        for index in self._order:
            layer, own = self.layers[index], work[index]
            own.x, own.generator = x, rng(index) if rng and layer.random else None
            x = own.y = layer.forward(x, own)
        return x

    def _backward(self, dy: Array, work: list[Workspace]) -> None:
        """Overwrite the gradients of all layers, given that of the logits."""
        first = next(place for place, index in enumerate(self._order) if self._parameters[index])
        for place in range(len(self._order) - 1, first - 1, -1):
            index = self._order[place]
            if self._parameters[index]:
                self.layers[index].gradients(dy, work[index])
            if place > first:  # nobody asks for the gradient of the images
                dy = self.layers[index].backward(dy, work[index])

    def _views(self, vector: Array) -> list[dict[str, Array]]:
        """For every layer, its parameters by their names within the layer."""
        views = iter(self.layout.views(vector).values())
        return [{name: next(views) for name in parameters} for parameters in self._parameters]

    def _workspaces(self, samples: int, parameters: Array) -> list[Workspace]:
        """Those of the layers for this number of samples, holding the parameters."""
        work = self._kept.pop(samples, None)
        if work is None:
            fast = loops.best(self.dtype, sum(self.products))
            work = [Workspace(self._scratch, fast) for _ in self.layers]
            while len(self._kept) >= _KEPT_SIZES:
                del self._kept[next(iter(self._kept))]
        self._kept[samples] = work  # the one used longest ago is first
        for own, p in zip(work, self._views(parameters), strict=True):
            own.p = p
        return work


def _layout(layers: Sequence[Layer], parameters: Sequence[Mapping[str, Parameter]]) -> Layout:
    entries: list[Entry] = []
    offset = 0
    for layer, mapping in zip(layers, parameters, strict=True):
        for name, parameter in mapping.items():
            entries.append(Entry(f"{layer.name}.{name}", parameter.shape, offset))
            offset += math.prod(parameter.shape)
    return Layout(tuple(entries), offset)


def _order(layers: Sequence[Layer]) -> list[int]:
    """Indices of the layers as they are run: a relu after the max-pooling that follows it.

    The two commute exactly, gradients included: the maximum of a window is the same number before and after, and
    where it is not positive no gradient passes either way. So relu runs on the smaller array.
    """
    order = list(range(len(layers)))
    for place in range(len(order) - 1):
        if isinstance(layers[order[place]], ReLU) and isinstance(layers[order[place + 1]], MaxPool2D):
            order[place], order[place + 1] = order[place + 1], order[place]
    return order
