"""Learning rates that the learning-rate finder tries, and the curve of their losses (Smith 2017)."""

import math
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from cnnpar.config.float32 import unfit
from cnnpar.errors import InputError

_MOST_STEPS, _FEWEST_STEPS = 200, 50  # by default
_LIMIT = 10_000  # steps
_WINDOWS = 20  # in the whole range; the loss is smoothed over one of them
_WORSE = 4.0  # times the lowest loss: then the run has diverged
_CLEAR = 8.0  # standard deviations of the smoothed loss: a larger fall is not noise
_SAFETY = 10.0  # from the rate of the lowest loss, at which the loss is about to rise, to one for training


class Range(msgspec.Struct, frozen=True):
    """Learning rates from `low` to `high`, one a step, in geometric progression. Raises InputError for bad ones."""

    low: float
    high: float
    steps: int | None = None  # None: as many as an epoch has, but 50 to 200

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise InputError(f"--from {self.low:g} --to {self.high:g}: two rates above 0, the lower one first")
        for option, rate in (("--from", self.low), ("--to", self.high)):
            if why := unfit(rate):
                raise InputError(f"{option} {rate:g}: {why}")
        if self.steps is not None and not _WINDOWS <= self.steps <= _LIMIT:
            raise InputError(f"--steps {self.steps}: from {_WINDOWS} to {_LIMIT:,} are expected")

    def rates(self, steps_per_epoch: int) -> list[float]:
        """Return the learning rate of each step."""
        steps = self.steps or max(min(_MOST_STEPS, steps_per_epoch), _FEWEST_STEPS)
        return [self.low * math.pow(self.high / self.low, step / (steps - 1)) for step in range(steps)]


class Curve(msgspec.Struct, frozen=True):
    """Learning rates that were tried, the mean losses of their batches, and these smoothed over `window` steps."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    window: int
    steps: int  # planned; fewer were tried if the loss diverged

    @classmethod
    def of(cls, rates: Sequence[float], losses: Sequence[float]) -> "Curve":
        """Return the curve of losses, one at least, at the first so many of the planned rates."""
        window = max(len(rates) // _WINDOWS, 2)
        return cls([*rates[: len(losses)]], [*losses], smooth(losses, window), window, len(rates))

    @property
    def diverged(self) -> bool:
        """True if the last smoothed loss is four times the lowest, or NaN: higher rates need not be tried."""
        return not self.smoothed[-1] <= _WORSE * min(self.smoothed)

    @property
    def best(self) -> int:
        """Step of the lowest smoothed loss."""
        return self.smoothed.index(min(self.smoothed))

    @property
    def fell(self) -> bool:
        """True if the smoothed loss fell to its lowest by more than noise can explain.

        The first window is left out, as too few losses are averaged in it. The noise is estimated from the differences
        between consecutive losses, which a trend hardly changes.
        """
        if self.best < 2 * self.window:
            return False
        way = self.losses[: self.best + 1]
        # A difference has twice the variance of a loss; the EMA of n losses has 1 / (2 n - 1) of it.
        variance = sum((after - before) ** 2 for before, after in pairwise(way)) / (2 * self.best)
        noise = math.sqrt(variance / (2 * self.window - 1))
        return max(self.smoothed[self.window : self.best]) - self.smoothed[self.best] > _CLEAR * noise

    @property
    def steepest(self) -> int | None:
        """Middle step of the window in which the loss fell most before its lowest; None if it did not fall."""
        if not self.fell:
            return None
        falls = {
            start + self.window // 2: self.smoothed[start] - self.smoothed[start + self.window]
            for start in range(self.window, self.best - self.window + 1)
        }
        return max(falls, key=lambda step: falls[step])

    @property
    def suggestion(self) -> float | None:
        """Learning rate to train with: a tenth of that of the lowest loss; None if the loss did not fall.

        The rate of the steepest descent depends on the number of steps: on the digits (SGD) it went from 0.002 with 50
        steps to 0.0001 with 400, while this one stayed between 0.005 and 0.015.
        """
        return self.rates[self.best] / _SAFETY if self.fell else None


def smooth(losses: Sequence[float], window: int) -> list[float]:
    """Return exponential moving averages over about `window` losses, bias-corrected (Kingma and Ba 2015, section 3)."""
    kept, mean, smoothed = 1 - 1 / window, 0.0, []
    for count, loss in enumerate(losses, 1):
        mean = kept * mean + (1 - kept) * loss
        smoothed.append(mean / (1 - kept**count))
    return smoothed
