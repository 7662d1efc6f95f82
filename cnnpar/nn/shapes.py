"""Types of arrays and shapes, and views of images.

Images are held as (H, W, N, C): the samples lie beside each other, so that a row of pixels is one long run of
W * N * C numbers. Moving, comparing and adding then runs at memory speed even when C is small, and the pixels of
all samples are the rows of one matrix product.
"""

from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating[Any]]
Shape: TypeAlias = tuple[int, ...]
Vector: TypeAlias = NDArray[np.float32]  # (n,): all parameters of a network, and buffers behind them
Statistics: TypeAlias = NDArray[np.float64]  # sums over pixels, and what follows from them
Indices: TypeAlias = NDArray[np.int64]
Winner: TypeAlias = NDArray[Any]  # numbers of pixels in their windows: uint8, or uint32 for windows of more than 255
Pair: TypeAlias = tuple[int, int]  # (height, width)

Number = TypeVar("Number", bound=np.generic)


def pair(value: int | Pair) -> Pair:
    """Return (height, width): `value` for both axes where it is one number."""
    return (value, value) if isinstance(value, int) else value


def as_rows(x: NDArray[Number]) -> NDArray[Number]:
    """Return images (H, W, N, C) as contiguous (H, W, N * C): the numbers of a pixel side by side."""
    return np.ascontiguousarray(x).reshape(*x.shape[:2], -1)


def view(array: Array, shape: Shape, strides: tuple[int, ...]) -> Array:
    """Return a view of a contiguous array; `strides` count numbers, not bytes, and parts may overlap."""
    return np.ndarray(shape, array.dtype, array, 0, tuple(stride * array.itemsize for stride in strides))
