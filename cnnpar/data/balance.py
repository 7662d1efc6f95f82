"""Epochs that show all classes equally often, however many samples the training data have of each.

Such an epoch has as many places as any other, and each place shows one of the samples that the epoch would have: those
of rare classes stand at several places, of frequent ones some at none. What is random about an image is drawn for its
place (cnnpar/data/augment/augmenter.py), so one that is shown twice is varied twice.
"""

import numpy as np
from numpy.typing import NDArray

from cnnpar import rng


def balanced(seed: int, epoch: int, labels: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """What the places of an epoch show, (size,), class by class: each in 0..size-1, of which i is of `labels[i % N]`.

    `size`: that of the epoch, a multiple of N = `len(labels)`. Classes that have samples are shown equally often; where
    that does not come out even, those that lots fall on once more. So are the samples of a class among themselves.
    """
    copies = size // len(labels)
    there = np.bincount(labels) * copies  # samples of each class
    present = np.flatnonzero(there)
    lots, words = np.split(rng.random_words(seed, rng.BALANCE, epoch, len(there) + size), [len(there)])
    wanted = np.where(there > 0, size // len(present), 0)  # places of each class
    wanted[present[lots[present].argsort(kind="stable")][: size % len(present)]] += 1
    shuffled = np.lexsort((words, np.tile(labels, copies)))  # within each class
    place = np.arange(size) - np.repeat(wanted.cumsum() - wanted, wanted)
    found: NDArray[np.int64] = shuffled[
        np.repeat(there.cumsum() - there, wanted) + place % np.repeat(there, wanted)
    ]  # round and round, where a class has more places than samples
    return found


class Balance:
    """The balanced epochs over some training data, of which the last ones asked for are kept."""

    def __init__(self, seed: int, labels: NDArray[np.int64], size: int) -> None:
        """See `balanced`."""
        self._settings = seed, labels, size
        self._kept: dict[int, NDArray[np.int64]] = {}

    def __getitem__(self, epoch: int) -> NDArray[np.int64]:
        """What the places of an epoch show, (size,)."""
        if epoch not in self._kept:
            while len(self._kept) >= rng.KEPT_EPOCHS:
                del self._kept[next(iter(self._kept))]
            seed, labels, size = self._settings
            self._kept[epoch] = balanced(seed, epoch, labels, size)
        return self._kept[epoch]
