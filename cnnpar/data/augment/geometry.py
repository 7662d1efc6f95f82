"""Where the pixels of a varied image come from: shifts by whole pixels, and affine maps about the centre."""

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from cnnpar import rng


@lru_cache(maxsize=rng.KEPT_EPOCHS)
def random_offsets(seed: int, epoch: int, count: int, shift: int) -> NDArray[np.int64]:
    """(count, 2) offsets, uniform in -shift..shift; row i does not depend on `count`."""
    words = rng.random_words(seed, rng.SHIFT, epoch, 2 * count).reshape(count, 2)
    # 64 bits against a range of a few pixels: the remainder's bias is below 1e-17.
    return (words % np.uint64(2 * shift + 1)).astype(np.int64) - shift


def shifted(images: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Image i moved by offsets[i] = (down, right) pixels; vacated pixels are 0.

    Each result is a window of its image inside a frame of zeros: the window goes up as the image goes down.
    """
    count, height, width, channels = images.shape
    size = np.array([height, width])
    offsets = np.clip(offsets, -size, size)  # what is further out is just as empty
    down, right = np.abs(offsets).max(axis=0, initial=0).tolist()
    framed = np.zeros((count, height + 2 * down, width + 2 * right, channels), dtype=np.uint8)
    framed[:, down : down + height, right : right + width] = images
    image, row, column, channel = framed.strides
    windows = as_strided(
        framed,
        shape=(count, 2 * down + 1, 2 * right + 1, height, width, channels),
        strides=(image, row, column, row, column, channel),
        writeable=False,
    )
    moved: NDArray[np.uint8] = windows[np.arange(count), down - offsets[:, 0], right - offsets[:, 1]]
    return moved


@lru_cache(maxsize=rng.KEPT_EPOCHS)
def random_flips(seed: int, epoch: int, count: int) -> NDArray[np.bool_]:
    """(count,), half of them true; number i does not depend on `count`."""
    return rng.random_words(seed, rng.FLIP, epoch, count) >= np.uint64(2**63)


@lru_cache(maxsize=rng.KEPT_EPOCHS)
def random_maps(seed: int, epoch: int, count: int, rotation: float, scale: float, shear: float) -> NDArray[np.float32]:
    """(count, 2, 2) matrices from (down, right) in a varied image to (down, right) in the one it is made of.

    That one is slanted by up to `shear`, turned by up to `rotation` degrees and made larger or smaller by up to
    `scale`, each drawn uniformly, whatever the others are; the matrix is the inverse of all that.
    """
    draws = rng.symmetric(rng.random_words(seed, rng.AFFINE, epoch, count))
    angle, size, slant = np.deg2rad(rotation * draws[:, 0]), 1 + scale * draws[:, 1], shear * draws[:, 2]
    cosine, sine = np.cos(angle), np.sin(angle)
    rows = [[cosine, sine], [-sine - slant * cosine, cosine - slant * sine]]
    maps: NDArray[np.float64] = np.array(rows) / size  # (2, 2, count)
    return np.ascontiguousarray(maps.transpose(2, 0, 1), np.float32)


def sources(
    maps: NDArray[np.float32], offsets: NDArray[np.int64], height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows and columns (n, H, W) that the pixels of varied images are found at: mapped about the centre, then moved.

    Exact where the map is the identity: halves of whole numbers are added up.
    """
    places = []
    for axis, size in enumerate((height, width)):
        centre = np.float32((size - 1) / 2)
        places.append(np.arange(size, dtype=np.float32) - (offsets[:, axis, None].astype(np.float32) + centre))
    down, right = places  # (n, H), (n, W)
    rows = maps[:, 0, 0, None] * down + np.float32((height - 1) / 2)
    columns = maps[:, 1, 1, None] * right + np.float32((width - 1) / 2)
    return (
        rows[:, :, None] + (maps[:, 0, 1, None] * right)[:, None, :],
        (maps[:, 1, 0, None] * down)[:, :, None] + columns[:, None, :],
    )
