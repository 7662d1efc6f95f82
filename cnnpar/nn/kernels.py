"""Array primitives of the layers: sizes of padded windows, and convolution as the definition has it.

Images are held as (H, W, N, C): the samples lie beside each other, so that a row of pixels is one long run of
W * N * C numbers. Moving, comparing and adding then runs at memory speed even when C is small, and the pixels of
all samples are the rows of one matrix product.
"""

import math
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

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


class Windows(NamedTuple):
    """Which pixels of an image the windows of a convolution hold, and which channels of theirs one output sees."""

    start: Pair  # the first pixel of the first window; it may lie outside of the image, in zeros
    stride: Pair
    outputs: Pair  # how many windows, by axis
    dilation: Pair = (1, 1)  # from a pixel of a window to the next
    groups: int = 1  # of equally many channels each; outputs likewise, and a group sees only its own

    def plain(self) -> bool:
        """Whether a window is what lies side by side, in all channels."""
        return self.dilation == (1, 1) and self.groups == 1

    def span(self, kernel: Shape) -> Pair:
        """Pixels by axis from the first one of the first window to the last one of the last."""
        return (
            self.stride[0] * (self.outputs[0] - 1) + extent(kernel[0], self.dilation[0]),
            self.stride[1] * (self.outputs[1] - 1) + extent(kernel[1], self.dilation[1]),
        )

    def are_pixels(self, x: Shape, kernel: Shape) -> bool:
        """Whether they are the pixels of x themselves, in their order."""
        return kernel[:2] == self.stride == (1, 1) and self.start == (0, 0) and self.outputs == x[:2]


def pair(value: int | Pair) -> Pair:
    """`value` for both axes, or each axis' own: (height, width)."""
    return (value, value) if isinstance(value, int) else value


def extent(window: int, dilation: int) -> int:
    """Pixels from the first to the last one of a window whose pixels are `dilation` apart."""
    return dilation * (window - 1) + 1


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


def correlate(x: Array, kernel: Array, bias: Array | None, windows: Windows, memory: Memory) -> Array:
    """The products of windows of x (H, W, N, C) with `kernel` (height, width, C / groups, channels), plus `bias`.

    All windows are copied, for each group as the rows of a matrix, unless they are the pixels themselves.
    """
    if not windows.are_pixels(x.shape, kernel.shape):
        _copy_windows(x, kernel.shape, windows, memory)
    y = memory.array("y", (*windows.outputs, x.shape[2], kernel.shape[3]), x.dtype)
    matrix = _matrix(x, kernel.shape, windows, memory)
    np.matmul(matrix, _by_group(kernel, windows.groups), out=_by_group(y, windows.groups))
    if bias is not None:
        row = memory.scratch("biases", y.shape[1:], y.dtype)  # for a whole row of pixels, to add in long runs
        row[...] = bias
        y += row
    return y


def kernel_gradient(x: Array, dy: Array, out: Array, windows: Windows, memory: Memory) -> None:
    """Write the gradient of the kernel, given that of what `correlate` returned of x when it last used `memory`."""
    matrix = _matrix(x, out.shape, windows, memory)
    np.matmul(matrix.swapaxes(1, 2), _by_group(dy, windows.groups), out=_by_group(out, windows.groups))


def _copy_windows(x: Array, kernel: Shape, windows: Windows, memory: Memory) -> None:
    """Copy the numbers of all windows to the array `windows` of `memory`."""
    height, width, depth, _ = kernel
    (down, right), (below, beside) = windows.stride, windows.dilation
    image = padded(x, windows.start, windows.span(kernel), memory)
    row, pixel, sample = image[0].size, image[0, 0].size, image[0, 0, 0].size
    shape = (windows.groups, *windows.outputs, x.shape[2], height, width, depth)
    everywhere = view(image, shape, (depth, down * row, right * pixel, sample, below * row, beside * pixel, 1))
    _blocks(memory.array("windows", shape, x.dtype))[...] = _blocks(everywhere)


def _matrix(x: Array, kernel: Shape, windows: Windows, memory: Memory) -> Array:
    """The windows of x as matrices (groups, windows of all samples, numbers)."""
    if windows.are_pixels(x.shape, kernel):
        return _by_group(x, windows.groups)
    return memory.last("windows").reshape(windows.groups, -1, math.prod(kernel[:3]))


def _by_group(array: Array, groups: int) -> Array:
    """An array (..., C) as matrices (groups, all that comes before, C / groups): a view of one that is contiguous."""
    return array.reshape(-1, groups, array.shape[-1] // groups).swapaxes(0, 1)


def _blocks(array: Array) -> NDArray[np.void]:
    """The last axis as one opaque item (a view): numpy then copies a block at a time, not a number at a time."""
    return array.view(np.dtype((np.void, array.shape[-1] * array.itemsize)))[..., 0]
