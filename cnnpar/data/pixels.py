"""Pixels as numbers: the types that they are kept in, what numbers of other types become, and what they are scaled by.

Types are uint8, uint16 and float32, as the source has them; normalisation comes later (cnnpar/data/preprocessing.py).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnpar.data.dataset import PIXEL_TYPES, Pixels, PixelType
from cnnpar.errors import InputError

MOST_FLOAT = 1e9  # largest value of a float32 pixel, either way
_ROWS = 1024  # samples converted at a time
_NEAR = 0.13  # largest distance from whole numbers after a scale of 255: what three decimals leave of them


def as_pixels(array: NDArray[Any], scale: float, source: str) -> Pixels:
    """Return images (N, ...) of any type of number, times `scale`, as uint8, uint16 or float32; perhaps the same array.

    Without a scale uint8, uint16 and float32 stay what they are; other whole numbers become the smallest of the three
    that holds them, and floats float32. With one, pixels become float32, or uint8 where all are whole numbers of 0 to
    255 then, but for the rounding of decimals. Raises InputError for what is no number, and for infinite and huge ones.
    """
    if array.dtype.kind not in "biuf":
        raise InputError(f"{source}: pixels are {array.dtype}; expected whole numbers or floats")
    if scale == 1 and array.dtype.name in ("uint8", "uint16"):
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if scale == 1 and array.dtype.kind in "biu":
        return _smallest(array, source)
    floats = np.empty(array.shape, np.float32)
    whole = scale != 1
    for start in range(0, len(array), _ROWS):
        part = floats[start : start + _ROWS]
        with np.errstate(over="ignore"):  # infinite ones are refused
            np.multiply(array[start : start + _ROWS], scale, out=part, casting="unsafe")
        _check(part, start, source)
        if whole:
            rounded = np.rint(part)
            whole = bool((abs(part - rounded) <= _NEAR).all() and (rounded >= 0).all() and (rounded <= 255).all())
    return np.rint(floats, out=floats).astype(np.uint8) if whole else floats


def as_pixels_like(array: NDArray[Any], scale: float, wanted: PixelType, source: str) -> Pixels:
    """Return images as `as_pixels` does, but as the type of pixels of others where that holds the same numbers.

    What comes as another of the three types stays it, as its numbers may mean something else: black to white is 0 to
    255 in one, and perhaps 0 to 1 in another.
    """
    found = as_pixels(array, scale, source)
    if found.dtype.name == wanted or (scale == 1 and array.dtype.name in PIXEL_TYPES):
        return found
    if wanted == "float32" and scale != 1:  # by chance all are whole
        floats = np.empty(array.shape, np.float32)
        np.multiply(array, scale, out=floats, casting="unsafe")
        return floats
    return found.astype(wanted) if np.can_cast(found.dtype, wanted) else found


def describe_pixels(images: Pixels) -> str:
    """Return the type of pixels for people, if it is not the usual one: "16-bit", "float32 from 0 to 1"."""
    if images.dtype == np.uint8:
        return ""
    if images.dtype == np.uint16:
        return "16-bit"
    return f"float32 from {images.min():.4g} to {images.max():.4g}"


def _smallest(array: NDArray[Any], source: str) -> Pixels:
    """Return whole numbers as the smallest type that holds them. Raises InputError for huge ones."""
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if low >= 0 and high <= np.iinfo(np.uint16).max:
        return array.astype(np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16)
    if max(-low, high) > 2**24:
        raise InputError(f"{source}: pixels from {low} to {high}; whole numbers beyond 2^24 are not exact in float32")
    return array.astype(np.float32)


def _check(part: NDArray[np.float32], start: int, source: str) -> None:
    """Raise InputError that names the first sample with a pixel that is not finite, or huge."""
    good = abs(part) <= MOST_FLOAT  # false for NaN
    if not good.all():
        row = int(np.flatnonzero(~good.reshape(len(part), -1).all(axis=1))[0])
        value = float(part[row][~good[row]].flat[0])
        raise InputError(
            f"{source}: sample {start + row} (counted from 0) has a pixel of {value:g}; expected finite ones, up to 1e9"
        )
