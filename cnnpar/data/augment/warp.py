"""Images read between their pixels: bilinear, with zeros all around, in numpy or compiled, with the same bits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnpar.compiling import compiled

_WORTH = 500  # numbers of an image; with smaller ones, an epoch is done before compiled loops are even loaded


def resampled(images: NDArray[np.uint8], rows: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.uint8]:
    """What images (n, H, W, C) show at rows and columns (n, H, W), in pixels; rounded, halves to even."""
    count, height, width, channels = images.shape
    framed = np.zeros((count, height + 3, width + 3, channels), np.uint8)  # every place has four neighbours
    framed[:, 1:-2, 1:-2] = images
    out = np.empty_like(images)
    loops = compiled("cnnpar.data.augment.numba_warp") if height * width * channels >= _WORTH else None
    (loops.bilinear if loops else bilinear)(framed, rows, columns, out)
    return out


def bilinear(framed: Any, rows: Any, columns: Any, out: Any) -> None:
    """Write into `out` (n, H, W, C) what images show at rows and columns (n, H, W).

    framed (n, H + 3, W + 3, C): the images in a frame of zeros, one above and on the left, two below and on the right.
    """
    count, height, width, channels = out.shape
    y = np.minimum(np.maximum(rows + 1, 0), height + 1)  # zeros from there on
    x = np.minimum(np.maximum(columns + 1, 0), width + 1)
    top, left = y.astype(np.intp), x.astype(np.intp)
    down, right = (y - top.astype(np.float32))[..., None], (x - left.astype(np.float32))[..., None]
    place = np.arange(count)[:, None, None] * (height + 3) + top
    place *= width + 3
    place += left
    pixels = framed.reshape(-1, channels)
    a, b, c, d = (
        pixels[step:].take(place, axis=0).astype(np.float32)  # (n, H, W, C)
        for step in (0, 1, width + 3, width + 4)
    )
    out[...] = np.rint(between(a, b, c, d, down, right))


def between(a: Any, b: Any, c: Any, d: Any, down: Any, right: Any) -> Any:
    """The value between a and b, above, and c and d, below; never outside of them once rounded."""
    top = a + (b - a) * right
    return top + ((c + (d - c) * right) - top) * down
