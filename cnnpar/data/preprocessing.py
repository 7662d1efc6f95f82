"""Normalisation of images, and the facts about the training data that a checkpoint needs to predict."""

import math
from functools import cached_property
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from cnnpar.data.dataset import Dataset

_Size = Annotated[int, msgspec.Meta(ge=1)]
_CHUNK = 1024  # images summed at a time, to bound the memory of the squares


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """Image shape, mean, standard deviation and classes of the training data; part of every checkpoint.

    Raises ValueError for values that do not fit together.
    """

    image_shape: tuple[_Size, _Size, _Size]  # (height, width, channels)
    mean: tuple[float, ...]  # (C,), in pixel units, 0..255
    std: tuple[float, ...]  # (C,), in pixel units, above 0
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        channels = self.image_shape[2]
        if len(self.mean) != channels or len(self.std) != channels:
            raise ValueError(f"`mean` and `std` need one number for each of {channels} channels")
        if not all(map(math.isfinite, self.mean + self.std)) or min(self.std) <= 0:
            raise ValueError("`mean` must be finite and `std` finite and above 0")
        if not self.class_names:
            raise ValueError("`class_names` is empty")

    @classmethod
    def of(cls, train: Dataset) -> "Preprocessing":
        """Measure mean and standard deviation of each channel; a constant channel gets a standard deviation of 1.

        Sums are exact integers and quotients are rounded once, so the result depends on neither order nor machine.
        """
        channels = train.image_shape[2]
        count = train.images.size // channels
        sums, squares = [0] * channels, [0] * channels
        for start in range(0, len(train), _CHUNK):
            chunk = train.images[start : start + _CHUNK]
            square = np.multiply(chunk, chunk, dtype=np.uint16)  # at most 255**2, which fits
            for channel in range(channels):
                sums[channel] += int(chunk[..., channel].sum(dtype=np.uint64))
                squares[channel] += int(square[..., channel].sum(dtype=np.uint64))
        mean = tuple(total / count for total in sums)
        # count^2 * variance = count * sum(x^2) - sum(x)^2, exact in Python's integers
        variance = [(count * q - s * s) / count**2 for s, q in zip(sums, squares, strict=True)]
        std = tuple(math.sqrt(v) if v > 0 else 1.0 for v in variance)
        return cls(train.image_shape, mean, std, train.class_names)

    def normalise(self, images: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
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
