"""Numba versions of the Winograd loops: the transforms of tiles, several times as fast as numpy, with the same bits.

numba translates the functions below to machine code once on a machine, and keeps it in files beside this one or in the
user's cache folder. It changes no order of operations and fuses none, as numpy does not.

A transform of 6 x 6 points is one along an axis, then one along the other; `half` is what the first leaves to the
second, and stays in a cache. The innermost loops run over the P = N * C numbers of a pixel, or over whole rows of
pixels, and are vectorised: inputs and results are single variables, not small arrays, so that they stay in registers.
"""

from typing import Any

import numpy as np

from cnnpar.compiling import inline, loop, takes_from
from cnnpar.nn.loops import winograd_formulas

_PIECE = 256  # numbers of a pixel at a time: `half` in `outputs` is then 25 KiB, and stays in the L1 cache
_APART = 16  # numbers between arrays read together: at a distance of a power of 2 they would share few cache sets

takes_from(__file__, winograd_formulas)
_inputs, _input_gradients = inline(winograd_formulas.inputs), inline(winograd_formulas.input_gradients)
_outputs2, _outputs3, _outputs4 = (
    inline(winograd_formulas.outputs2),
    inline(winograd_formulas.outputs3),
    inline(winograd_formulas.outputs4),
)
_gradients2, _gradients3 = inline(winograd_formulas.gradients2), inline(winograd_formulas.gradients3)
_gradients4 = inline(winograd_formulas.gradients4)


@inline
def _by_rows(x: Any) -> Any:
    """Return an image as rows (H, W * P), a row of zeros (W * P,), and room for six rows of values at the points."""
    numbers = x.shape[1] * x.shape[2]
    zeros, half = np.zeros(numbers, np.float32), np.empty((6, numbers + _APART), np.float32)  # half: (6, W * P or more)
    return x.reshape(x.shape[0], numbers), zeros, half


@inline
def _row(x: Any, row: int, zeros: Any) -> Any:
    """Return a row of pixels (W * P,); zeros outside of the image."""
    return x[row] if 0 <= row < x.shape[0] else zeros


@inline
def _pixel(row: Any, column: int, columns: int, size: int, zeros: Any) -> Any:
    """Return a pixel (P,) of a row of `columns` pixels, with P = `size`; zeros outside of it."""
    return row[column * size : column * size + size] if 0 <= column < columns else zeros


@loop("void(float32[:,:,::1], int64, int64, int64, int64, int64, int64, float32[:,::1])")
def input_points(x: Any, top: int, left: int, down: int, across: int, rows: int, columns: int, out: Any) -> None:
    """Implement `Loops.input_points`."""
    _, width, size = x.shape
    image, zeros, half = _by_rows(x)
    none = zeros[:size]
    for r in range(rows):
        y = top + r * down  # the first of six rows of pixels
        a0, a1, a2 = _row(image, y, zeros), _row(image, y + 1, zeros), _row(image, y + 2, zeros)
        a3, a4, a5 = _row(image, y + 3, zeros), _row(image, y + 4, zeros), _row(image, y + 5, zeros)
        h0, h1, h2, h3, h4, h5 = half[0], half[1], half[2], half[3], half[4], half[5]
        for p in range(width * size):  # along the height, once for all tiles of the row, although they overlap
            h0[p], h1[p], h2[p], h3[p], h4[p], h5[p] = _inputs(a0[p], a1[p], a2[p], a3[p], a4[p], a5[p])
        for c in range(columns):
            z = left + c * across  # the first of six columns of pixels
            start = (r * columns + c) * size  # of this tile in each row of `out`
            stop = start + size
            for i in range(6):  # along the width, for each point of the height
                h = half[i]  # (W * P,)
                k0, k1 = _pixel(h, z, width, size, none), _pixel(h, z + 1, width, size, none)
                k2, k3 = _pixel(h, z + 2, width, size, none), _pixel(h, z + 3, width, size, none)
                k4, k5 = _pixel(h, z + 4, width, size, none), _pixel(h, z + 5, width, size, none)
                b0, b1, b2 = out[6 * i, start:stop], out[6 * i + 1, start:stop], out[6 * i + 2, start:stop]
                b3, b4, b5 = out[6 * i + 3, start:stop], out[6 * i + 4, start:stop], out[6 * i + 5, start:stop]
                for p in range(size):
                    b0[p], b1[p], b2[p], b3[p], b4[p], b5[p] = _inputs(k0[p], k1[p], k2[p], k3[p], k4[p], k5[p])


@loop("void(float32[:,::1], int64, int64, int64, int64, int64, int64, float32[:,:,::1])")
def input_gradients(
    points: Any, top: int, left: int, down: int, across: int, rows: int, columns: int, out: Any
) -> None:
    """Implement `Loops.input_gradients`."""
    height, width, size = out.shape
    across_all = (columns - 1) * across + 6  # pixels that a row of tiles is wide
    half = np.empty((across_all, 6, _PIECE + _APART), np.float32)  # (width, points of the height, numbers of a pixel)
    whole = np.empty((6, _PIECE + _APART), np.float32)  # a column of six pixels
    for r in range(rows):
        y = top + r * down
        for start in range(0, size, _PIECE):
            n = min(_PIECE, size - start)
            half[:] = 0
            for c in range(columns):  # along the width; tiles overlap, so they are added, from left to right
                first = (r * columns + c) * size + start
                last = first + n
                z = c * across
                for i in range(6):
                    k0, k1, k2 = points[6 * i, first:last], points[6 * i + 1, first:last], points[6 * i + 2, first:last]
                    k3, k4 = points[6 * i + 3, first:last], points[6 * i + 4, first:last]
                    k5 = points[6 * i + 5, first:last]
                    h0, h1, h2 = half[z, i], half[z + 1, i], half[z + 2, i]
                    h3, h4, h5 = half[z + 3, i], half[z + 4, i], half[z + 5, i]
                    for p in range(n):
                        v0, v1, v2, v3, v4, v5 = _input_gradients(k0[p], k1[p], k2[p], k3[p], k4[p], k5[p])
                        h0[p] += v0
                        h1[p] += v1
                        h2[p] += v2
                        h3[p] += v3
                        h4[p] += v4
                        h5[p] += v5
            for j in range(max(0, -left), min(across_all, width - left)):  # along the height, inside of the image
                h0, h1, h2, h3, h4, h5 = half[j, 0], half[j, 1], half[j, 2], half[j, 3], half[j, 4], half[j, 5]
                w0, w1, w2, w3, w4, w5 = whole[0], whole[1], whole[2], whole[3], whole[4], whole[5]
                for p in range(n):
                    w0[p], w1[p], w2[p], w3[p], w4[p], w5[p] = _input_gradients(
                        h0[p], h1[p], h2[p], h3[p], h4[p], h5[p]
                    )
                for i in range(max(0, -y), min(6, height - y)):  # rows of tiles overlap: added from top to bottom
                    o, w = out[y + i, left + j, start : start + n], whole[i]
                    for p in range(n):
                        o[p] += w[p]


@loop("void(float32[:,:,::1], int64, int64, int64, int64, int64, float32[:,::1])")
def gradient_points(dy: Any, top: int, down: int, across: int, rows: int, columns: int, out: Any) -> None:
    """Implement `Loops.gradient_points`."""
    _, width, size = dy.shape
    image, zeros, half = _by_rows(dy)
    none = zeros[:size]
    for r in range(rows):
        y = top + r * down
        a0, a1 = _row(image, y, zeros), _row(image, y + 1, zeros)
        a2, a3 = _row(image, y + 2, zeros), _row(image, y + 3, zeros)
        h0, h1, h2, h3, h4, h5 = half[0], half[1], half[2], half[3], half[4], half[5]
        if down == 4:  # outputs of a tile along the height; the formula is chosen outside of the loop over numbers
            for p in range(width * size):
                h0[p], h1[p], h2[p], h3[p], h4[p], h5[p] = _gradients4(a0[p], a1[p], a2[p], a3[p])
        elif down == 3:
            for p in range(width * size):
                h0[p], h1[p], h2[p], h3[p], h4[p], h5[p] = _gradients3(a0[p], a1[p], a2[p])
        else:
            for p in range(width * size):
                h0[p], h1[p], h2[p], h3[p], h4[p], h5[p] = _gradients2(a0[p], a1[p])
        for c in range(columns):
            z = c * across
            start = (r * columns + c) * size
            stop = start + size
            for i in range(6):
                h = half[i]  # (W * P,)
                k0, k1 = _pixel(h, z, width, size, none), _pixel(h, z + 1, width, size, none)
                k2, k3 = _pixel(h, z + 2, width, size, none), _pixel(h, z + 3, width, size, none)
                b0, b1, b2 = out[6 * i, start:stop], out[6 * i + 1, start:stop], out[6 * i + 2, start:stop]
                b3, b4, b5 = out[6 * i + 3, start:stop], out[6 * i + 4, start:stop], out[6 * i + 5, start:stop]
                if across == 4:
                    for p in range(size):
                        b0[p], b1[p], b2[p], b3[p], b4[p], b5[p] = _gradients4(k0[p], k1[p], k2[p], k3[p])
                elif across == 3:
                    for p in range(size):
                        b0[p], b1[p], b2[p], b3[p], b4[p], b5[p] = _gradients3(k0[p], k1[p], k2[p])
                else:
                    for p in range(size):
                        b0[p], b1[p], b2[p], b3[p], b4[p], b5[p] = _gradients2(k0[p], k1[p])


@loop("void(float32[:,::1], float32[::1], int64, int64, int64, int64, int64, float32[:,:,::1])")
def outputs(products: Any, bias: Any, top: int, down: int, across: int, rows: int, columns: int, out: Any) -> None:
    """Implement `Loops.outputs`."""
    pixel = out.shape[2]
    half = np.empty((4, 6, _PIECE + _APART), np.float32)  # (rows of outputs, points of the width, numbers)
    nowhere = np.empty((4, _PIECE), np.float32)  # takes the outputs beyond the right edge, so that no loop has a branch
    for r in range(rows):
        y = top + r * down
        height = min(down, out.shape[0] - y)  # rows of outputs inside of the image
        for c in range(columns):
            z = c * across
            width = min(across, out.shape[1] - z)
            for start in range(0, pixel, _PIECE):
                n = min(_PIECE, pixel - start)
                stop = start + n
                first = (r * columns + c) * pixel + start
                last = first + n
                for j in range(6):  # along the height, for each point of the width: points i * 6 + j
                    a0, a1, a2 = products[j, first:last], products[6 + j, first:last], products[12 + j, first:last]
                    a3, a4, a5 = (
                        products[18 + j, first:last],
                        products[24 + j, first:last],
                        products[30 + j, first:last],
                    )
                    h0, h1, h2, h3 = half[0, j], half[1, j], half[2, j], half[3, j]
                    if down == 4:
                        for p in range(n):
                            h0[p], h1[p], h2[p], h3[p] = _outputs4(a0[p], a1[p], a2[p], a3[p], a4[p], a5[p])
                    elif down == 3:
                        for p in range(n):
                            h0[p], h1[p], h2[p] = _outputs3(a0[p], a1[p], a2[p], a3[p], a4[p], a5[p])
                    else:
                        for p in range(n):
                            h0[p], h1[p] = _outputs2(a0[p], a1[p], a2[p], a3[p], a4[p], a5[p])
                b = bias[start:stop]  # (n,)
                for i in range(height):  # along the width
                    h0, h1, h2, h3, h4, h5 = half[i, 0], half[i, 1], half[i, 2], half[i, 3], half[i, 4], half[i, 5]
                    o0 = out[y + i, z, start:stop]
                    o1 = out[y + i, z + 1, start:stop] if width > 1 else nowhere[1, :n]
                    o2 = out[y + i, z + 2, start:stop] if width > 2 else nowhere[2, :n]
                    o3 = out[y + i, z + 3, start:stop] if width > 3 else nowhere[3, :n]
                    if across == 4:
                        for p in range(n):
                            v0, v1, v2, v3 = _outputs4(h0[p], h1[p], h2[p], h3[p], h4[p], h5[p])
                            o0[p], o1[p], o2[p], o3[p] = v0 + b[p], v1 + b[p], v2 + b[p], v3 + b[p]
                    elif across == 3:
                        for p in range(n):
                            v0, v1, v2 = _outputs3(h0[p], h1[p], h2[p], h3[p], h4[p], h5[p])
                            o0[p], o1[p], o2[p] = v0 + b[p], v1 + b[p], v2 + b[p]
                    else:
                        for p in range(n):
                            v0, v1 = _outputs2(h0[p], h1[p], h2[p], h3[p], h4[p], h5[p])
                            o0[p], o1[p] = v0 + b[p], v1 + b[p]
