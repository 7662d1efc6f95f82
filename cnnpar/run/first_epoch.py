"""The first epoch of a run is looked at once: a run whose weights or loss stand still is told so, and why."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cnnpar.config import Config
from cnnpar.nn.layout import Layout
from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums
from cnnpar.training.advice import against_standing_still

_KEPT = 65_536  # of the first weights, at most: what they say of the change is enough
_HARDLY = 1e-6  # change, relative to the weights
_ROSE = 100.0  # times the first loss
_STEPS = 8  # fewer say nothing about a loss
_DEVIATIONS = 3.0  # of the difference between two means: a larger one is no chance


class FirstEpoch:
    """Keeps some of the first weights, and the losses of the first epoch's batches."""

    def __init__(self, config: Config, layout: Layout, parameters: Vector) -> None:
        """Take the weights (layout.size,) before the first step."""
        self._config = config
        self._layout = layout
        self._before = self._sample(parameters)
        self._losses: list[float] = []
        self._highest_rate = 0.0

    def step_done(self, sums: Sums, rate: float) -> None:
        """Note the mean loss of a batch, and the learning rate of its step."""
        self._losses.append(sums.loss / sums.count)
        self._highest_rate = max(self._highest_rate, rate)

    def warning(self, parameters: Vector) -> str:
        """Return one line on a run that stands still, given the weights after the epoch; empty for one that learns."""
        change = float(np.linalg.norm(self._sample(parameters) - self._before))
        size = float(np.linalg.norm(self._before))
        reason = against_standing_still(self._config, self._highest_rate, max(self._losses))
        if change == 0:
            what = "no weight has changed in epoch 1"
        elif change <= _HARDLY * size:
            what = f"the weights have hardly changed in epoch 1, by {change / size:.1g} of their size"
        elif reason and _stands_still(self._losses):
            what = "the training loss has not moved in epoch 1"
        elif self._losses[-1] > _ROSE * max(self._losses[0], 1.0):
            rate = self._config.optimizer.learning_rate
            what = f"the training loss rose to {self._losses[-1]:.3g} in epoch 1"
            reason = f"optimizer.learning_rate = {rate:g} is too high"
        else:
            return ""
        places = "the data, the layers and model.freeze" if self._config.model.freeze else "the data and the layers"
        return f"{what}; most likely {reason}" if reason else f"{what}; look at {places}"

    def _sample(self, parameters: Vector) -> NDArray[np.float64]:
        """Return every n-th of the weights that are trained, in float64, in which no square of theirs overflows."""
        parts = [part for part, _ in self._layout.trainable_segments]
        every = math.ceil(sum(part.stop - part.start for part in parts) / _KEPT)
        return np.concatenate([parameters[part][::every] for part in parts]).astype(np.float64)


def _stands_still(losses: Sequence[float]) -> bool:
    """Tell whether the mean of the second half of the losses differs from that of the first by no more than chance."""
    if len(losses) < _STEPS:
        return False
    half = len(losses) // 2
    parts = losses[:half], losses[half:]
    before, after = map(statistics.fmean, parts)
    error = math.sqrt(sum(statistics.variance(part) / len(part) for part in parts))
    return abs(after - before) <= _DEVIATIONS * error
