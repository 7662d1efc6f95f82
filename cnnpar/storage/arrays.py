"""Named float32 arrays for JSON, made from a run's flat vectors and joined to them again.

Independent of files and networks: errors are ValueErrors that begin with the place in the list, such as `[3].shape`.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import force_setattr
from numpy.typing import NDArray

from cnnpar.text import listed, shown

Vector = NDArray[np.float32]
Shape = tuple[int, ...]


class Array(Struct, frozen=True, forbid_unknown_fields=True):
    """Named array. `data` holds its little-endian bytes: in JSON base64, or else a flat list of numbers."""

    name: str
    dtype: Literal["float32"]
    shape: Shape
    data: bytes | list[float]

    def __post_init__(self) -> None:
        if isinstance(self.data, list):  # converted array by array, since a list takes eight times the memory
            with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, which `flatten` refuses
                force_setattr(self, "data", np.array(self.data, "<f4").tobytes())

    @classmethod
    def of(cls, name: str, values: Vector) -> "Array":
        """Return an array that holds a copy of the values, of any shape."""
        return cls(name, "float32", values.shape, np.ascontiguousarray(values, "<f4").tobytes())

    def vector(self) -> Vector:
        """Return the elements as a flat vector in this machine's byte order."""
        assert isinstance(self.data, bytes)
        return np.frombuffer(self.data, "<f4").astype(np.float32, copy=False)

    def decimal(self) -> dict[str, Any]:
        """Return the array as a JSON object whose `data` is a list of numbers; it reads back to the same bits."""
        return {"name": self.name, "dtype": self.dtype, "shape": self.shape, "data": _shortest(self.vector())}


def flatten(arrays: Sequence[Array], expected: Mapping[str, Shape]) -> Vector:
    """Join all arrays to one flat vector.

    `expected` maps names to shapes. Raises ValueError unless names, order and shapes are the expected ones, each array
    has all of its numbers, and all are finite.
    """
    _check_names([array.name for array in arrays], list(expected))
    parts = [np.empty(0, np.float32)]  # so that no arrays give an empty vector
    for position, array in enumerate(arrays):
        shape = expected[array.name]
        if array.shape != shape:
            given = shown(list(array.shape))
            raise ValueError(f"[{position}].shape: {array.name} is {given}, and the network has {list(shape)}")
        if len(array.data) != 4 * math.prod(shape):
            length = f"{len(array.data) / 4:g} numbers"
            raise ValueError(f"[{position}].data: {length}, and the shape {list(shape)} has {math.prod(shape)}")
        part = array.vector()
        if not np.isfinite(part).all():
            raise ValueError(f"[{position}].data: a number that is not finite")
        parts.append(part)
    return np.concatenate(parts)


def _check_names(names: list[str], expected: list[str]) -> None:
    """Raise ValueError, which names the first unexpected or missing array, unless the names are equal."""
    if names == expected:
        return
    known, given = set(expected), Counter(names)
    odd = next((name for name in names if name not in known or given[name] > 1), None)
    missing = next((name for name in expected if name not in given), None)
    what = f"unexpected {shown(odd)}" if odd is not None else f"missing {missing!r}" if missing else "wrong order"
    raise ValueError(f": {what}; the network has {listed(expected) or 'none'}")


def _shortest(values: Vector) -> list[float]:
    """Return each float32 as the double with the fewest printed digits that still rounds to it."""
    exact = values.tolist()
    short = [float(str(value)) for value in values]
    same = np.array(short).astype(np.float32) == values  # (n,): False where rounding twice gives a neighbour
    return [a if good else b for a, b, good in zip(short, exact, same, strict=True)]
