"""Elastic distortions: every pixel moved by a random field that is smooth (Simard, Steinkraus and Platt 2003)."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cnnpar import rng

_LEVELS = 2**16  # of the noise; four numbers of a random word
_REACH = 4  # standard deviations; what is further away weighs less than 1e-4 of the nearest


def displacements(
    seed: int, epoch: int, indices: NDArray[np.int64], height: int, width: int, alpha: float, sigma: float
) -> NDArray[np.float32]:
    """(n, H, 2, W): by how many pixels down and right to look further for each pixel of the samples at `indices`.

    Noise between -1 and 1 for every pixel, none outside of the image, smoothed by a Gaussian of `sigma` pixels, times
    `alpha`: away from the edges a displacement has a standard deviation of alpha / sigma / sqrt(12 pi).
    """
    numbers = 2 * height * width
    words = rng.words_of_samples(seed, rng.ELASTIC, epoch, indices, -(-numbers // 4))
    noise = rng.quarters(words)[:, :numbers].astype(np.float32)
    np.subtract(noise, (_LEVELS - 1) / 2, out=noise)
    # A product for each sample, whatever their number; rows of both fields lie side by side.
    halfway = np.matmul(_smoothing(height, sigma, 2 * alpha / _LEVELS), noise.reshape(-1, height, 2 * width))
    fields: NDArray[np.float32] = np.matmul(halfway.reshape(-1, 2 * height, width), _smoothing(width, sigma, 1.0))
    return fields.reshape(-1, height, 2, width)


@lru_cache(maxsize=4)
def _smoothing(size: int, sigma: float, factor: float) -> NDArray[np.float32]:
    """(size, size), symmetric: row i has the weights of a Gaussian about i, which add up to `factor` if it fits in."""
    reach = int(_REACH * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    weights *= factor / (2 * weights.sum() - weights[0])
    place = np.arange(size)
    distance = np.abs(place[:, None] - place)
    return np.where(distance <= reach, weights[np.minimum(distance, reach)], 0).astype(np.float32)
