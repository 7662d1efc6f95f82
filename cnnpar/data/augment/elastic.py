"""Elastic distortion: displace every pixel by a smooth random field (Simard, Steinkraus and Platt 2003)."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cnnpar import rng

_LEVELS = 2**16  # distinct noise values: a random word of 64 bits gives four of 16
_REACH = 4  # radius of the Gaussian in standard deviations, as in scipy: weights beyond are below 4e-4 of the largest


def displacements(
    seed: int, epoch: int, indices: NDArray[np.int64], height: int, width: int, alpha: float, sigma: float
) -> NDArray[np.float32]:
    """Return displacements (n, H, 2, W) in pixels for the samples at `indices`: down at [:, :, 0], right at [:, :, 1].

    Uniform noise between -1 and 1 for each pixel, 0 outside of the image, is smoothed by a Gaussian of standard
    deviation `sigma` and multiplied by `alpha`, both in pixels. Far from the edges a displacement has a standard
    deviation of alpha / sigma / sqrt(12 pi).
    """
    numbers = 2 * height * width
    words = rng.words_of_samples(seed, rng.ELASTIC, epoch, indices, -(-numbers // 4))  # (n, ceil(2 H W / 4))
    noise = rng.quarters(words)[:, :numbers].astype(np.float32)  # (n, 2 H W)
    np.subtract(noise, (_LEVELS - 1) / 2, out=noise)
    # matmul multiplies one matrix per sample, so the bits of a sample do not depend on n.
    # Columns first: (n, H, 2 W), with the rows of both fields side by side; then rows: (n, 2 H, W).
    halfway = np.matmul(_smoothing(height, sigma, 2 * alpha / _LEVELS), noise.reshape(-1, height, 2 * width))
    fields: NDArray[np.float32] = np.matmul(halfway.reshape(-1, 2 * height, width), _smoothing(width, sigma, 1.0))
    return fields.reshape(-1, height, 2, width)


@lru_cache(maxsize=4)
def _smoothing(size: int, sigma: float, factor: float) -> NDArray[np.float32]:
    """Return a symmetric matrix (size, size): row i holds Gaussian weights about i, of sum `factor` if they all fit."""
    reach = int(_REACH * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    weights *= factor / (2 * weights.sum() - weights[0])
    position = np.arange(size)
    distance = np.abs(position[:, None] - position)  # (size, size)
    return np.where(distance <= reach, weights[np.minimum(distance, reach)], 0).astype(np.float32)
