"""Identical pictures are found by a 128-bit hash of their pixels, some at a time, so that little memory is needed."""

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from cnnpar.data.dataset import Pixels
from cnnpar.machine import usable_cores

_WORDS = 1 << 18  # 32-bit words hashed at a time: 1 MB of pixels
_SEED = 0x9E3779B97F4A7C15  # any number


def first_alike(*images: Pixels) -> NDArray[np.int64]:
    """Return for each picture, (N,), the index of the first that is the same; its own where there is none before.

    `images`: parts (n, H, W, C) of one type and one picture size, whose pictures are counted on from part to part.
    """
    hashes = np.concatenate([_hashes(part) for part in images])  # (N, 2)
    order = np.lexsort(hashes.T)  # a stable sort, so that the first of equals stays the first
    ordered = hashes[order]
    begins = np.ones(len(order), np.bool_)  # (N,): of a run of equal hashes
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.empty(len(order), np.int64)
    first[order] = order[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
    return first


def _hashes(images: Pixels) -> NDArray[np.uint64]:
    """Return two 64-bit hashes of each picture, (N, 2).

    Each is the sum of the 32-bit words of the pixels, times a random 64-bit number each, modulo 2^64. Two different
    pictures have the same two with a probability below 2^-66. Source: Lemire and Kaser, "Strongly universal string
    hashing is fast", 2014 (multilinear hashing).
    """
    found = np.zeros((len(images), 2), np.uint64)
    size = -(-images.itemsize * math.prod(images.shape[1:]) // 4)  # words of a picture
    keys = np.random.Philox(key=_SEED).random_raw(2 * min(size, _WORDS) + 2).reshape(2, -1)  # (2, words + 1)
    most = max(1, _WORDS // size)  # pictures

    def add(begin: int) -> None:
        target = found[begin : begin + most]
        for words in _pieces(images[begin : begin + most]):
            for column, key in enumerate(keys):
                # The pieces of one picture are the digits of a number to the base of the last key.
                target[:, column] *= key[-1] | np.uint64(1)
                # `words @ key` takes longer for whole numbers, and lets no other thread work.
                target[:, column] += np.einsum("ij,j->i", words, key[: words.shape[1]])

    with ThreadPoolExecutor(usable_cores()) as threads:
        deque(threads.map(add, range(0, len(images), most)), maxlen=0)  # raises what they raise
    return found


def _pieces(images: Pixels) -> Iterator[NDArray[np.uint64]]:
    """Yield the pixels of some pictures, (n, words); large pictures in several pieces."""
    octets = np.ascontiguousarray(images).reshape(len(images), -1).view(np.uint8)  # (n, bytes)
    for left in range(0, octets.shape[1], 4 * _WORDS):
        piece = octets[:, left : left + 4 * _WORDS]
        if piece.shape[1] % 4:
            piece = np.pad(piece, ((0, 0), (0, -piece.shape[1] % 4)))
        yield np.ascontiguousarray(piece).view(np.uint32).astype(np.uint64)
