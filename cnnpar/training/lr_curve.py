"""Which learning rates a range test tries, and what its losses say of them (Smith 2017)."""

import math
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from cnnpar.errors import InputError

_MOST_STEPS, _FEWEST_STEPS = 200, 50  # by default
_LIMIT = 10_000
_WINDOWS = 20  # in the whole range; the loss is smoothed over one of them
_WORSE = 4.0  # times the lowest loss: higher rates have nothing more to tell
_CLEAR = 8.0  # standard deviations
_SAFETY = 10.0  # at the rate of the lowest loss it is about to rise: training takes a lower one


class Range(msgspec.Struct, frozen=True):
    """Rates from `low` to `high`, one a step, each the same factor above the one before. Raises InputError."""

    low: float
    high: float
    steps: int | None = None  # None: as in an epoch of the run

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise InputError(f"--from {self.low:g} --to {self.high:g}: two rates above 0, the lower one first")
        if self.steps is not None and not _WINDOWS <= self.steps <= _LIMIT:
            raise InputError(f"--steps {self.steps}: from {_WINDOWS} to {_LIMIT:,} are expected")

    def rates(self, steps_per_epoch: int) -> list[float]:
        """The learning rate of each step: as many as were wanted, or as in an epoch, but 50 to 200."""
        steps = self.steps or max(min(_MOST_STEPS, steps_per_epoch), _FEWEST_STEPS)
        return [self.low * math.pow(self.high / self.low, step / (steps - 1)) for step in range(steps)]


class Curve(msgspec.Struct, frozen=True):
    """The rates that were tried, the mean losses of their batches, and these smoothed over `window` steps."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    window: int
    steps: int  # that there should have been

    @classmethod
    def of(cls, rates: Sequence[float], losses: Sequence[float]) -> "Curve":
        """The curve of the losses at the first of the rates; there is one at least."""
        window = max(len(rates) // _WINDOWS, 2)
        return cls([*rates[: len(losses)]], [*losses], smooth(losses, window), window, len(rates))

    @property
    def hopeless(self) -> bool:
        """Whether the last loss is so much worse than the lowest that higher rates need not be tried."""
        return not self.smoothed[-1] <= _WORSE * min(self.smoothed)

    @property
    def best(self) -> int:
        """The step of the lowest smoothed loss."""
        return self.smoothed.index(min(self.smoothed))

    @property
    def fell(self) -> bool:
        """Whether the loss came down to the lowest by more than smoothed noise goes up and down.

        The first window is left out here: too little is averaged in it. The noise is that of the differences from one
        loss to the next, which a trend hardly changes.
        """
        if self.best < 2 * self.window:
            return False
        way = self.losses[: self.best + 1]
        variance = sum((after - before) ** 2 for before, after in pairwise(way)) / (2 * self.best)
        noise = math.sqrt(variance / (2 * self.window - 1))
        return max(self.smoothed[self.window : self.best]) - self.smoothed[self.best] > _CLEAR * noise

    @property
    def steepest(self) -> int | None:
        """The middle of the window in which the loss fell most on its way to the lowest; None if it did not fall."""
        if not self.fell:
            return None
        falls = {
            start + self.window // 2: self.smoothed[start] - self.smoothed[start + self.window]
            for start in range(self.window, self.best - self.window + 1)
        }
        return max(falls, key=lambda step: falls[step])

    @property
    def suggestion(self) -> float | None:
        """A tenth of the rate of the lowest loss; None if the loss did not fall.

        Not the steepest's, which depends on how long the test is: on the digits it went from 0.002 in 50 steps to
        0.0001 in 400 (SGD), where this one stayed between 0.005 and 0.015.
        """
        return self.rates[self.best] / _SAFETY if self.fell else None


def smooth(losses: Sequence[float], window: int) -> list[float]:
    """Exponential running means, over about so many numbers, without bias (Kingma and Ba 2015, section 3)."""
    kept, mean, smoothed = 1 - 1 / window, 0.0, []
    for count, loss in enumerate(losses, 1):
        mean = kept * mean + (1 - kept) * loss
        smoothed.append(mean / (1 - kept**count))
    return smoothed
