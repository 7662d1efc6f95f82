"""Mixup: weighted sums of pairs of images and of their labels (Zhang, Cisse, Dauphin and Lopez-Paz 2018).

Partners are drawn from the whole epoch and not from the batch, so that a mixed sample depends on its index alone.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnpar import rng
from cnnpar.data.dataset import Pixels


class Targets(NamedTuple):
    """Targets of mixed images: `labels` with weight `shares`, `others` with weight 1 - `shares`."""

    labels: NDArray[np.int64]  # (n,)
    others: NDArray[np.int64]  # (n,)
    shares: NDArray[np.float64]  # (n,), each in 0..1


@lru_cache(maxsize=rng.KEPT_EPOCHS)
def random_pairs(seed: int, epoch: int, count: int, alpha: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw partners, uniform, and weights, Beta(alpha, alpha), of the `count` samples of an epoch: (count,) each.

    A weight is a function of two uniform numbers, without rejection (Devroye 1996, "Random variate generation in one
    line of code"), in a form that stays finite where u ** (1 / alpha) underflows to 0.
    """
    partner, u, v = rng.random_words(seed, rng.MIXUP, epoch, 3 * count).reshape(count, 3).T  # (count,) each
    power = rng.uniform(u) ** (1 / alpha)
    cosine = np.cos(2 * np.pi * rng.uniform(v))
    shares = 0.5 + 0.5 * cosine * np.sqrt((1 - power) / (power + (1 - power) * cosine**2))
    return (partner % np.uint64(count)).astype(np.int64), np.clip(shares, 0, 1)


def mixed(images: Pixels, others: Pixels, shares: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return images * shares + others * (1 - shares), (n, H, W, C), in pixel units and not rounded."""
    own, rest = (weights.astype(np.float32)[:, None, None, None] for weights in (shares, 1 - shares))
    found: NDArray[np.float32] = images * own + others * rest
    return found
