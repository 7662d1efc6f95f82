"""Flips, shifts by whole pixels, and random affine maps about the image's centre."""

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from cnnpar import rng
from cnnpar.data.dataset import Pixels


@lru_cache(maxsize=rng.KEPT_EPOCHS)
def random_offsets(seed: int, epoch: int, count: int, shift: int) -> NDArray[np.int64]:
    """Draw offsets (count, 2) in pixels, uniform in -shift..shift; row i does not depend on `count`."""
    words = rng.random_words(seed, rng.SHIFT, epoch, 2 * count).reshape(count, 2)
    # The remainder of 64 bits is biased by less than 1e-17 for ranges of some pixels.
    return (words % np.uint64(2 * shift + 1)).astype(np.int64) - shift


def shifted(images: Pixels, offsets: NDArray[np.int64]) -> Pixels:
    """Shift image i of (n, H, W, C) by offsets[i] = (down, right) pixels; vacated pixels are 0.

    Each result is a window of its zero-padded image; moving the window up moves the image down.
    """
    count, height, width, channels = images.shape
    size = np.array([height, width])
    offsets = np.clip(offsets, -size, size)  # a larger shift leaves an empty image too
    down, right = np.abs(offsets).max(axis=0, initial=0).tolist()
    padded = np.zeros((count, height + 2 * down, width + 2 * right, channels), images.dtype)
    padded[:, down : down + height, right : right + width] = images
    image, row, column, channel = padded.strides
    windows = as_strided(  # all windows of each image, without a copy
        padded,
        shape=(count, 2 * down + 1, 2 * right + 1, height, width, channels),
        strides=(image, row, column, row, column, channel),
        writeable=False,
    )
    moved: Pixels = windows[np.arange(count), down - offsets[:, 0], right - offsets[:, 1]]  # (n, H, W, C)
    return moved


@lru_cache(maxsize=rng.KEPT_EPOCHS)
def random_flips(seed: int, epoch: int, count: int) -> NDArray[np.bool_]:
    """Draw booleans (count,), true with probability 1/2; number i does not depend on `count`."""
    return rng.random_words(seed, rng.FLIP, epoch, count) >= np.uint64(2**63)


@lru_cache(maxsize=rng.KEPT_EPOCHS)
def random_maps(seed: int, epoch: int, count: int, rotation: float, scale: float, shear: float) -> NDArray[np.float32]:
    """Draw matrices (count, 2, 2) that map (down, right) of a result to (down, right) of its source, about the centre.

    Each is the inverse of a shear by up to `shear` pixels per row, then a rotation by up to `rotation` degrees, then a
    scaling by up to 1 +- `scale`, drawn uniformly and independently.
    """
    draws = rng.symmetric(rng.random_words(seed, rng.AFFINE, epoch, count))  # (count, 4), of which 3 are used
    angle, size, slant = np.deg2rad(rotation * draws[:, 0]), 1 + scale * draws[:, 1], shear * draws[:, 2]
    cosine, sine = np.cos(angle), np.sin(angle)
    rows = [[cosine, sine], [-sine - slant * cosine, cosine - slant * sine]]
    maps: NDArray[np.float64] = np.array(rows) / size  # (2, 2, count)
    return np.ascontiguousarray(maps.transpose(2, 0, 1), np.float32)


def source_coordinates(
    maps: NDArray[np.float32], offsets: NDArray[np.int64], height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return rows and columns (n, H, W) of the source of each pixel of the results.

    `offsets` (n, 2) shift the results in pixels, after the `maps` (n, 2, 2) about the centre. For the identity map the
    coordinates are exact, as sums of halves of whole numbers.
    """
    from_centre = []
    for axis, size in enumerate((height, width)):
        centre = np.float32((size - 1) / 2)
        from_centre.append(np.arange(size, dtype=np.float32) - (offsets[:, axis, None].astype(np.float32) + centre))
    down, right = from_centre  # (n, H), (n, W)
    rows = maps[:, 0, 0, None] * down + np.float32((height - 1) / 2)
    columns = maps[:, 1, 1, None] * right + np.float32((width - 1) / 2)
    return (
        rows[:, :, None] + (maps[:, 0, 1, None] * right)[:, None, :],
        (maps[:, 1, 0, None] * down)[:, :, None] + columns[:, None, :],
    )
