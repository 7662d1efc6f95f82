"""Random words for the order and variation of data, each a pure function of its place.

Philox is counter-based: (seed, domain) is the key and the epoch the high counter word, so that no two
streams ever meet and none has a state to save; a sample may have a stream of its own, by the word below. Only raw
words are drawn: numpy promises their stream for good, while what its `Generator` makes of them may change between
versions.
"""

import numpy as np
from numpy.typing import NDArray

# The domains of this package; other packages use 3 to 15.
VALIDATION = 0
PERMUTATION = 1
SHIFT = 2
FLIP = 16
AFFINE = 17
ELASTIC = 18
COLOUR = 19
CUTOUT = 20
MIXUP = 21
BALANCE = 22


def random_words(seed: int, domain: int, epoch: int, count: int) -> NDArray[np.uint64]:
    """The first `count` 64-bit words of a stream; a longer draw begins with a shorter one."""
    key = np.array([seed, domain], dtype=np.uint64)
    counter = np.array([0, 0, 0, epoch], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def words_of_samples(seed: int, domain: int, epoch: int, samples: NDArray[np.int64], count: int) -> NDArray[np.uint64]:
    """The first `count` words (n, count) of each of these samples' own streams."""
    key, counter = np.array([seed, domain], dtype=np.uint64), np.array([0, 0, 0, epoch], dtype=np.uint64)
    philox = np.random.Philox(key=key, counter=counter)
    state = philox.state  # a new one for each sample takes ten times as long
    words = np.empty((len(samples), count), np.uint64)
    for own, sample in zip(words, samples, strict=True):
        state["state"]["counter"][2] = sample
        philox.state = state
        own[...] = philox.random_raw(count)
    return words


def quarters(words: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """The four parts of each word, lowest first, one after the other along the last axis."""
    return words.astype("<u8", copy=False).view("<u2")


def symmetric(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Four independent numbers of each of n words, (n, 4): uniform between -1 and 1, in steps of 2**-15."""
    numbers = quarters(words).reshape(-1, 4).astype(np.float64)
    numbers *= 2
    numbers -= 2**16 - 1
    numbers /= 2**16
    return numbers


def uniform(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """A number of each word: uniform between 0 and 1, in steps of 2**-52, neither 0 nor 1."""
    return (2.0 * (words >> np.uint64(12)) + 1) / 2**53


def permutation(seed: int, domain: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The numbers 0..count-1 in random order, which is that of as many random words."""
    return random_words(seed, domain, epoch, count).argsort(kind="stable")
