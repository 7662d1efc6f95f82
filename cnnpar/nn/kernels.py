"""Array primitives of the layers: unrolled windows, and the sizes that padding and strides make.

Images are held as (H, W, N, C): the samples lie beside each other, so that a whole row of an image is one long
run of W * N * C numbers. Moving, comparing and adding rows then runs at memory speed, and a convolution is one
matrix product whose rows are the pixels of all samples.
"""

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating[Any]]
Pair: TypeAlias = tuple[int, int]
Padding: TypeAlias = Literal["same", "valid"] | int | Pair


def pair(value: int | Pair) -> Pair:
    """`value` for both axes, or each axis' own: (height, width)."""
    return (value, value) if isinstance(value, int) else value


def window_count(size: int, window: int, stride: int) -> int:
    """How many windows fit into `size` pixels; a remainder at the end is left out. 0 where none fits."""
    return (size - window) // stride + 1 if size >= window else 0


def pad_sizes(size: int, window: int, stride: int, padding: Literal["same", "valid"] | int) -> Pair:
    """Zeros before and after an axis of `size` pixels.

    "same" makes ceil(size / stride) windows; an odd number of zeros puts the extra one after.
    """
    if padding == "valid":
        return 0, 0
    if padding == "same":
        total = max((-(-size // stride) - 1) * stride + window - size, 0)
        return total // 2, total - total // 2
    return padding, padding


def taps(size: int, count: int, stride: int, offset: int) -> tuple[slice, slice]:
    """Which of `count` windows find pixel `offset + stride * i` inside an axis of `size` pixels, and which pixels.

    Returns (slice of the windows, slice of the pixels), of equal length, possibly empty.
    """
    first = max(0, -(offset // stride))
    last = min(count - 1, (size - 1 - offset) // stride)
    if last < first:
        return slice(0, 0), slice(0, 0)
    start = offset + stride * first
    return slice(first, last + 1), slice(start, offset + stride * last + 1, stride)


def cells(array: Array) -> NDArray[np.void]:
    """The last axis as one opaque item, a view: numpy copies it as a block instead of number by number."""
    return array.view(np.dtype((np.void, array.shape[-1] * array.itemsize)))[..., 0]


def window_slices(size: Pair, stride: Pair, shape: Pair) -> Iterator[tuple[slice, slice]]:
    """Every position inside an unpadded window, in row-major order, as slices of the image: pixel i of each window.

    `size` is the window, `shape` the number of windows; slicing an (H, W, ...) image gives (*shape, ...).
    """
    for y in range(size[0]):
        for x in range(size[1]):
            yield (
                slice(y, y + stride[0] * (shape[0] - 1) + 1, stride[0]),
                slice(x, x + stride[1] * (shape[1] - 1) + 1, stride[1]),
            )
