"""Array primitives of the layers: sizes of padded windows, and windows laid out as the rows of a matrix.

Images are held as (H, W, N, C): the samples lie beside each other, so that a row of pixels is one long run of
W * N * C numbers. Moving, comparing and adding then runs at memory speed even when C is small, and the pixels of
all samples are the rows of one matrix product.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dgemm, sgemm

Array: TypeAlias = NDArray[np.floating[Any]]
Shape: TypeAlias = tuple[int, ...]
Pair: TypeAlias = tuple[int, int]

_GEMM = {np.dtype(np.float32): sgemm, np.dtype(np.float64): dgemm}
_SHORT = 16  # numbers; below this, a row of a window is too short for a matrix product of its own


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


def window_pixels(window: Pair, stride: Pair, count: Pair) -> Iterator[tuple[slice, slice]]:
    """For every pixel of an unpadded window, in row-major order, the slices of an image that hold it for all windows.

    `count` windows by axis, so image[slices] has the shape (*count, ...).
    """
    for y in range(window[0]):
        for x in range(window[1]):
            yield (
                slice(y, y + stride[0] * (count[0] - 1) + 1, stride[0]),
                slice(x, x + stride[1] * (count[1] - 1) + 1, stride[1]),
            )


def unrolled(count: Pair, samples: int, kernel: tuple[int, int, int], stride: Pair) -> tuple[Shape, tuple[int, ...]]:
    """Shape of the array that `unroll` writes for `count` windows of `kernel` (height, width, C); its order in memory.

    The order names the axes (h, w, N, rows, columns, C) from the outermost to the innermost. Usually the elements of
    a window lie side by side, a row of a matrix. Where windows are one pixel apart vertically, that need not be the
    whole window: the array holds each image row's windows of height 1 once, and the product with the kernel is the
    sum of a product for each kernel row, of a slice that starts one image row further down. That copies less, by the
    kernel's height. But short rows, as of a grey image, are slow to copy and to multiply: then the windows are
    unrolled wholly, and their elements lie in the outer axes, so that all pixels of one element are a long run.
    """
    height, width, channels = kernel
    if width * channels < _SHORT:
        return (*count, samples, height, width, channels), (3, 4, 5, 0, 1, 2)
    rows = 1 if stride[0] == 1 else height
    return (count[0] + height - rows, count[1], samples, rows, width, channels), (0, 1, 2, 3, 4, 5)


def unroll(image: Array, start: Pair, stride: Pair, out: Array) -> None:
    """Copy the windows of `image` (H, W, N, C) into `out`, (h, w, N, rows, columns, C), see `unrolled`.

    out[i, j, :, a, b] is the pixel at row start[0] + stride[0] * i + a, column start[1] + stride[1] * j + b. Outside
    the image nothing is written: `out` must hold zeros there, as an array does that was zeros and is written here only.
    """
    source, target = (_blocks(image), _blocks(out)) if out.flags.c_contiguous else (image, out)
    for a in range(out.shape[3]):
        to_rows, from_rows = _inside(image.shape[0], out.shape[0], stride[0], start[0] + a)
        for b in range(out.shape[4]):
            to_columns, from_columns = _inside(image.shape[1], out.shape[1], stride[1], start[1] + b)
            target[to_rows, to_columns, :, a, b] = source[from_rows, from_columns]


def add_correlation(windows: Array, kernel: Array, out: Array) -> None:
    """Add to `out` (h, w, N, channels) the product of each window with `kernel` (height, width, C, channels).

    `windows` are from `unroll`. BLAS adds where numpy's product could only overwrite; and it counts by columns, so
    that out += windows @ kernel is given to it transposed.
    """
    gemm, flat = _GEMM[out.dtype], out.reshape(-1, out.shape[-1])  # flat: (pixels, channels)
    for part, rows in _products(windows, kernel):
        by_columns = part.flags.f_contiguous
        gemm(1.0, rows.T, part if by_columns else part.T, trans_b=by_columns, beta=1.0, c=flat.T, overwrite_c=True)


def kernel_gradient(windows: Array, dy: Array, out: Array) -> None:
    """Write the gradient of the kernel of `add_correlation`, given that of its `out`."""
    flat = dy.reshape(-1, dy.shape[-1])  # (pixels, channels)
    for part, rows in _products(windows, out):
        np.matmul(part.T, flat, out=rows)


def _products(windows: Array, kernel: Array) -> Iterator[tuple[Array, Array]]:
    """The pairs of matrices, (pixels, elements) and (elements, channels), whose products add up; see `unrolled`."""
    height, rows = len(kernel), windows.shape[3]
    count = len(windows) - (height - rows)
    for row in range(0, height, rows):
        matrix = kernel[row : row + rows].reshape(-1, kernel.shape[-1])
        yield windows[row : row + count].reshape(-1, len(matrix)), matrix


@lru_cache(maxsize=1024)
def _inside(size: int, count: int, stride: int, offset: int) -> tuple[slice, slice]:
    """The windows i < count whose pixel stride * i + offset lies in an axis of `size`, and those pixels."""
    first = max(0, -(offset // stride))
    last = min(count, (size - 1 - offset) // stride + 1)
    if last <= first:
        return slice(0, 0), slice(0, 0)
    start = stride * first + offset
    return slice(first, last), slice(start, start + stride * (last - first - 1) + 1, stride)


def _blocks(array: Array) -> NDArray[np.void]:
    """The last axis as one opaque item (a view): numpy then copies a block at a time, not a number at a time."""
    return array.view(np.dtype((np.void, array.shape[-1] * array.itemsize)))[..., 0]
