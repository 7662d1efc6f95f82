"""Which training samples are held out for validation: a pure function of their labels, so that all runs agree.

Stratified: each class gives the same part of its samples, and keeps one at least to train on. Earlier versions chose at
random, whatever the classes; a checkpoint says which of the two its run did.
"""

import numpy as np
from numpy.typing import NDArray

from cnnpar import rng
from cnnpar.data.preprocessing import HoldOut


def held_out_share(labels: NDArray[np.int64], share: float, hold_out: HoldOut) -> NDArray[np.int64]:
    """Return the sorted indices of about `share` of the samples, one at least; `labels` (N,)."""
    count = max(1, round(share * len(labels)))
    order = rng.permutation(len(labels), rng.VALIDATION, 0, len(labels))
    if hold_out == "random":
        return np.sort(order[:count])
    by_class = order[np.argsort(labels[order], kind="stable")]  # (N,): class by class, in random order within each
    there = np.bincount(labels)  # (classes,)
    held = _shared_out(there, count)
    rank = np.arange(len(labels)) - np.repeat(there.cumsum() - there, there)  # (N,): 0, 1, ... within each class
    return np.sort(by_class[rank < np.repeat(held, there)])


def held_out_fold(labels: NDArray[np.int64], part: int, parts: int) -> NDArray[np.int64]:
    """Return the sorted indices of one of `parts` stratified parts, counted from 1; `labels` (N,).

    The parts are of nearly equal size, and each sample is in one of them, but for the only one of its class, which is
    in none.
    """
    order = rng.permutation(len(labels), rng.VALIDATION, 0, len(labels))
    order = order[np.bincount(labels)[labels[order]] > 1]
    by_class = order[np.argsort(labels[order], kind="stable")]
    return np.sort(by_class[part - 1 :: parts])  # dealt out in turn, so that no part gets more of a class


def _shared_out(there: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Share `count` out to classes in proportion to their samples, by largest remainders: (classes,).

    Each class keeps one sample at least; where that leaves too few, fewer are given.
    """
    exact = there * count  # in parts of all samples; whole numbers, so that no machine rounds in another way
    held = exact // there.sum()
    most = np.maximum(there - 1, 0)
    remainders = np.argsort(held * there.sum() - exact, kind="stable")  # largest first
    held = np.minimum(held, most)
    while (missing := min(count, int(most.sum())) - int(held.sum())) > 0:
        takers = [index for index in remainders if held[index] < most[index]][:missing]
        held[takers] += 1
    shared: NDArray[np.int64] = held
    return shared
