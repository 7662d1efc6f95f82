"""Numba versions of the loops of normalisation with relu behind it: what passes the relu is computed, never written.

Shapes: images (H, W, P); P = N * C numbers a pixel, over which the innermost loops run and are vectorised.
"""

from typing import Any

import numpy as np

from cnnpar.compiling import inline, loop


@inline
def _passed(dy: Any, x: Any, scale: Any, shift: Any) -> Any:
    """Return dy if the relu's input is positive, else 0: a product, as in numpy, so of an infinite dy it is NaN."""
    return dy * np.float32(x * scale + shift > 0)


@loop("void(float32[:,:,::1], float32[:,:,::1], float32[::1], float32[::1], float64[:,::1])")
def rectified_moments(dy: Any, x: Any, scale: Any, shift: Any, out: Any) -> None:
    """Implement `Loops.rectified_moments`."""
    gradients, pixels = dy.reshape(-1, x.shape[2]), x.reshape(-1, x.shape[2])  # (pixels, P)
    sums, products = out[0], out[1]  # (P,) in float64
    count, size = pixels.shape
    for p in range(size):
        sums[p] = 0
        products[p] = 0
    for i in range(0, count - 3, 4):  # four pixels at a time, so that the sums are read and written less often
        d0, d1, d2, d3 = gradients[i], gradients[i + 1], gradients[i + 2], gradients[i + 3]
        a0, a1, a2, a3 = pixels[i], pixels[i + 1], pixels[i + 2], pixels[i + 3]
        for p in range(size):
            factor, addend = scale[p], shift[p]
            g0 = np.float64(_passed(d0[p], a0[p], factor, addend))
            g1 = np.float64(_passed(d1[p], a1[p], factor, addend))
            g2 = np.float64(_passed(d2[p], a2[p], factor, addend))
            g3 = np.float64(_passed(d3[p], a3[p], factor, addend))
            e0, e1, e2, e3 = np.float64(a0[p]), np.float64(a1[p]), np.float64(a2[p]), np.float64(a3[p])
            sums[p] = (((sums[p] + g0) + g1) + g2) + g3
            products[p] = (((products[p] + g0 * e0) + g1 * e1) + g2 * e2) + g3 * e3
    for i in range(count - count % 4, count):
        d, a = gradients[i], pixels[i]
        for p in range(size):
            g = np.float64(_passed(d[p], a[p], scale[p], shift[p]))
            sums[p] += g
            products[p] += g * np.float64(a[p])  # the product of two float32 is exact in float64


@loop(
    "void(float32[:,:,::1], float32[:,:,::1], UniTuple(float32[::1], 2), UniTuple(float32[::1], 3), float32[:,:,::1])"
)
def rectified_gradient(dy: Any, x: Any, before: Any, numbers: Any, out: Any) -> None:
    """Implement `Loops.rectified_gradient`."""
    rows, columns, pixel = x.shape
    (factor, addend), (slope, scale, shift) = before, numbers
    for r in range(rows):
        for c in range(columns):
            d, a, o = dy[r, c], x[r, c], out[r, c]  # (P,)
            for p in range(pixel):
                o[p] = _passed(d[p], a[p], factor[p], addend[p]) * slope[p] + (a[p] * scale[p] + shift[p])
