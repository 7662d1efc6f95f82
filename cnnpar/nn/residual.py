"""Layers around which the input takes a shortcut: what deep networks are stacked from (He et al. 2016)."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np

from cnnpar.errors import InputError, RunError
from cnnpar.nn.chain import STREAMS, Chain, Generators
from cnnpar.nn.layers.base import Buffer, Layer, Parameter, register
from cnnpar.nn.shapes import Array, Shape
from cnnpar.nn.workspace import Workspace

SHORTCUT = "shortcut"


@register
class Residual(Layer, frozen=True, kw_only=True, tag="residual"):
    """The sum of what `layers` and what `shortcut` make of the input; without layers a shortcut leaves it as it is.

    Both are lists of layers, as a network's. Their parameters are called by the layers' names within this one:
    residual1.conv1.weight, residual1.shortcut.conv1.weight.
    """

    kind: ClassVar[str] = "residual"

    layers: tuple[Any, ...]  # Layer; as tables they come from configurations, and `nn/tables.py` turns them into layers
    shortcut: tuple[Any, ...] = ()

    def output_shape(self, shape: Shape) -> Shape:
        """See Layer."""
        ends = [_end(layers, shape, where) for where, layers in self.branches().items()]
        if ends[0] != ends[1]:
            raise InputError(
                f"its layers turn {shape} into {ends[0]} and its shortcut into {ends[1]}, which cannot be added; "
                "give `shortcut` a convolution of the same stride and channels"
            )
        return ends[0]

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """See Layer."""
        return {name: part for branch in self._branches(shape) for name, part in branch.parameters.items()}

    def buffers(self, shape: Shape) -> dict[str, Buffer]:
        """See Layer."""
        return {name: part for branch in self._branches(shape) for name, part in branch.buffers.items()}

    def products(self, shape: Shape) -> int:
        """See Layer."""
        return sum(sum(branch.chain.products) for branch in self._branches(shape))

    def forward(self, x: Array, work: Workspace) -> Array:
        """See Layer."""
        shape = (*x.shape[:-2], x.shape[-1]) if x.ndim == 4 else x.shape[1:]
        main, side = self._branches(shape)
        work.saved["branches"] = main, side
        y = main.forward(x, work, 0, self.name)
        around = side.forward(x, work, STREAMS // 2, self.name)
        return np.add(y, around, out=work.array("y", y.shape, x.dtype))

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """See Layer."""
        through, around = (branch.backward(dy, work, self.name) for branch in work.saved["branches"])
        if not work.wanted:
            return None
        assert through is not None
        assert around is not None
        dx = work.array("dx", work.x.shape, dy.dtype)
        np.add(through, around, out=dx)
        return dx

    def branches(self) -> dict[str, tuple[Layer, ...]]:
        """The two lists of layers, by the word that they begin the names of their parameters with."""
        return {"": self.layers, SHORTCUT: self.shortcut}

    def _branches(self, shape: Shape) -> "list[_Branch]":
        return [_branch(layers, shape, name) for name, layers in self.branches().items()]


class _Branch(NamedTuple):
    """Layers of a block, for one shape of input."""

    chain: Chain
    name: str
    names: tuple[Mapping[str, str], ...]  # for each layer, what in the block its own parameters and buffers are called
    parameters: Mapping[str, Parameter]
    buffers: Mapping[str, Buffer]

    def forward(self, x: Array, work: Workspace, first: int, block: str) -> Array:
        """What the branch makes of x; `first` is the number of its first layer's random stream, `block` for errors."""
        own = self._workspaces(work)
        for layer_work, names in zip(own, self.names, strict=True):
            layer_work.p = {key: work.p[name] for key, name in names.items()}
            if work.frozen:
                layer_work.frozen = frozenset(key for key, name in names.items() if name in work.frozen)
        try:
            return self.chain.forward(x, own, work.training, _within(work.generators, first))
        except RunError as error:
            raise self._located(error, block) from None

    def backward(self, dy: Array, work: Workspace, block: str) -> Array | None:
        own = self._workspaces(work)
        for layer_work, names in zip(own, self.names, strict=True):
            layer_work.g = {key: work.g[name] for key, name in names.items()}
        try:
            return self.chain.backward(dy, own, work.wanted)
        except RunError as error:
            raise self._located(error, block) from None

    def _located(self, error: RunError, block: str) -> RunError:
        """The same, with what the layer that it begins with is within."""
        return RunError(".".join(filter(None, (block, self.name, str(error)))))

    def _workspaces(self, work: Workspace) -> list[Workspace]:
        return [work.part(f"{self.name} {number}") for number in range(len(self.chain.layers))]


def _within(generators: Generators | None, first: int) -> Generators | None:
    return None if generators is None else lambda place: generators(first + place)


def _end(layers: tuple[Layer, ...], shape: Shape, where: str) -> Shape:
    for number, layer in enumerate(layers, 1):
        try:
            shape = layer.output_shape(shape)
        except InputError as error:
            raise InputError(f"its {where + ' ' if where else ''}layer {number} ({layer.name}): {error}") from None
    return shape


@lru_cache(maxsize=1000)
def _branch(layers: tuple[Layer, ...], shape: Shape, name: str) -> _Branch:
    chain = Chain(layers, shape)
    prefix = f"{name}." if name else ""
    parameters: dict[str, Parameter] = {}
    buffers: dict[str, Buffer] = {}
    names = []
    for layer, own, seen in zip(layers, chain.parameters, chain.buffers, strict=True):
        parameters |= {f"{prefix}{layer.name}.{key}": part for key, part in own.items()}
        buffers |= {f"{prefix}{layer.name}.{key}": part for key, part in seen.items()}
        names.append({key: f"{prefix}{layer.name}.{key}" for key in (*own, *seen)})
    return _Branch(chain, name, tuple(names), parameters, buffers)
