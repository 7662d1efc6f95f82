"""Images mixed in pairs, with two labels each (Zhang, Cisse, Dauphin and Lopez-Paz 2018).

The other one of a pair is drawn from the whole epoch, not from the batch: a mixed sample then depends on nothing but
its own place.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnpar import rng


class Targets(NamedTuple):
    """What mixed images show: `labels` with a weight of `shares`, `others` with the rest of 1."""

    labels: NDArray[np.int64]  # (n,)
    others: NDArray[np.int64]  # (n,)
    shares: NDArray[np.float64]  # (n,), each in 0..1


@lru_cache(maxsize=rng.KEPT_EPOCHS)
def random_pairs(seed: int, epoch: int, count: int, alpha: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each sample of an epoch of `count` another one, uniform, and its own share, from Beta(alpha, alpha).

    A share is made of two random numbers, without rejection (Devroye 1996, Random variate generation in one line of
    code), in a form that bears a u ** (1 / alpha) of 0.
    """
    partner, u, v = rng.random_words(seed, rng.MIXUP, epoch, 3 * count).reshape(count, 3).T
    power = rng.uniform(u) ** (1 / alpha)
    cosine = np.cos(2 * np.pi * rng.uniform(v))
    shares = 0.5 + 0.5 * cosine * np.sqrt((1 - power) / (power + (1 - power) * cosine**2))
    return (partner % np.uint64(count)).astype(np.int64), np.clip(shares, 0, 1)


def mixed(images: NDArray[np.uint8], others: NDArray[np.uint8], shares: NDArray[np.float64]) -> NDArray[np.float32]:
    """images * shares + others * (1 - shares), (n, H, W, C), in pixel units and not rounded."""
    own, rest = (weights.astype(np.float32)[:, None, None, None] for weights in (shares, 1 - shares))
    return images * own + others * rest
