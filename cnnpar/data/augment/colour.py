"""What changes values and leaves them where they are: brightness, contrast, saturation, and squares cut out.

Values are whole numbers after each change, so that the sums behind a mean are exact in any order.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cnnpar import rng
from cnnpar.config.sections import Augment

_LUMINANCE = (299, 587, 114)  # thousandths of red, green and blue in grey: ITU-R BT.601


@lru_cache(maxsize=rng.KEPT_EPOCHS)
def random_factors(
    seed: int, epoch: int, count: int, brightness: float, contrast: float, saturation: float
) -> NDArray[np.float32]:
    """(count, 3) factors, each uniform within its largest change of 1; row i does not depend on `count`."""
    draws = rng.symmetric(rng.random_words(seed, rng.COLOUR, epoch, count))
    return (1 + draws[:, :3] * (brightness, contrast, saturation)).astype(np.float32)


def jittered(images: NDArray[np.uint8], factors: NDArray[np.float32], settings: Augment) -> NDArray[np.uint8]:
    """Images (n, H, W, C) with other brightness, then contrast, then saturation, as far as settings say so.

    Each is a way from what has none of it (black, the image's mean grey, the pixel's grey) through the image, as in
    torchvision's ColorJitter; after each, values are rounded, halves to even, and clipped.
    """
    values = images.astype(np.float32)
    brightness, contrast, saturation = factors.T[..., None, None, None]  # each (n, 1, 1, 1)
    if settings.brightness:
        _blend(values, np.float32(0), brightness)
    if settings.contrast:
        grey, parts = _grey(values)
        mean = grey.sum(axis=(1, 2, 3), keepdims=True, dtype=np.float64) / (parts * images.shape[1] * images.shape[2])
        _blend(values, mean.astype(np.float32), contrast)
    if settings.saturation:
        grey, parts = _grey(values)
        _blend(values, grey / np.float32(parts), saturation)
    return values.astype(np.uint8)


def _grey(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """Grey (n, H, W, 1) in whole numbers, and in how many parts of a step of 0..255 it is."""
    channels = values.shape[3]
    weights = _LUMINANCE if channels == 3 else (1,) * channels
    grey = np.zeros((*values.shape[:3], 1), np.float32)
    for channel, weight in enumerate(weights):
        grey += values[..., channel, None] * np.float32(weight)
    return grey, sum(weights)


def _blend(values: NDArray[np.float32], other: NDArray[np.float32] | np.float32, factor: NDArray[np.float32]) -> None:
    """Move values away from the other ones, to `factor` times the distance, in place."""
    values -= other
    values *= factor
    values += other
    np.rint(values, out=values)
    np.clip(values, 0, 255, out=values)


@lru_cache(maxsize=rng.KEPT_EPOCHS)
def random_centres(seed: int, epoch: int, count: int, height: int, width: int) -> NDArray[np.int64]:
    """(count, 2) pixels (row, column), uniform over the image; row i does not depend on `count`."""
    words = rng.random_words(seed, rng.CUTOUT, epoch, 2 * count).reshape(count, 2)
    return (words % np.array([height, width], np.uint64)).astype(np.int64)


def cut_out(images: NDArray[np.uint8], centres: NDArray[np.int64], side: int, fill: NDArray[np.uint8]) -> None:
    """Fill a square of each image, as far as it lies in it, in place (DeVries and Taylor 2017); fill is (C,)."""
    inside = []
    for axis in range(2):
        first = centres[:, axis, None] - side // 2
        place = np.arange(images.shape[1 + axis])
        inside.append((place >= first) & (place < first + side))
    rows, columns = inside  # (n, H), (n, W)
    np.copyto(images, fill, where=rows[:, :, None, None] & columns[:, None, :, None])
