"""Residual blocks: layers and a shortcut around them (He et al. 2016)."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np

from cnnpar import rng
from cnnpar.errors import InputError, RunError
from cnnpar.nn.chain import Chain, Generators
from cnnpar.nn.layers.base import Buffer, Layer, Parameter, register
from cnnpar.nn.shapes import Array, Shape
from cnnpar.nn.workspace import Workspace

SHORTCUT = "shortcut"


@register
class Residual(Layer, frozen=True, kw_only=True, tag="residual"):
    """Residual block: the sum of the outputs of two branches, `layers` and `shortcut`, of the same input.

    Both are lists of layers, as a network's; an empty shortcut is the identity. Names of parameters begin with the
    block's: residual1.conv1.weight, residual1.shortcut.conv1.weight.
    """

    kind: ClassVar[str] = "residual"

    layers: tuple[Any, ...]  # of Layer; msgspec reads tables, which `nn/tables.py` turns into layers
    shortcut: tuple[Any, ...] = ()

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of both branches' outputs. Raises InputError where they differ."""
        ends = [_end(layers, shape, where) for where, layers in self.branches().items()]
        if ends[0] != ends[1]:
            raise InputError(
                f"its layers turn {shape} into {ends[0]} and its shortcut into {ends[1]}, which cannot be added; "
                "give `shortcut` a convolution of the same stride and channels"
            )
        return ends[0]

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """Return the parameters of both branches, by their names within the block."""
        return {name: part for branch in self._branches(shape) for name, part in branch.parameters.items()}

    def buffers(self, shape: Shape) -> dict[str, Buffer]:
        """Return the buffers of both branches, by their names within the block."""
        return {name: part for branch in self._branches(shape) for name, part in branch.buffers.items()}

    def products(self, shape: Shape) -> int:
        """Return the multiplications of both branches."""
        return sum(sum(branch.chain.products) for branch in self._branches(shape))

    def libraries(self, shape: Shape) -> frozenset[str]:
        """Return the libraries of both branches."""
        main, side = self._branches(shape)
        return main.chain.libraries | side.chain.libraries

    def forward(self, x: Array, work: Workspace) -> Array:
        """Implement `Layer.forward`."""
        if "branches" not in work.saved:
            shape = (*x.shape[:-2], x.shape[-1]) if x.ndim == 4 else x.shape[1:]  # without the samples
            work.saved["branches"] = tuple(self._branches(shape))
        branches: tuple[_Branch, ...] = work.saved["branches"]
        main, side = branches
        # A branch without layers returns x itself, so the sum needs an array of its own.
        y = main.forward(x, work, 0, self.name)
        around = side.forward(x, work, rng.SHORTCUT, self.name)
        return np.add(y, around, out=work.array("y", y.shape, x.dtype))

    def backward(self, dy: Array, work: Workspace) -> Array | None:
        """Implement `Layer.backward`."""
        through, around = (branch.backward(dy, work, self.name) for branch in work.saved["branches"])
        if not work.wanted:
            return None
        assert through is not None
        assert around is not None
        dx = work.array("dx", work.x.shape, dy.dtype)
        np.add(through, around, out=dx)
        return dx

    def branches(self) -> dict[str, tuple[Layer, ...]]:
        """Return the layers of both branches, by the word that begins the names of their parameters: "" or shortcut."""
        return {"": self.layers, SHORTCUT: self.shortcut}

    def _branches(self, shape: Shape) -> "list[_Branch]":
        return [_branch(layers, shape, name) for name, layers in self.branches().items()]


class _Branch(NamedTuple):
    """One branch of a block, for one shape of input."""

    chain: Chain
    name: str
    names: tuple[Mapping[str, str], ...]  # for each layer: names within it to names within the block
    parameters: Mapping[str, Parameter]  # by name within the block
    buffers: Mapping[str, Buffer]

    def forward(self, x: Array, work: Workspace, first: int, block: str) -> Array:
        """Return the output of the branch.

        `first`: place of its first layer in the block, for random streams; `block`: the block's name, for errors.
        """
        own = self._workspaces(work)
        for layer_work, names in zip(own, self.names, strict=True):
            layer_work.p = {key: work.p[name] for key, name in names.items()}  # views of the block's
            layer_work.version = work.version
            if work.frozen:
                layer_work.frozen = frozenset(key for key, name in names.items() if name in work.frozen)
        try:
            return self.chain.forward(x, own, work.training, _from_place(work.generators, first))
        except RunError as error:
            raise self._located(error, block) from None

    def backward(self, dy: Array, work: Workspace, block: str) -> Array | None:
        """Write the gradients of the branch's parameters; return that of its input, if it is wanted."""
        own = self._workspaces(work)
        for layer_work, names in zip(own, self.names, strict=True):
            layer_work.g = {key: work.g[name] for key, name in names.items()}
        try:
            return self.chain.backward(dy, own, work.wanted)
        except RunError as error:
            raise self._located(error, block) from None

    def _located(self, error: RunError, block: str) -> RunError:
        """Return the error with the names of block and branch in front of that of the layer."""
        return RunError(".".join(filter(None, (block, self.name, str(error)))))

    def _workspaces(self, work: Workspace) -> list[Workspace]:
        # Parts of the block's workspace, so that they are kept for each number of samples, as it is.
        return [work.part(f"{self.name} {number}") for number in range(len(self.chain.layers))]


def _from_place(generators: Generators | None, first: int) -> Generators | None:
    """Return the generators of a branch whose first layer has the place `first` in the block."""
    return None if generators is None else lambda place: generators(first + place)


def _end(layers: tuple[Layer, ...], shape: Shape, where: str) -> Shape:
    for number, layer in enumerate(layers, 1):
        try:
            shape = layer.output_shape(shape)
        except InputError as error:
            raise InputError(f"its {where + ' ' if where else ''}layer {number} ({layer.name}): {error}") from None
    return shape


# By value: every pass of every block asks for it, and chains hold no arrays, so equal blocks can share one.
@lru_cache(maxsize=1000)
def _branch(layers: tuple[Layer, ...], shape: Shape, name: str) -> _Branch:
    chain = Chain(layers, shape)
    prefix = f"{name}." if name else ""
    parameters: dict[str, Parameter] = {}
    buffers: dict[str, Buffer] = {}
    names = []  # for each layer
    for layer, own_parameters, own_buffers in zip(layers, chain.parameters, chain.buffers, strict=True):
        parameters |= {f"{prefix}{layer.name}.{key}": part for key, part in own_parameters.items()}
        buffers |= {f"{prefix}{layer.name}.{key}": part for key, part in own_buffers.items()}
        names.append({key: f"{prefix}{layer.name}.{key}" for key in (*own_parameters, *own_buffers)})
    return _Branch(chain, name, tuple(names), parameters, buffers)
