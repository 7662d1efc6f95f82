"""Variation of the training images, made when a batch is taken: no augmented data set is ever stored.

An epoch of ratio 4 has five times the samples: index i shows image i % N in variant i // N (as it is, or
moved by one pixel left, right, up or down). A random shift adds to that; it depends on (seed, epoch, i) alone.
"""

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from cnnpar.config import Augment
from cnnpar.data import streams

# (down, right) in pixels: as it is, left, right, up, down.
_VARIANTS = np.array([(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0)], dtype=np.int64)


class Augmenter:
    """Takes samples of an epoch out of a data set, varied as the settings say."""

    def __init__(self, settings: Augment, seed: int) -> None:
        self._variants = _VARIANTS if settings.ratio == 4 else _VARIANTS[:1]
        self._shift = settings.shift
        self._seed = seed

    def epoch_size(self, samples: int) -> int:
        """The number of indices of an epoch over a data set of `samples` images."""
        return samples * len(self._variants)

    def take(
        self,
        images: NDArray[np.uint8],  # (N, H, W, C)
        labels: NDArray[np.int64],  # (N,)
        indices: NDArray[np.int64],  # (n,), each in 0..epoch_size(N)-1
        epoch: int,
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The images (n, H, W, C) and labels (n,) at `indices` of the epoch, as fresh arrays."""
        if len(self._variants) == 1 and not self._shift:
            return images[indices], labels[indices]
        variant, sample = np.divmod(indices, len(images))
        offsets = self._variants[variant]  # (n, 2)
        if self._shift:
            offsets += _random_offsets(self._seed, epoch, self.epoch_size(len(images)), self._shift)[indices]
        return _shifted(images[sample], offsets), labels[sample]


def _shifted(images: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint8]:
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
    shifted: NDArray[np.uint8] = windows[np.arange(count), down - offsets[:, 0], right - offsets[:, 1]]
    return shifted


@lru_cache(maxsize=2)  # the current epoch, and the next one while its first batch is prepared
def _random_offsets(seed: int, epoch: int, count: int, shift: int) -> NDArray[np.int64]:
    """(count, 2) offsets, uniform in -shift..shift; row i does not depend on `count`."""
    words = streams.random_words(seed, streams.SHIFT, epoch, 2 * count).reshape(count, 2)
    # 64 bits against a range of a few pixels: the remainder's bias is below 1e-17.
    return (words % np.uint64(2 * shift + 1)).astype(np.int64) - shift
