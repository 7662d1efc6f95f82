"""Those of the compiled loops that need no formulas: copies, maxima, sums, and a multiplication and addition each.

A choice in an inner loop is a select, `a[p] = k if ... else a[p]` with k of the array's own type, and not a store under
a condition: without AVX-512 there are no masked stores of bytes, and such a loop would go number by number.
"""

from typing import Any

import numpy as np

from cnnpar.compiling import loop

_PIECE = 256  # numbers of a pixel that are in work at a time


@loop("void(float32[:,:,::1], int64, int64, int64, int64, int64, int64, UniTuple(int64, 2), float32[:,::1])")
def windows(
    x: Any, row: int, height: int, width: int, depth: int, down: int, across: int, count: Any, out: Any
) -> None:
    """See `loops.Loops`."""
    size = x.shape[2] // depth  # samples
    run = count[1] * size
    for k in range(height * width):
        for r in range(count[0]):
            source = x[row + r * down + k // width].reshape(x.shape[1] * x.shape[2])
            first = (k % width) * x.shape[2]
            for d in range(depth):
                target = out[k * depth + d, r * run : (r + 1) * run]
                if depth == 1 and across == 1:
                    pixels = source[first : first + run]
                    for p in range(run):
                        target[p] = pixels[p]
                else:
                    for c in range(count[1]):
                        start = first + c * across * x.shape[2] + d
                        for n in range(size):
                            target[c * size + n] = source[start + n * depth]


@loop(
    "void(float32[:,:,::1], int64, int64, int64, int64, boolean, float32[:,:,::1], uint8[:,:,::1])",
    "void(float32[:,:,::1], int64, int64, int64, int64, boolean, float32[:,:,::1], uint32[:,:,::1])",
)
def maxpool(x: Any, height: int, width: int, down: int, across: int, rectify: bool, out: Any, winner: Any) -> None:
    """See `loops.Loops`."""
    rows, columns, pixel = out.shape
    nobody, zero = winner.dtype.type(height * width), np.float32(0)
    for r in range(rows):
        for c in range(columns):
            best, index = out[r, c], winner[r, c]
            a = x[r * down, c * across]
            for p in range(pixel):
                best[p] = a[p]
                index[p] = 0
            for k in range(1, height * width):
                a, own = x[r * down + k // width, c * across + k % width], winner.dtype.type(k)
                for p in range(pixel):
                    value, most, first = a[p], best[p], index[p]
                    index[p] = own if value > most else first
                    best[p] = most if value <= most or most != most else value
            if rectify:
                for p in range(pixel):
                    most, first = best[p], index[p]
                    index[p] = first if most > 0 else nobody
                    best[p] = zero if most <= 0 else most
            else:
                for p in range(pixel):
                    best[p] += np.float32(0)


@loop(
    "void(float32[:,:,::1], uint8[:,:,::1], int64, int64, int64, int64, boolean, float32[:,:,::1])",
    "void(float32[:,:,::1], uint32[:,:,::1], int64, int64, int64, int64, boolean, float32[:,:,::1])",
)
def maxpool_gradient(
    dy: Any, winner: Any, height: int, width: int, down: int, across: int, overlap: bool, out: Any
) -> None:
    """See `loops.Loops`."""
    rows, columns, pixel = dy.shape
    for r in range(rows):
        for c in range(columns):
            d, index = dy[r, c], winner[r, c]
            for k in range(height * width):
                a = out[r * down + k // width, c * across + k % width]
                if overlap:
                    for p in range(pixel):
                        a[p] += d[p] * np.float32(index[p] == k)
                else:
                    for p in range(pixel):
                        a[p] = d[p] * np.float32(index[p] == k)


@loop("void(float32[::1], float32[::1], float32[::1])")
def relu_gradient(dy: Any, y: Any, out: Any) -> None:
    """See `loops.Loops`."""
    for p in range(len(out)):
        out[p] = dy[p] * np.float32(y[p] > 0)


@loop("void(float32[:,:,::1], float32[:,:,::1], float64[:,::1])")
def moments(x: Any, y: Any, out: Any) -> None:
    """See `loops.Loops`."""
    rows, columns, pixel = x.shape
    plain, products = out[0], out[1]
    for p in range(pixel):
        plain[p] = 0
        products[p] = 0
    for r in range(rows):
        for c in range(columns):
            a, b = x[r, c], y[r, c]
            for p in range(pixel):
                plain[p] += np.float64(a[p])
                products[p] += np.float64(a[p]) * np.float64(b[p])


@loop("void(float32[:,:,::1], float32[::1], float32[::1], boolean, float32[:,:,::1])")
def affine(x: Any, scale: Any, shift: Any, rectify: bool, out: Any) -> None:
    """See `loops.Loops`."""
    rows, columns, pixel = x.shape
    for r in range(rows):
        for c in range(columns):
            a, o = x[r, c], out[r, c]
            if rectify:
                for p in range(pixel):
                    value = a[p] * scale[p] + shift[p]
                    o[p] = np.float32(0) if value <= 0 else value
            else:
                for p in range(pixel):
                    o[p] = a[p] * scale[p] + shift[p]


@loop("void(float32[:,:,::1], float32[:,:,::1], float32[::1], float32[::1], float32[::1], float32[:,:,::1])")
def affine_gradient(dy: Any, x: Any, slope: Any, scale: Any, shift: Any, out: Any) -> None:
    """See `loops.Loops`."""
    rows, columns, pixel = x.shape
    for r in range(rows):
        for c in range(columns):
            d, a, o = dy[r, c], x[r, c], out[r, c]
            for p in range(pixel):
                o[p] = d[p] * slope[p] + (a[p] * scale[p] + shift[p])


@loop(
    "void(float32[:,:,::1], float32[::1], int64, int64, int64, int64, float32[:,:,::1], uint8[:,:,::1])",
    "void(float32[:,:,::1], float32[::1], int64, int64, int64, int64, float32[:,:,::1], uint32[:,:,::1])",
)
def extremes(x: Any, sign: Any, height: int, width: int, down: int, across: int, out: Any, winner: Any) -> None:
    """See `loops.Loops`."""
    rows, columns, pixel = out.shape
    for r in range(rows):
        for c in range(columns):
            best, index = out[r, c], winner[r, c]
            a = x[r * down, c * across]
            for p in range(pixel):
                best[p] = a[p] * sign[p]
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
    """See `loops.Loops`."""
    rows, columns, pixel = dy.shape
    for y in range(x.shape[0]):
        r, i = y // down, y % down
        for z in range(x.shape[1]):
            c, j = z // across, z % across
            a, o = x[y, z], out[y, z]
            if r < rows and c < columns and i < height and j < width:
                d, index, k = dy[r, c], winner[r, c], i * width + j
                for p in range(pixel):
                    o[p] = (a[p] * scale[p] + shift[p]) + d[p] * np.float32(index[p] == k)
            else:
                for p in range(pixel):
                    o[p] = a[p] * scale[p] + shift[p]


@loop("void(float32[:,:,::1], float32[:,:,::1], UniTuple(int64, 2), UniTuple(int64, 2), float32[:,:,::1])")
def depthwise(x: Any, kernel: Any, stride: Any, dilation: Any, out: Any) -> None:
    """See `loops.Loops`."""
    height, width, pixel = kernel.shape
    for r in range(out.shape[0]):
        for start in range(0, pixel, _PIECE):
            n = min(_PIECE, pixel - start)
            stop = start + n
            for c in range(out.shape[1]):
                o = out[r, c, start:stop]
                for k in range(height * width):
                    i, j = k // width, k % width
                    a = x[r * stride[0] + i * dilation[0], c * stride[1] + j * dilation[1], start:stop]
                    w = kernel[i, j, start:stop]
                    for p in range(n):
                        o[p] += a[p] * w[p]


@loop("void(float32[:,:,::1], float32[:,:,::1], UniTuple(int64, 2), UniTuple(int64, 2), float32[:,:,::1])")
def depthwise_gradient(x: Any, dy: Any, stride: Any, dilation: Any, out: Any) -> None:
    """See `loops.Loops`."""
    height, width, pixel = out.shape
    columns = np.empty((height, width, _PIECE), np.float32)
    out[:] = 0
    for start in range(0, pixel, _PIECE):
        n = min(_PIECE, pixel - start)
        stop = start + n
        for c in range(dy.shape[1]):
            columns[:] = 0
            for r in range(dy.shape[0]):
                d = dy[r, c, start:stop]
                for k in range(height * width):
                    i, j = k // width, k % width
                    a = x[r * stride[0] + i * dilation[0], c * stride[1] + j * dilation[1], start:stop]
                    total = columns[i, j]
                    for p in range(n):
                        total[p] += a[p] * d[p]
            for k in range(height * width):
                o, total = out[k // width, k % width, start:stop], columns[k // width, k % width]
                for p in range(n):
                    o[p] += total[p]
