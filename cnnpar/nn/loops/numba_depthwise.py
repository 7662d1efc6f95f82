"""Numba versions of the depthwise loops: elementwise products of the windows of an image, and their gradient.

Shapes: images (H, W, P); P = N * C numbers a pixel, over which the innermost loops run and are vectorised.

Each number takes part in a product and a sum for every pixel of a window, so reading is what takes the time. Therefore
the numbers of a pixel are taken a piece at a time, so that all windows that a pixel is in find it in a cache; and an
innermost loop does several products for each number that it reads, in the order in which numpy would add them.
"""

from typing import Any

import numpy as np

from cnnpar.compiling import inline, loop

_PIECE = 512  # numbers of a pixel at a time: a kernel of 3 x 3 is then 18 KiB
_APART = 16  # numbers between pieces read together: at a distance of a power of 2 they would share few cache sets


@inline
def _plus(total: Any, a: Any, b: Any, c: Any, u: Any, v: Any, w: Any) -> Any:
    """Return a sum with three more products, added one after the other."""
    return ((total + a * u) + b * v) + c * w


@inline
def _two_windows(pixels: Any, z: int, weights: Any, start: int, stop: int, first: Any, second: Any) -> None:
    """Add a row of a window from the column `z` on, and of the next window; pixels (W, P), weights (width, P)."""
    width = len(weights)
    for j in range(0, width - 2, 3):
        a, b = pixels[z + j, start:stop], pixels[z + j + 1, start:stop]
        c, d = pixels[z + j + 2, start:stop], pixels[z + j + 3, start:stop]
        u, v, w = weights[j], weights[j + 1], weights[j + 2]
        for p in range(stop - start):
            one = _plus(first[p], a[p], b[p], c[p], u[p], v[p], w[p])
            two = _plus(second[p], b[p], c[p], d[p], u[p], v[p], w[p])
            first[p], second[p] = one, two
    for j in range(width - width % 3, width):
        a, b, u = pixels[z + j, start:stop], pixels[z + j + 1, start:stop], weights[j]
        for p in range(stop - start):
            first[p], second[p] = first[p] + a[p] * u[p], second[p] + b[p] * u[p]


@inline
def _window(pixels: Any, z: int, apart: int, weights: Any, start: int, stop: int, total: Any) -> None:
    """Add a row of a window from the column `z` on, of pixels that are `apart`."""
    width = len(weights)
    for j in range(0, width - 2, 3):
        y = z + j * apart
        a, b = pixels[y, start:stop], pixels[y + apart, start:stop]
        c = pixels[y + 2 * apart, start:stop]
        u, v, w = weights[j], weights[j + 1], weights[j + 2]
        for p in range(stop - start):
            total[p] = _plus(total[p], a[p], b[p], c[p], u[p], v[p], w[p])
    for j in range(width - width % 3, width):
        a, u = pixels[z + j * apart, start:stop], weights[j]
        for p in range(stop - start):
            total[p] += a[p] * u[p]


@loop("void(float32[:,:,::1], float32[:,:,::1], UniTuple(int64, 2), UniTuple(int64, 2), float32[:,:,::1])")
def depthwise(x: Any, kernel: Any, stride: Any, dilation: Any, out: Any) -> None:
    """Implement `Loops.depthwise`."""
    height, width, pixel = kernel.shape
    rows, columns, _ = out.shape
    dense = stride[1] == 1 and dilation[1] == 1  # neighbouring windows share pixels: two windows at a time
    paired = columns - columns % 2 if dense else 0
    weights = np.empty((height, width, _PIECE + _APART), np.float32)
    for start in range(0, pixel, _PIECE):
        stop = min(start + _PIECE, pixel)
        for k in range(height * width):
            own, piece = weights[k // width, k % width], kernel[k // width, k % width, start:stop]
            for p in range(stop - start):
                own[p] = piece[p]
        for r in range(rows):
            for c in range(0, paired, 2):
                first, second = out[r, c, start:stop], out[r, c + 1, start:stop]
                for i in range(height):
                    _two_windows(x[r * stride[0] + i * dilation[0]], c, weights[i], start, stop, first, second)
            for c in range(paired, columns):
                for i in range(height):
                    pixels, z = x[r * stride[0] + i * dilation[0]], c * stride[1]
                    _window(pixels, z, dilation[1], weights[i], start, stop, out[r, c, start:stop])


@inline
def _three_sums(
    x: Any, y: int, z: int, dy: Any, r: int, c: int, start: int, n: int, first: Any, second: Any, third: Any
) -> None:
    """Add three windows' products to the sums of three pixels of the kernel, one below the other."""
    a0, a1, a2 = x[y, z, start : start + n], x[y + 1, z, start : start + n], x[y + 2, z, start : start + n]
    a3, a4 = x[y + 3, z, start : start + n], x[y + 4, z, start : start + n]
    d0, d1, d2 = dy[r, c, start : start + n], dy[r + 1, c, start : start + n], dy[r + 2, c, start : start + n]
    for p in range(n):
        one = _plus(first[p], a0[p], a1[p], a2[p], d0[p], d1[p], d2[p])
        two = _plus(second[p], a1[p], a2[p], a3[p], d0[p], d1[p], d2[p])
        third[p] = _plus(third[p], a2[p], a3[p], a4[p], d0[p], d1[p], d2[p])
        first[p], second[p] = one, two


@inline
def _sum(x: Any, y: int, down: int, z: int, dy: Any, r: int, c: int, start: int, n: int, total: Any) -> None:
    """Add three windows' products to the sum of one pixel of the kernel."""
    a0, a1 = x[y, z, start : start + n], x[y + down, z, start : start + n]
    a2 = x[y + 2 * down, z, start : start + n]
    d0, d1, d2 = dy[r, c, start : start + n], dy[r + 1, c, start : start + n], dy[r + 2, c, start : start + n]
    for p in range(n):
        total[p] = _plus(total[p], a0[p], a1[p], a2[p], d0[p], d1[p], d2[p])


@loop("void(float32[:,:,::1], float32[:,:,::1], UniTuple(int64, 2), UniTuple(int64, 2), float32[:,:,::1])")
def depthwise_gradient(x: Any, dy: Any, stride: Any, dilation: Any, out: Any) -> None:
    """Implement `Loops.depthwise_gradient`."""
    height, width, pixel = out.shape
    rows, columns, _ = dy.shape
    dense = stride[0] == 1 and dilation[0] == 1  # windows one above the other share pixels
    shared = height - height % 3 if dense else 0
    sums = np.empty((height, width, _PIECE + _APART), np.float32)  # of one column of windows
    out[:] = 0
    for start in range(0, pixel, _PIECE):
        n = min(start + _PIECE, pixel) - start
        for c in range(columns):
            sums[:] = 0
            for r in range(0, rows - 2, 3):  # three windows at a time, from top to bottom
                for j in range(width):
                    z = c * stride[1] + j * dilation[1]
                    for i in range(0, shared, 3):
                        _three_sums(x, r + i, z, dy, r, c, start, n, sums[i, j], sums[i + 1, j], sums[i + 2, j])
                    for i in range(shared, height):
                        _sum(x, r * stride[0] + i * dilation[0], stride[0], z, dy, r, c, start, n, sums[i, j])
            for r in range(rows - rows % 3, rows):
                d = dy[r, c, start : start + n]
                for k in range(height * width):
                    i, j = k // width, k % width
                    a = x[r * stride[0] + i * dilation[0], c * stride[1] + j * dilation[1], start : start + n]
                    total = sums[i, j]
                    for p in range(n):
                        total[p] += a[p] * d[p]
            for k in range(height * width):  # a column is added when it is complete: numpy's order
                o, total = out[k // width, k % width, start : start + n], sums[k // width, k % width]
                for p in range(n):
                    o[p] += total[p]
