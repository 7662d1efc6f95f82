"""Class-balanced epochs: every class is drawn equally often, however many training samples it has.

A balanced epoch has as many indices as any other. Each index is mapped to one of the samples of the epoch: samples of
rare classes occur several times, some of frequent ones not at all. Augmentation is drawn for the index
(cnnpar/data/augment/augmenter.py), so each occurrence of a sample is augmented differently.
"""

import numpy as np
from numpy.typing import NDArray

from cnnpar import rng


def balanced(seed: int, epoch: int, labels: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return the samples of a balanced epoch, (size,), each in 0..size-1, sorted by class.

    `size` is the epoch's, a multiple of N = len(labels); sample i has the class labels[i % N]. Each class that occurs
    gets floor(size / classes) indices, and randomly chosen ones get one more; a class shares its indices out to its
    samples in the same way.
    """
    copies = size // len(labels)
    there = np.bincount(labels) * copies  # (classes,): samples of each class
    present = np.flatnonzero(there)
    lots, words = np.split(rng.random_words(seed, rng.BALANCE, epoch, len(there) + size), [len(there)])
    wanted = np.where(there > 0, size // len(present), 0)  # (classes,): indices of each class
    wanted[present[lots[present].argsort(kind="stable")][: size % len(present)]] += 1
    shuffled = np.lexsort((words, np.tile(labels, copies)))  # (size,): by class, in random order within each
    rank = np.arange(size) - np.repeat(wanted.cumsum() - wanted, wanted)  # (size,): 0, 1, ... within each class
    found: NDArray[np.int64] = shuffled[
        np.repeat(there.cumsum() - there, wanted) + rank % np.repeat(there, wanted)
    ]  # the remainder starts over where a class has more indices than samples
    return found


class Balance:
    """Balanced epochs of one training set, with the last `rng.KEPT_EPOCHS` kept in memory."""

    def __init__(self, seed: int, labels: NDArray[np.int64], size: int) -> None:
        """Take the arguments of `balanced`."""
        self._settings = seed, labels, size
        self._kept: dict[int, NDArray[np.int64]] = {}

    def __getitem__(self, epoch: int) -> NDArray[np.int64]:
        """Return the samples of an epoch, (size,)."""
        if epoch not in self._kept:
            while len(self._kept) >= rng.KEPT_EPOCHS:
                del self._kept[next(iter(self._kept))]
            seed, labels, size = self._settings
            self._kept[epoch] = balanced(seed, epoch, labels, size)
        return self._kept[epoch]
