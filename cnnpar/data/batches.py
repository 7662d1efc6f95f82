"""Which samples a step sees: a pure function of (seed, epoch, step), so that nothing has to be replayed."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cnnpar import rng


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """The number of batches that hold every sample once; the last one may be shorter."""
    return -(-samples // batch_size)


def batch_indices(seed: int, epoch: int, step: int, samples: int, batch_size: int) -> NDArray[np.int64]:
    """The samples of step `step` (counted within the epoch), read-only.

    The steps 0..steps_per_epoch-1 of an epoch hold every sample exactly once; any other step is a ValueError.
    """
    if not 0 <= step < steps_per_epoch(samples, batch_size):
        raise ValueError(f"step {step} is outside an epoch of {steps_per_epoch(samples, batch_size)} steps")
    return _order(seed, epoch, samples)[step * batch_size : (step + 1) * batch_size]


@lru_cache(maxsize=rng.KEPT_EPOCHS)
def _order(seed: int, epoch: int, samples: int) -> NDArray[np.int64]:
    order = rng.permutation(seed, rng.PERMUTATION, epoch, samples)
    order.flags.writeable = False  # batches are views of it
    return order
