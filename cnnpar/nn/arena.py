"""Memory for a network's arrays, side by side in few large pieces.

numpy asks the kernel for huge pages (2 MiB instead of 4 KiB) for arrays of 4 MiB and more, where the machine allows it
(`madvise` or `always` in /sys/kernel/mm/transparent_hugepage/enabled). A step goes through dozens of arrays that are
smaller; on pages of their own, finding the pages takes up to a seventh of its time.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
