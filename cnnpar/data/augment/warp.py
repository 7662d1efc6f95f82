"""Bilinear resampling with zeros outside of the image, in numpy and compiled by numba, with the same bits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnpar.compiling import compiled
from cnnpar.data.dataset import Pixels

_WORTH = 500  # numbers of an image from which on compiled loops save more time than loading them takes


def compiled_loops(height: int, width: int, channels: int) -> Any:
    """Load the compiled loops, if images of that shape are worth it; return None if not, or if numba is missing."""
    return compiled("cnnpar.data.augment.numba_warp") if height * width * channels >= _WORTH else None


def resampled(images: Pixels, rows: NDArray[np.float32], columns: NDArray[np.float32]) -> Pixels:
    """Return images (n, H, W, C) of uint8 or float32 read at `rows` and `columns` (n, H, W), in pixels.

    uint8 is rounded, with halves to even.
    """
    count, height, width, channels = images.shape
    # Padding of zeros, so that each coordinate, clamped to -1..H and -1..W, has four neighbours.
    framed = np.zeros((count, height + 3, width + 3, channels), images.dtype)
    framed[:, 1:-2, 1:-2] = images
    out = np.empty_like(images)
    loops = compiled_loops(height, width, channels)
    if loops is None:
        bilinear(framed, rows, columns, out)
    else:
        (loops.bilinear if out.dtype == np.uint8 else loops.bilinear_floats)(framed, rows, columns, out)
    return out


def bilinear(framed: Any, rows: Any, columns: Any, out: Any) -> None:
    """Interpolate `framed` at `rows` and `columns` (n, H, W), in pixels of the images, into `out` (n, H, W, C).

    framed (n, H + 3, W + 3, C): the images, padded with one row and column of zeros before and two after.
    """
    count, height, width, channels = out.shape
    y = np.minimum(np.maximum(rows + 1, 0), height + 1)  # (n, H, W); all is 0 beyond these bounds
    x = np.minimum(np.maximum(columns + 1, 0), width + 1)
    top, left = y.astype(np.intp), x.astype(np.intp)
    down, right = (y - top.astype(np.float32))[..., None], (x - left.astype(np.float32))[..., None]
    index = np.arange(count)[:, None, None] * (height + 3) + top  # (n, H, W), of the upper left neighbour
    index *= width + 3
    index += left
    pixels = framed.reshape(-1, channels)  # (n (H + 3) (W + 3), C)
    a, b, c, d = (
        pixels[step:].take(index, axis=0).astype(np.float32)  # (n, H, W, C)
        for step in (0, 1, width + 3, width + 4)
    )
    found = between(a, b, c, d, down, right)
    out[...] = np.rint(found) if out.dtype == np.uint8 else found


def between(a: Any, b: Any, c: Any, d: Any, down: Any, right: Any) -> Any:
    """Interpolate between a and b (above) and c and d (below), by `down` and `right` in 0..1.

    Once rounded, the result is never outside of the four values.
    """
    top = a + (b - a) * right
    return top + ((c + (d - c) * right) - top) * down
