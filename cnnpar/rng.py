"""All random streams of a run, and their keys in one table; each stream is a pure function of its key.

Philox is counter-based: (seed, domain) is its key, and the position of a stream within its domain lies in the counter.
So no two streams ever meet and none has a state to save.

Data order and augmentation draw raw words only: numpy promises the words of Philox for good, while what its `Generator`
makes of them may change between versions. Initial weights and dropout take a `Generator`; numpy's version is part of a
run's fingerprint.
"""

import numpy as np
from numpy.typing import NDArray

# Domains, and the counter words (0 is the lowest) that tell the streams of each apart.
VALIDATION = 0  # which samples are held out; one stream
PERMUTATION = 1  # order of the samples; 3: epoch
SHIFT = 2  # random offsets in whole pixels; 3: epoch
INITIALISATION = 3  # starting weights; 2: parameter within its layer, 3: layer
DROPOUT = 4  # 1: layer (`nested` where it is within another), 2: microbatch, 3: optimizer step
FLIP = 16  # mirrored images; 3: epoch, as in all that follow
AFFINE = 17  # rotation, scale, shear
ELASTIC = 18  # elastic distortion; 2: sample
COLOUR = 19  # brightness, contrast, saturation
CUTOUT = 20  # centres of the squares
MIXUP = 21  # partners and shares
BALANCE = 22  # samples of balanced epochs

_WITHIN = 1 << 12  # places of the layers within one layer: more than a network may have
SHORTCUT = _WITHIN // 2  # place of a shortcut's first layer, behind the other layers of its block

KEPT_EPOCHS = 2  # whose draws are kept: the current one, and the next one while its first batch is prepared


def initial_values(seed: int, layer: int, parameter: int) -> np.random.Generator:
    """Return the generator of the starting values of one parameter, by its place in the network."""
    return np.random.Generator(np.random.Philox(key=[seed, INITIALISATION], counter=[0, 0, parameter, layer]))


def dropout(seed: int, step: int, microbatch: int, layer: int) -> np.random.Generator:
    """Return the generator of one layer for one microbatch of one optimizer step."""
    return np.random.Generator(np.random.Philox(key=[seed, DROPOUT], counter=[0, layer, microbatch, step]))


def nested(place: int, inner: int) -> int:
    """Return the place, for `dropout`, of the layer `inner` within the layer `place`."""
    return place + _WITHIN * (1 + inner)


def random_words(seed: int, domain: int, epoch: int, count: int) -> NDArray[np.uint64]:
    """Return the first `count` 64-bit words of a stream; a longer draw begins with a shorter one."""
    key = np.array([seed, domain], dtype=np.uint64)
    counter = np.array([0, 0, 0, epoch], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def words_of_samples(seed: int, domain: int, epoch: int, samples: NDArray[np.int64], count: int) -> NDArray[np.uint64]:
    """Return the first `count` words of each sample's own stream, (n, count)."""
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
    """Split each word into its four 16-bit parts, lowest first, along the last axis: (..., n) to (..., 4 n)."""
    return words.astype("<u8", copy=False).view("<u2")


def symmetric(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Turn n words into four independent numbers each, (n, 4): uniform between -1 and 1, in steps of 2**-15."""
    numbers = quarters(words).reshape(-1, 4).astype(np.float64)
    numbers *= 2
    numbers -= 2**16 - 1
    numbers /= 2**16
    return numbers


def uniform(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Turn each word into a number: uniform between 0 and 1, in steps of 2**-52, neither 0 nor 1."""
    return (2.0 * (words >> np.uint64(12)) + 1) / 2**53


def permutation(seed: int, domain: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Return the numbers 0..count-1 in random order, which is that of as many random words."""
    return random_words(seed, domain, epoch, count).argsort(kind="stable")
