"""Memory for a network's arrays, side by side in few large pieces.

numpy asks the kernel for huge pages (2 MiB instead of 4 KiB) for arrays of 4 MiB and more, where the machine allows it
(`madvise` or `always` in /sys/kernel/mm/transparent_hugepage/enabled). A step goes through dozens of arrays that are
smaller; on pages of their own, finding the pages takes up to a seventh of its time.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnpar.nn.loops.interface import NUMPY, Loops
from cnnpar.nn.shapes import Array, Shape

_PIECE = 8 << 20  # bytes; what of it is not written to takes no memory
_ALIGNED = 64  # bytes: a line of the cache


class Arena:
    """Hands out arrays. A piece of memory lives as long as any array in it."""

    def __init__(self) -> None:
        self._free: NDArray[np.uint8] = np.empty(0, np.uint8)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """A contiguous array that may hold anything."""
        size = math.prod(shape) * dtype.itemsize
        if len(self._free) < size:
            piece = np.empty(max(size, _PIECE) + _ALIGNED, np.uint8)
            self._free = piece[-piece.ctypes.data % _ALIGNED :]
        own, self._free = self._free[:size], self._free[-(-size // _ALIGNED) * _ALIGNED :]
        return own.view(dtype).reshape(shape)


class Scratch:
    """Arrays that are needed for a moment, by name."""

    def __init__(self) -> None:
        self._arena = Arena()
        self._arrays: dict[str, NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array that may hold anything, the caller's until anybody asks for this name again."""
        size, array = math.prod(shape), self._arrays.get(name)
        if array is None or array.size < size or array.dtype != dtype:
            self._arrays[name] = array = self._arena.empty((size,), dtype)
        return array[:size].reshape(shape)


class Workspace:
    """What a network hands to one layer, and the arrays that the layer reuses from batch to batch.

    There is one for each layer and number of samples, so every array has one shape for good.
    """

    p: Mapping[str, Array]  # the layer's parameters and buffers by name, to read
    g: Mapping[str, Array]  # for `backward` to overwrite: gradients, and the batch's statistics, as sums over samples
    frozen: frozenset[str] = frozenset()  # names of those of them that keep their bits
    x: Array  # the layer's input in the last forward pass
    y: Array  # and its output
    training: bool = True  # whether that pass is to be learned from by the layer, or an evaluation for it
    wanted: bool = True  # whether anybody asks for the gradient of the input
    generator: np.random.Generator | None  # in training, for a layer that is `random`
    generators: Callable[[int], np.random.Generator] | None  # likewise, for layers within this one, by their number

    def __init__(self, scratch: Scratch | None = None, loops: Loops = NUMPY, arena: Arena | None = None) -> None:
        """`scratch`: shared by workspaces that are used in turns, as a network's are; `arena`: by those of one size."""
        self.loops = loops
        self._arena = arena or Arena()
        self.saved: dict[str, tuple[Any, ...]] = {}  # small things that one pass leaves to the next
        self._arrays: dict[str, Array] = {}
        self._parts: dict[str, Workspace] = {}
        self._scratch = scratch or Scratch()

    @property
    def still(self) -> bool:
        """Whether the layer has parameters, and keeps all its bits."""
        return bool(self.frozen) and self.frozen.issuperset(self.p)

    def array(self, name: str, shape: Shape, dtype: np.dtype[Any], order: tuple[int, ...] | None = None) -> Array:
        """The array `name`: zeros the first time, and whatever it held last from then on.

        `order` names its axes from the outermost to the innermost in memory, where that is not 0, 1, 2...
        """
        array = self._arrays.get(name)
        if array is None:
            array = self._arena.empty(shape if order is None else tuple(shape[axis] for axis in order), dtype)
            array.fill(0)
            self._arrays[name] = array = array if order is None else array.transpose(np.argsort(order))
        return array

    def scratch(self, name: str, shape: Shape, dtype: np.dtype[Any]) -> Array:
        """An array that may hold anything, the caller's until anybody asks for this name again."""
        return self._scratch.array(name, shape, dtype)

    def part(self, name: str) -> "Workspace":
        """A workspace within this one, whose arrays have names of their own."""
        return self._parts.setdefault(name, Workspace(self._scratch, self.loops, self._arena))

    def last(self, name: str) -> Array:
        """The array `name`, as it was left."""
        return self._arrays[name]
