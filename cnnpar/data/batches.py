"""Order of the samples: the batch of a step is a pure function of (seed, epoch, step); resuming replays nothing."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cnnpar import rng


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Return the number of batches that hold every sample once; the last one may be shorter."""
    return -(-samples // batch_size)


def batch_indices(seed: int, epoch: int, step: int, samples: int, batch_size: int) -> NDArray[np.int64]:
    """Return the sample indices (batch_size,) of a step, counted from 0 within its epoch, as a read-only view.

    The steps of an epoch hold every sample exactly once; the last batch may be shorter. Raises ValueError for a step
    beyond the epoch.
    """
    if not 0 <= step < steps_per_epoch(samples, batch_size):
        raise ValueError(f"step {step} is outside an epoch of {steps_per_epoch(samples, batch_size)} steps")
    return _order(seed, epoch, samples)[step * batch_size : (step + 1) * batch_size]


@lru_cache(maxsize=rng.KEPT_EPOCHS)
def _order(seed: int, epoch: int, samples: int) -> NDArray[np.int64]:
    """Return the random order (samples,) of an epoch."""
    order = rng.permutation(seed, rng.PERMUTATION, epoch, samples)
    order.flags.writeable = False  # batches are views of this cached array
    return order
