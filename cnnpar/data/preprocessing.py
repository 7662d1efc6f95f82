"""Normalisation of images, and the facts about the training data that a checkpoint needs to predict."""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from cnnpar.data.dataset import Dataset, Pixels, PixelType, Traits

HoldOut = Literal["random", "stratified"]  # all runs of earlier versions held out at random

_Size = Annotated[int, msgspec.Meta(ge=1)]
SMALLEST_STD = 1e-9  # smallest standard deviation of pixels that are not taken for constant
_MOST_IMAGES, _MOST_PIXELS = 1024, 1 << 22  # summed at a time, to bound the memory of the squares


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True, omit_defaults=True):
    """Image shape, mean, standard deviation and classes of the training data; part of every checkpoint.

    Raises ValueError for values that do not fit together.
    """

    image_shape: tuple[_Size, _Size, _Size]  # (height, width, channels)
    mean: tuple[float, ...]  # (C,), in pixel units
    std: tuple[float, ...]  # (C,), in pixel units, above 0
    class_names: tuple[str, ...]
    pixels: PixelType = "uint8"
    hold_out: HoldOut = "random"  # how validation samples were chosen, unless the data had some of their own

    def __post_init__(self) -> None:
        channels = self.image_shape[2]
        if len(self.mean) != channels or len(self.std) != channels:
            raise ValueError(f"`mean` and `std` need one number for each of {channels} channels")
        if not all(map(math.isfinite, self.mean + self.std)) or min(self.std) <= 0:
            raise ValueError("`mean` must be finite and `std` finite and above 0")
        if not self.class_names:
            raise ValueError("`class_names` is empty")

    @classmethod
    def of(cls, train: Dataset, hold_out: HoldOut = "stratified") -> "Preprocessing":
        """Measure mean and standard deviation of each channel; a constant channel gets a standard deviation of 1.

        The sums of whole pixels are exact, and those of float32 have one order, so no machine gives another result.
        """
        measure = _moments_of_floats if train.images.dtype == np.float32 else _moments
        mean, std = zip(*(measure(train.images, channel) for channel in range(train.image_shape[2])), strict=True)
        return cls(train.image_shape, mean, std, train.class_names, train.traits.pixel_type, hold_out)

    @property
    def traits(self) -> Traits:
        """Return what test data must have in common with the training data."""
        return Traits(self.image_shape, self.pixels, self.class_names)

    def normalise(self, images: Pixels) -> NDArray[np.float32]:
        """Return (images - mean) / std as float32 (n, H, W, C). Raises ValueError for another image shape."""
        if images.shape[1:] != self.image_shape:
            raise ValueError(f"images are {images.shape[1:]}, not {self.image_shape}")
        out = np.empty(images.shape, dtype=np.float32)
        mean, std = self._planes
        np.subtract(images, mean, out=out)
        return np.divide(out, std, out=out)

    @cached_property
    def _planes(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation repeated to (H, W, C), so that numpy's inner loops run over whole images."""
        mean = np.broadcast_to(np.array(self.mean, dtype=np.float32), self.image_shape)
        std = np.broadcast_to(np.array(self.std, dtype=np.float32), self.image_shape)
        return mean.copy(), std.copy()


def _moments(images: Pixels, channel: int) -> tuple[float, float]:
    """Return mean and standard deviation of a channel of whole pixels; the sums behind them are exact."""
    count, total, squares = images[..., channel].size, 0, 0
    squared = np.uint16 if images.dtype == np.uint8 else np.uint32  # the smallest that holds them
    for part in _parts(images):
        chunk = part[..., channel]
        total += int(chunk.sum(dtype=np.uint64))
        squares += int(np.square(chunk, dtype=squared).sum(dtype=np.uint64))
    # count^2 * variance = count * sum(x^2) - sum(x)^2, exact in Python's integers
    variance = (count * squares - total * total) / count**2
    return total / count, math.sqrt(variance) if variance > 0 else 1.0


def _moments_of_floats(images: Pixels, channel: int) -> tuple[float, float]:
    """Return mean and standard deviation of a channel of float32 pixels, from sums in float64."""
    count = images[..., channel].size
    mean = math.fsum(_total(chunk) for chunk in _channel_chunks(images, channel)) / count
    squares = math.fsum(_total(np.square(chunk - mean)) for chunk in _channel_chunks(images, channel))
    std = math.sqrt(squares / count)
    return mean, std if std >= SMALLEST_STD else 1.0


def _channel_chunks(images: Pixels, channel: int) -> Iterator[NDArray[np.float64]]:
    """Yield the pixels of a channel, some images at a time."""
    for part in _parts(images):
        yield part[..., channel].astype(np.float64).ravel()


def _parts(images: Pixels) -> Iterator[Pixels]:
    """Yield some images at a time, fewer if they are large, but at least one."""
    count = min(_MOST_IMAGES, max(1, _MOST_PIXELS // math.prod(images.shape[1:3])))
    yield from (images[start : start + count] for start in range(0, len(images), count))


def _total(values: NDArray[np.float64]) -> float:
    """Return the sum of (n,) numbers, added by halves: the order of numpy's own sums depends on the processor."""
    while len(values) > 1:
        half = len(values) // 2
        folded = values[:half] + values[half : 2 * half]
        if len(values) % 2:
            folded[0] += values[-1]
        values = folded
    return float(values[0])
