"""Array primitives of the layers: sizes of padded windows, and convolution as the definition has it.

Images are held as (H, W, N, C): the samples lie beside each other, so that a row of pixels is one long run of
W * N * C numbers. Moving, comparing and adding then runs at memory speed even when C is small, and the pixels of
all samples are the rows of one matrix product.
"""

from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from cnnpar.nn.loops import Array as Array
from cnnpar.nn.loops import Loops
from cnnpar.nn.loops import Pair as Pair
from cnnpar.nn.reference import copy_pixels

Shape: TypeAlias = tuple[int, ...]

Number = TypeVar("Number", bound=np.generic)


class Memory(Protocol):
    """Where a function has its arrays from; see `cnnpar.nn.layers.base.Workspace`."""

    loops: Loops  # what goes number by number

    def array(self, name: str, shape: Shape, dtype: np.dtype[Any], order: tuple[int, ...] | None = None) -> Array:
        """The array `name`, which stays: zeros the first time."""

    def scratch(self, name: str, shape: Shape, dtype: np.dtype[Any]) -> Array:
        """An array for now, which may hold anything."""

    def part(self, name: str) -> "Memory":
        """Memory of its own, whose arrays have other names."""

    def last(self, name: str) -> Array:
        """The array `name`, as it was left."""


def pair(value: int | Pair) -> Pair:
    """`value` for both axes, or each axis' own: (height, width)."""
    return (value, value) if isinstance(value, int) else value


def window_count(size: int, window: int, stride: int) -> int:
    """How many whole windows lie in an axis of `size` pixels; a remainder at the end is left out. 0 if none fits."""
    return (size - window) // stride + 1 if size >= window else 0


def pad_sizes(size: int, window: int, stride: int, padding: Literal["same", "valid"] | int) -> Pair:
    """Zeros before and after an axis of `size` pixels.

    "same" makes ceil(size / stride) windows; where the number of zeros is odd, the extra one goes after.
    """
    if padding == "valid":
        return 0, 0
    if padding == "same":
        total = max((-(-size // stride) - 1) * stride + window - size, 0)
        return total // 2, total - total // 2
    return padding, padding


def padded(x: Array, start: Pair, size: Pair, memory: Memory) -> Array:
    """The `size` pixels of x (H, W, N, C) from the pixel `start` on; outside of the image they are 0."""
    out = memory.array("padded", (*size, *x.shape[2:]), x.dtype)  # written where the image is, and 0 elsewhere
    copy_pixels(x, start, out)
    return out


def as_rows(x: NDArray[Number]) -> NDArray[Number]:
    """Images (H, W, N, C) as (H, W, N * C), contiguous: the numbers of a pixel side by side."""
    return np.ascontiguousarray(x).reshape(*x.shape[:2], -1)


def view(array: Array, shape: Shape, strides: tuple[int, ...]) -> Array:
    """Parts of a contiguous array, which may overlap; strides count numbers."""
    return np.ndarray(shape, array.dtype, array, 0, tuple(stride * array.itemsize for stride in strides))


def correlate(
    x: Array, kernel: Array, bias: Array | None, start: Pair, stride: Pair, count: Pair, memory: Memory
) -> Array:
    """The products of `count` windows of x (H, W, N, C) with `kernel` (height, width, C, channels), plus `bias`.

    The first window starts at the pixel `start`, which may lie outside of the image, in zeros. All windows are copied,
    as the rows of a matrix.
    """
    height, width, depth, channels = kernel.shape
    size = stride[0] * (count[0] - 1) + height, stride[1] * (count[1] - 1) + width
    image = padded(x, start, size, memory)
    row, pixel = image[0].size, image[0, 0].size
    shape = (*count, x.shape[2], height, width, depth)
    windows = memory.array("windows", shape, x.dtype)
    everywhere = view(image, shape, (stride[0] * row, stride[1] * pixel, depth, row, pixel, 1))
    _blocks(windows)[...] = _blocks(everywhere)
    y = memory.array("y", (*count, x.shape[2], channels), x.dtype)
    np.matmul(windows.reshape(-1, height * width * depth), kernel.reshape(-1, channels), out=y.reshape(-1, channels))
    if bias is not None:
        row = memory.scratch("biases", y.shape[1:], y.dtype)  # for a whole row of pixels, to add in long runs
        row[...] = bias
        y += row
    return y


def kernel_gradient(dy: Array, out: Array, memory: Memory) -> None:
    """Write the gradient of the kernel, given that of what `correlate` returned when it last used `memory`."""
    elements = out.reshape(-1, out.shape[3])
    np.matmul(memory.last("windows").reshape(-1, len(elements)).T, dy.reshape(-1, out.shape[3]), out=elements)


def _blocks(array: Array) -> NDArray[np.void]:
    """The last axis as one opaque item (a view): numpy then copies a block at a time, not a number at a time."""
    return array.view(np.dtype((np.void, array.shape[-1] * array.itemsize)))[..., 0]
