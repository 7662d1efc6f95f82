"""Memory for a network's arrays, side by side in few large pieces.

numpy asks the kernel for huge pages (2 MiB instead of 4 KiB) for arrays of 4 MiB and more, where the machine allows it
(`madvise` or `always` in /sys/kernel/mm/transparent_hugepage/enabled). A step goes through dozens of arrays that are
smaller; on pages of their own, finding the pages takes up to a seventh of its time.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from cnnpar.nn.loops.interface import NUMPY, Loops
from cnnpar.nn.shapes import Array, Shape

T = TypeVar("T")

_PIECE = 8 << 20  # bytes; pages that are never written to take no memory
_ALIGNED = 64  # bytes: a cache line


class Arena:
    """Arrays cut from large pieces of memory. A piece lives as long as any array in it."""

    def __init__(self) -> None:
        self._free: NDArray[np.uint8] = np.empty(0, np.uint8)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a contiguous array of arbitrary content, aligned to a cache line."""
        size = math.prod(shape) * dtype.itemsize
        if len(self._free) < size:
            piece = np.empty(max(size, _PIECE) + _ALIGNED, np.uint8)
            self._free = piece[-piece.ctypes.data % _ALIGNED :]
        own, self._free = self._free[:size], self._free[-(-size // _ALIGNED) * _ALIGNED :]
        return own.view(dtype).reshape(shape)


class Scratch:
    """Arrays of short use, by name; workspaces that are used in turns share them."""

    def __init__(self) -> None:
        self.moves = 0  # how often an array has got another place
        self._arena = Arena()
        self._arrays: dict[str, NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an array of arbitrary content, to be used until this name is asked for again."""
        size, array = math.prod(shape), self._arrays.get(name)
        if array is None or array.size < size or array.dtype != dtype:
            self._arrays[name] = array = self._arena.empty((size,), dtype)
            self.moves += 1
        return array[:size].reshape(shape)


class Workspace:
    """The memory of one layer: its parameters and gradients, and the arrays that it reuses from batch to batch.

    A network has one for each layer and number of samples, so the shape of an array never changes.
    """

    p: Mapping[str, Array]  # the layer's parameters and buffers by name; read only
    g: Mapping[str, Array]  # `backward` overwrites them: gradients, and statistics for buffers, as sums over samples
    version: int = 0  # of `p`: another number where their values may be others than in the last pass
    frozen: frozenset[str] = frozenset()  # names of parameters and buffers that keep their bits
    x: Array  # the layer's input in the last forward pass
    y: Array  # its output in that pass
    training: bool = True  # False in evaluation, and for a layer that is frozen as a whole
    wanted: bool = True  # `backward` must return the gradient of the input; else it may return None
    generator: np.random.Generator | None  # for a layer that is `random`; None in evaluation
    generators: Callable[[int], np.random.Generator] | None  # of the layers within this one, by their index

    def __init__(self, scratch: Scratch | None = None, loops: Loops = NUMPY, arena: Arena | None = None) -> None:
        """Share `scratch` with workspaces that are used in turns, and `arena` with those of the same network."""
        self.loops = loops
        self._arena = arena or Arena()
        self.saved: dict[str, tuple[Any, ...]] = {}  # values other than arrays of `array` that `backward` needs
        self._arrays: dict[str, Array] = {}
        self._parts: dict[str, Workspace] = {}
        self._scratch = scratch or Scratch()
        self._plans: dict[str, tuple[int, Any]] = {}  # and the moves of the scratch arrays when they were made

    @property
    def frozen_whole(self) -> bool:
        """Tell whether the layer has parameters, and all of them and its buffers are frozen."""
        return bool(self.frozen) and self.frozen.issuperset(self.p)

    def array(self, name: str, shape: Shape, dtype: np.dtype[Any]) -> Array:
        """Return the array `name`: zeros the first time, its last content from then on."""
        array = self._arrays.get(name)
        if array is None:
            self._arrays[name] = array = self._arena.empty(shape, dtype)
            array.fill(0)
        return array

    def scratch(self, name: str, shape: Shape, dtype: np.dtype[Any]) -> Array:
        """Return an array of arbitrary content, to be used until this name is asked for again, by any layer."""
        return self._scratch.array(name, shape, dtype)

    def plan(self, name: str, make: Callable[[], T]) -> T:
        """Return what `make` returned: views of arrays of this workspace, made anew where scratch arrays have moved.

        A pass takes dozens of views, and making one can take longer than a product: data evict Python from the caches.
        """
        moves, plan = self._plans.get(name, (-1, None))
        if moves != self._scratch.moves:
            plan = make()
            self._plans[name] = self._scratch.moves, plan  # after those that `make` itself has moved
        return cast("T", plan)

    def part(self, name: str) -> "Workspace":
        """Return the workspace `name` within this one, whose arrays have names of their own."""
        return self._parts.setdefault(name, Workspace(self._scratch, self.loops, self._arena))

    def last(self, name: str) -> Array:
        """Return the array `name` with its last content. Raises KeyError if there is none."""
        return self._arrays[name]
