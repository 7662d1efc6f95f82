"""Brightness, contrast and saturation jitter, and cutout.

uint8 values are rounded to whole numbers after each operation, so that the sums behind a mean are exact in any order.
float32 ones, whose range nobody knows, are neither rounded nor clipped.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnpar import rng
from cnnpar.config.sections import Augment
from cnnpar.data.dataset import Pixels

_LUMINANCE = (299, 587, 114)  # weights of red, green and blue in grey, in thousandths: ITU-R BT.601


@lru_cache(maxsize=rng.KEPT_EPOCHS)
def random_factors(
    seed: int, epoch: int, count: int, brightness: float, contrast: float, saturation: float
) -> NDArray[np.float32]:
    """Draw factors (count, 3), each uniform in 1 +- its largest change; row i does not depend on `count`."""
    draws = rng.symmetric(rng.random_words(seed, rng.COLOUR, epoch, count))  # (count, 4), of which 3 are used
    return (1 + draws[:, :3] * (brightness, contrast, saturation)).astype(np.float32)


def jittered(images: Pixels, factors: NDArray[np.float32], settings: Augment) -> Pixels:
    """Change brightness, then contrast, then saturation of images (n, H, W, C) by `factors` (n, 3), where set.

    Each operation scales the difference of the pixels from black, from the image's mean grey, or from the pixel's own
    grey, as torchvision's ColorJitter does; uint8 results are rounded (halves to even) and clipped to 0..255.
    """
    whole = images.dtype == np.uint8
    values = images.astype(np.float32)  # (n, H, W, C)
    brightness, contrast, saturation = factors.T[..., None, None, None]  # each (n, 1, 1, 1)
    if settings.brightness:
        _blend(values, np.float32(0), brightness, whole)
    if settings.contrast:
        grey, parts = _grey(values)  # grey (n, H, W, 1)
        mean = grey.sum(axis=(1, 2, 3), keepdims=True, dtype=np.float64) / (parts * images.shape[1] * images.shape[2])
        _blend(values, mean.astype(np.float32), contrast, whole)
    if settings.saturation:
        grey, parts = _grey(values)
        _blend(values, grey / np.float32(parts), saturation, whole)
    return values.astype(np.uint8) if whole else values


def _grey(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """Return grey values (n, H, W, 1) as weighted sums, and the sum of the weights, still to be divided by.

    Those of uint8 values are whole numbers below 2**24, so float32 holds them exactly.
    """
    channels = values.shape[3]
    weights = _LUMINANCE if channels == 3 else (1,) * channels
    grey = np.zeros((*values.shape[:3], 1), np.float32)
    for channel, weight in enumerate(weights):
        grey += values[..., channel, None] * np.float32(weight)
    return grey, sum(weights)


def _blend(
    values: NDArray[np.float32], other: NDArray[np.float32] | np.float32, factor: NDArray[np.float32], whole: bool
) -> None:
    """Set values to other + factor * (values - other), if `whole` rounded and clipped to 0..255, in place."""
    values -= other
    values *= factor
    values += other
    if whole:
        np.rint(values, out=values)
        np.clip(values, 0, 255, out=values)


@lru_cache(maxsize=rng.KEPT_EPOCHS)
def random_centres(seed: int, epoch: int, count: int, height: int, width: int) -> NDArray[np.int64]:
    """Draw pixels (count, 2) as (row, column), uniform over the image; pixel i does not depend on `count`."""
    words = rng.random_words(seed, rng.CUTOUT, epoch, 2 * count).reshape(count, 2)
    return (words % np.array([height, width], np.uint64)).astype(np.int64)


def cut_out(images: Pixels, centres: NDArray[np.int64], side: int, fill: NDArray[Any]) -> None:
    """Fill a square of each image with `fill` (C,), in place; parts outside are ignored (DeVries and Taylor 2017)."""
    inside = []
    for axis in range(2):
        first = centres[:, axis, None] - side // 2  # (n, 1)
        position = np.arange(images.shape[1 + axis])
        inside.append((position >= first) & (position < first + side))
    rows, columns = inside  # (n, H), (n, W)
    np.copyto(images, fill, where=rows[:, :, None, None] & columns[:, None, :, None])
