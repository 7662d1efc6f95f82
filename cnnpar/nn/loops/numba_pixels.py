"""Numba versions of the pixel loops: im2col, pooling and normalisation.

Shapes: images (H, W, P); P = N * C numbers a pixel, over which the innermost loops run and are vectorised.

A choice in an inner loop is a select, `a[p] = k if ... else a[p]` with k of the array's own type, and not a store under
a condition: without AVX-512 there are no masked stores of bytes, and such a loop would go number by number, 20 times
as long.
"""

from typing import Any

import numpy as np

from cnnpar.compiling import loop


@loop("void(float32[:,:,::1], int64, int64, int64, int64, int64, int64, UniTuple(int64, 2), float32[:,::1])")
def windows(
    x: Any, row: int, height: int, width: int, depth: int, down: int, across: int, count: Any, out: Any
) -> None:
    """Implement `Loops.windows`."""
    size = x.shape[2] // depth  # samples
    run = count[1] * size  # numbers in a row of windows, of one channel
    planes = np.empty((depth, x.shape[1] * size), np.float32)  # a row of pixels by channel: (C, W * N)
    for y in range((count[0] - 1) * down + height):
        source = x[row + y].reshape(x.shape[1] * x.shape[2])  # (W * N * C,)
        if depth == 1:
            planes = source.reshape(1, len(source))
        else:  # once for all windows that the row is in
            for d in range(depth):
                plane, distant = planes[d], source[d::depth]
                for p in range(len(plane)):
                    plane[p] = distant[p]
        for i in range(height):
            r = (y - i) // down  # the row of windows whose row i it is
            if y < i or (y - i) % down or r >= count[0]:
                continue
            for k in range(i * width * depth, (i + 1) * width * depth):  # rows of `out`
                plane, target = planes[k % depth], out[k, r * run : (r + 1) * run]  # (W * N,), (columns * N,)
                first = k // depth % width * size
                if across == 1:
                    pixels = plane[first : first + run]
                    for p in range(run):
                        target[p] = pixels[p]
                else:
                    for c in range(count[1]):
                        start = first + c * across * size
                        pixels, part = plane[start : start + size], target[c * size : (c + 1) * size]
                        for n in range(size):
                            part[n] = pixels[n]


@loop(
    "void(float32[:,:,::1], int64, int64, int64, int64, boolean, float32[:,:,::1], uint8[:,:,::1])",
    "void(float32[:,:,::1], int64, int64, int64, int64, boolean, float32[:,:,::1], uint32[:,:,::1])",
)
def maxpool(x: Any, height: int, width: int, down: int, across: int, rectify: bool, out: Any, winner: Any) -> None:
    """Implement `Loops.maxpool`."""
    rows, columns, pixel = out.shape
    nobody, zero = winner.dtype.type(height * width), np.float32(0)  # of the arrays' own types: selects, not stores
    for r in range(rows):
        for c in range(columns):
            best, index = out[r, c], winner[r, c]  # (P,)
            a = x[r * down, c * across]  # (P,): the first pixel of the window
            for p in range(pixel):
                best[p] = a[p]
                index[p] = 0
            for k in range(1, height * width):
                a, own = x[r * down + k // width, c * across + k % width], winner.dtype.type(k)
                for p in range(pixel):
                    value, most, first = a[p], best[p], index[p]
                    index[p] = own if value > most else first
                    best[p] = most if value <= most or most != most else value  # NaN stays, and NaN wins: numpy.maximum
            if rectify:
                for p in range(pixel):
                    most, first = best[p], index[p]
                    index[p] = first if most > 0 else nobody
                    best[p] = zero if most <= 0 else most  # NaN stays
            else:
                for p in range(pixel):
                    best[p] += np.float32(0)  # turns -0 into +0


@loop(
    "void(float32[:,:,::1], uint8[:,:,::1], int64, int64, int64, int64, boolean, float32[:,:,::1])",
    "void(float32[:,:,::1], uint32[:,:,::1], int64, int64, int64, int64, boolean, float32[:,:,::1])",
)
def maxpool_gradient(
    dy: Any, winner: Any, height: int, width: int, down: int, across: int, overlap: bool, out: Any
) -> None:
    """Implement `Loops.maxpool_gradient`."""
    rows, columns, pixel = dy.shape
    for r in range(rows):
        for c in range(columns):
            d, index = dy[r, c], winner[r, c]  # (P,)
            for k in range(height * width):
                a = out[r * down + k // width, c * across + k % width]  # (P,): pixel k of the window
                if overlap:
                    for p in range(pixel):
                        a[p] += d[p] * np.float32(index[p] == k)
                else:
                    for p in range(pixel):  # a product, not a select, as in numpy: of an infinite d it is NaN
                        a[p] = d[p] * np.float32(index[p] == k)


@loop("void(float32[::1], float32[::1], float32[::1])")
def relu_gradient(dy: Any, y: Any, out: Any) -> None:
    """Implement `Loops.relu_gradient`."""
    for p in range(len(out)):
        out[p] = dy[p] * np.float32(y[p] > 0)


@loop("void(float32[:,:,::1], float32[:,:,::1], float64[:,::1])")
def moments(x: Any, y: Any, out: Any) -> None:
    """Implement `Loops.moments`."""
    pixels, others = x.reshape(-1, x.shape[2]), y.reshape(-1, x.shape[2])  # (pixels, P)
    sums, products = out[0], out[1]  # (P,) in float64
    count, size = pixels.shape
    squares = x.ctypes.data == y.ctypes.data  # x and y are one array, each number of which is then converted once
    for p in range(size):
        sums[p] = 0
        products[p] = 0
    for i in range(0, count - 3, 4):  # four pixels at a time, so that the sums are read and written less often
        a0, a1, a2, a3 = pixels[i], pixels[i + 1], pixels[i + 2], pixels[i + 3]
        b0, b1, b2, b3 = others[i], others[i + 1], others[i + 2], others[i + 3]
        if squares:
            for p in range(size):
                d0, d1, d2, d3 = np.float64(a0[p]), np.float64(a1[p]), np.float64(a2[p]), np.float64(a3[p])
                sums[p] = (((sums[p] + d0) + d1) + d2) + d3
                products[p] = (((products[p] + d0 * d0) + d1 * d1) + d2 * d2) + d3 * d3
        else:
            for p in range(size):
                d0, d1, d2, d3 = np.float64(a0[p]), np.float64(a1[p]), np.float64(a2[p]), np.float64(a3[p])
                e0, e1, e2, e3 = np.float64(b0[p]), np.float64(b1[p]), np.float64(b2[p]), np.float64(b3[p])
                sums[p] = (((sums[p] + d0) + d1) + d2) + d3
                products[p] = (((products[p] + d0 * e0) + d1 * e1) + d2 * e2) + d3 * e3
    for i in range(count - count % 4, count):
        a, b = pixels[i], others[i]
        for p in range(size):
            sums[p] += np.float64(a[p])
            products[p] += np.float64(a[p]) * np.float64(b[p])  # the product of two float32 is exact in float64


@loop("void(float32[:,:,::1], float32[::1], float32[::1], boolean, float32[:,:,::1])")
def affine(x: Any, scale: Any, shift: Any, rectify: bool, out: Any) -> None:
    """Implement `Loops.affine`."""
    rows, columns, pixel = x.shape
    for r in range(rows):
        for c in range(columns):
            a, o = x[r, c], out[r, c]  # (P,)
            if rectify:
                for p in range(pixel):
                    value = a[p] * scale[p] + shift[p]
                    o[p] = np.float32(0) if value <= 0 else value  # NaN stays; -0 becomes +0
            else:
                for p in range(pixel):
                    o[p] = a[p] * scale[p] + shift[p]


@loop("void(float32[:,:,::1], float32[:,:,::1], float32[::1], float32[::1], float32[::1], float32[:,:,::1])")
def affine_gradient(dy: Any, x: Any, slope: Any, scale: Any, shift: Any, out: Any) -> None:
    """Implement `Loops.affine_gradient`."""
    rows, columns, pixel = x.shape
    for r in range(rows):
        for c in range(columns):
            d, a, o = dy[r, c], x[r, c], out[r, c]  # (P,)
            for p in range(pixel):  # the order of additions is numpy's
                o[p] = d[p] * slope[p] + (a[p] * scale[p] + shift[p])


@loop(
    "void(float32[:,:,::1], float32[::1], int64, int64, int64, int64, float32[:,:,::1], uint8[:,:,::1])",
    "void(float32[:,:,::1], float32[::1], int64, int64, int64, int64, float32[:,:,::1], uint32[:,:,::1])",
)
def extremes(x: Any, sign: Any, height: int, width: int, down: int, across: int, out: Any, winner: Any) -> None:
    """Implement `Loops.extremes`."""
    rows, columns, pixel = out.shape
    for r in range(rows):
        for c in range(columns):
            best, index = out[r, c], winner[r, c]  # (P,)
            a = x[r * down, c * across]  # (P,): the first pixel of the window
            for p in range(pixel):
                best[p] = a[p] * sign[p]  # exact: 1 or -1; a minimum is the maximum of what is negated
                index[p] = 0
            for k in range(1, height * width):
                a, own = x[r * down + k // width, c * across + k % width], winner.dtype.type(k)
                for p in range(pixel):
                    value, most, first = a[p] * sign[p], best[p], index[p]
                    index[p] = own if value > most else first
                    best[p] = most if value <= most or most != most else value
            for p in range(pixel):
                best[p] *= sign[p]


@loop(
    "void(float32[:,:,::1], uint8[:,:,::1], float32[:,:,::1], float32[::1], float32[::1], int64, int64, int64, int64, "
    "float32[:,:,::1])",
    "void(float32[:,:,::1], uint32[:,:,::1], float32[:,:,::1], float32[::1], float32[::1], int64, int64, int64, int64, "
    "float32[:,:,::1])",
)
def extremes_gradient(
    dy: Any, winner: Any, x: Any, scale: Any, shift: Any, height: int, width: int, down: int, across: int, out: Any
) -> None:
    """Implement `Loops.extremes_gradient`."""
    rows, columns, pixel = dy.shape
    for y in range(x.shape[0]):
        r, i = y // down, y % down  # the row of windows, and the row in the window
        for z in range(x.shape[1]):
            c, j = z // across, z % across
            a, o = x[y, z], out[y, z]  # (P,)
            if r < rows and c < columns and i < height and j < width:  # within a window
                d, index, k = dy[r, c], winner[r, c], i * width + j
                for p in range(pixel):
                    o[p] = (a[p] * scale[p] + shift[p]) + d[p] * np.float32(index[p] == k)
            else:  # between windows, or beyond the last one
                for p in range(pixel):
                    o[p] = a[p] * scale[p] + shift[p]
