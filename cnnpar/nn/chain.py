"""Layers in order, forward and backward; neighbours that can be fused run as one layer."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from cnnpar.errors import RunError
from cnnpar.fingerprint import is_users
from cnnpar.nn.fusion import fused
from cnnpar.nn.layers.base import Buffer, Layer, Parameter
from cnnpar.nn.loops.interface import Loops
from cnnpar.nn.shapes import Array, Shape
from cnnpar.nn.workspace import Arena, Scratch, Workspace
from cnnpar.rng import nested

Generators = Callable[[int], np.random.Generator]


class Run(NamedTuple):
    """A layer to run. It may be fused of several, of which only the first has parameters."""

    place: int  # index in the chain of the first of them
    layer: Layer


class Chain:
    """Layers that fit each other. It holds no arrays: these are in workspaces, one for each layer."""

    def __init__(self, layers: Sequence[Layer], shape: Shape) -> None:
        """Take layers for inputs of `shape`, without the samples."""
        self.layers = tuple(layers)
        self.shapes = [shape]  # before the first layer, and after each
        for layer in self.layers:
            self.shapes.append(layer.output_shape(self.shapes[-1]))
        before = list(zip(self.layers, self.shapes[:-1], strict=True))
        self.parameters: list[dict[str, Parameter]] = [layer.parameters(shape) for layer, shape in before]
        self.buffers: list[dict[str, Buffer]] = [layer.buffers(shape) for layer, shape in before]
        self.products = [layer.products(shape) for layer, shape in before]  # for one sample, forward
        self.libraries = frozenset[str]().union(*(layer.libraries(shape) for layer, shape in before))
        self.runs = _runs(self.layers, self.shapes)
        self._with_parameters = [n for n, run in enumerate(self.runs) if self.parameters[run.place]]
        # Users' layers, whose results are checked; cnnpar's own are tested.
        self._users = frozenset(run.place for run in self.runs if is_users(type(run.layer)))

    def workspaces(self, scratch: Scratch, loops: Loops) -> list[Workspace]:
        """Return a new workspace for each layer; all share `scratch` and an arena."""
        arena = Arena()
        return [Workspace(scratch, loops, arena) for _ in self.layers]

    def forward(self, x: Array, work: Sequence[Workspace], training: bool, rng: Generators | None) -> Array:
        """Return the output of the last layer. `rng` maps a random layer's index to its generator."""
        for place, layer in self.runs:
            own = work[place]
            own.x, own.training = x, training and not own.frozen_whole
            own.generator = rng(place) if rng and layer.random else None
            own.generators = _within(rng, place) if rng else None
            if place in self._users:
                with _untouched(x):
                    y = layer.forward(x, own)
                what = f"{layer.name}: its forward pass"
                x = own.y = _required(y, self.shapes[place + 1], x, what, "output_shape")
            else:
                x = own.y = layer.forward(x, own)
        return x

    def backward(self, dy: Array, work: Sequence[Workspace], wanted: bool) -> Array | None:
        """Write the gradients of all parameters, given that of the output; return that of the input if `wanted`.

        Gradients of frozen layers may be left unwritten.
        """
        trained = (n for n in self._with_parameters if not work[self.runs[n].place].frozen_whole)
        first = 0 if wanted else next(trained, len(self.runs))  # layers before it need no gradient
        gradient: Array | None = dy
        for number in range(len(self.runs) - 1, first - 1, -1):
            place, layer = self.runs[number]
            work[place].wanted = wanted or number > first
            assert gradient is not None, "only the first layer's may be left out"
            own = place in self._users
            gradient = _watched(layer, gradient, work[place]) if own else layer.backward(gradient, work[place])
            if own and work[place].wanted:
                what = f"{layer.name}: its backward pass"
                gradient = _required(gradient, self.shapes[place], work[place].x, what, "the input")
        return gradient


@contextlib.contextmanager
def _untouched(array: Array) -> Iterator[None]:
    """Make an array read-only while the block runs, so that a user's layer that writes to it gets numpy's error."""
    before = array.flags.writeable
    array.flags.writeable = False
    try:
        yield
    finally:
        array.flags.writeable = before


def _watched(layer: Layer, dy: Array, work: Workspace) -> Array | None:
    """Run the backward pass of a user's layer. Raises RunError if it leaves a gradient unwritten."""
    for array in work.g.values():
        array.fill(np.nan)  # all NaN afterwards means: unwritten, unless dy was not finite
    sound = bool(np.isfinite(dy).all())
    with _untouched(dy), _untouched(work.x):
        gradient = layer.backward(dy, work)
    for name, array in work.g.items():
        if sound and array.size and np.isnan(array).all():
            raise RunError(f"{layer.name}: its backward pass did not fill work.g[{name!r}]")
    return gradient


def _required(array: object, shape: Shape, x: Array, what: str, whose: str) -> Array:
    """Return the array, or a copy if it is read-only, as a view of x may be.

    Raises RunError unless it has the dtype of x, and the shape `shape` with the samples of x.
    """
    samples = x.shape[-2]
    expected = (*shape[:-1], samples, shape[-1])  # (H, W, N, C) or (N, features)
    if not isinstance(array, np.ndarray) or array.shape != expected or array.dtype != x.dtype:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise RunError(f"{what} gave {found}; by {whose} it is {x.dtype} {expected}")
    return array if array.flags.writeable else array.copy()


def _within(rng: Generators, place: int) -> Generators:
    """Return the generators of the layers within the layer `place`; each has a stream of its own."""
    return lambda inner: rng(nested(place, inner))


def _runs(layers: Sequence[Layer], shapes: Sequence[Shape]) -> list[Run]:
    """Return the layers as they are run: each is fused with those before it as long as that is possible."""
    runs: list[Run] = []
    for place, layer in enumerate(layers):
        runs.append(Run(place, layer))
        while len(runs) > 1:
            first, second = runs[-2:]
            both = fused(first.layer, second.layer, shapes[first.place])
            if both is None:
                break
            runs[-2:] = [Run(first.place, both)]
    return runs
