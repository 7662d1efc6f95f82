"""Layers in order, as they are run: some together with those that follow, which computes the same in less time."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from cnnpar.errors import RunError
from cnnpar.nn.fusion import fused
from cnnpar.nn.layers.base import Buffer, Layer, Parameter
from cnnpar.nn.loops.interface import Loops
from cnnpar.nn.shapes import Array, Shape
from cnnpar.nn.workspace import Arena, Scratch, Workspace

Generators = Callable[[int], np.random.Generator]

STREAMS = 1 << 12  # numbers of random streams for what lies within one layer: more than there are layers anywhere


class Run(NamedTuple):
    """A layer as it is run; it may stand for several, of which only the first has parameters."""

    place: int  # of the first
    layer: Layer


class Chain:
    """Layers that fit each other. It holds no arrays: those are in workspaces, one for each layer."""

    def __init__(self, layers: Sequence[Layer], shape: Shape) -> None:
        """For inputs of `shape`, samples left out."""
        self.layers = tuple(layers)
        self.shapes = [shape]  # before the first layer, and after each
        for layer in self.layers:
            self.shapes.append(layer.output_shape(self.shapes[-1]))
        before = list(zip(self.layers, self.shapes[:-1], strict=True))
        self.parameters: list[dict[str, Parameter]] = [layer.parameters(shape) for layer, shape in before]
        self.buffers: list[dict[str, Buffer]] = [layer.buffers(shape) for layer, shape in before]
        self.products = [layer.products(shape) for layer, shape in before]  # for one sample, forward
        self.runs = _runs(self.layers, self.shapes)
        own = [run.place for run in self.runs if type(run.layer).__module__.partition(".")[0] != "cnnpar"]
        self._foreign = frozenset(own)  # layers of a user's, whose arrays are looked at

    def workspaces(self, scratch: Scratch, loops: Loops) -> list[Workspace]:
        """New ones, which share `scratch`."""
        arena = Arena()
        return [Workspace(scratch, loops, arena) for _ in self.layers]

    def forward(self, x: Array, work: Sequence[Workspace], training: bool, rng: Generators | None) -> Array:
        """The output of the last layer. `rng` gives a random layer, by its index, its generator."""
        for place, layer in self.runs:
            own = work[place]
            own.x, own.training = x, training and not own.still
            own.generator = rng(place) if rng and layer.random else None
            own.generators = _within(rng, place) if rng else None
            if place in self._foreign:
                with _untouched(x):
                    y = layer.forward(x, own)
                what = f"{layer.name}: its forward pass"
                x = own.y = _required(y, self.shapes[place + 1], x, what, "output_shape")
            else:
                x = own.y = layer.forward(x, own)
        return x

    def backward(self, dy: Array, work: Sequence[Workspace], wanted: bool) -> Array | None:
        """Overwrite the gradients of all layers, given that of the output; that of the input, if it is `wanted`.

        Those of frozen layers may be left as they were.
        """
        holders = [n for n, run in enumerate(self.runs) if self.parameters[run.place] and not work[run.place].still]
        first = 0 if wanted else min(holders, default=len(self.runs))
        gradient: Array | None = dy
        for number in range(len(self.runs) - 1, first - 1, -1):
            place, layer = self.runs[number]
            work[place].wanted = wanted or number > first
            assert gradient is not None, "only the first layer's may be left out"
            own = place in self._foreign
            gradient = _watched(layer, gradient, work[place]) if own else layer.backward(gradient, work[place])
            if own and work[place].wanted:
                what = f"{layer.name}: its backward pass"
                gradient = _required(gradient, self.shapes[place], work[place].x, what, "the input")
        return gradient


@contextlib.contextmanager
def _untouched(array: Array) -> Iterator[None]:
    """A layer of a user's that writes to its input, which other layers read too, gets an error of numpy's."""
    before = array.flags.writeable
    array.flags.writeable = False
    try:
        yield
    finally:
        array.flags.writeable = before


def _watched(layer: Layer, dy: Array, work: Workspace) -> Array | None:
    """A user's layer's backward pass. Raises RunError where it leaves a gradient as it was, which could be anything."""
    for array in work.g.values():
        array.fill(np.nan)
    sound = bool(np.isfinite(dy).all())
    with _untouched(dy), _untouched(work.x):
        gradient = layer.backward(dy, work)
    for name, array in work.g.items():
        if sound and array.size and np.isnan(array).all():
            raise RunError(f"{layer.name}: its backward pass did not fill work.g[{name!r}]")
    return gradient


def _required(array: object, shape: Shape, x: Array, what: str, whose: str) -> Array:
    """The array, or a copy of one that is read-only, as a view of x may be.

    Raises RunError unless it is an array of the samples of x, whose shape is `shape` without them.
    """
    samples = x.shape[-2]
    expected = (*shape[:-1], samples, shape[-1])
    if not isinstance(array, np.ndarray) or array.shape != expected or array.dtype != x.dtype:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise RunError(f"{what} gave {found}; by {whose} it is {x.dtype} {expected}")
    return array if array.flags.writeable else array.copy()


def _within(rng: Generators, place: int) -> Generators:
    """The generators of the layers within a layer, each of which has a stream of its own."""
    return lambda inner: rng(place + STREAMS * (1 + inner))


def _runs(layers: Sequence[Layer], shapes: Sequence[Shape]) -> list[Run]:
    """Each layer is tried together with what precedes it."""
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
