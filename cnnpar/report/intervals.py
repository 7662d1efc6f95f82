"""Intervals for what was measured on some samples, or by some runs, and the test whether a difference may be chance.

scipy.stats, which takes a second to load, is imported by the function that needs it.
"""

import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95  # of all intervals
_RESAMPLES = 2000  # of a bootstrap: the ends of its interval are good to a twentieth of its width
_DRAWN = 1 << 22  # samples that it draws at a time
_SEED = 0

Interval = tuple[float, float]


def as_percent(interval: Interval) -> str:
    """Return an interval of shares for people: 97.6 to 99.7, and with two decimals if it is narrower than 1 %."""
    low, high = interval
    digits = 2 if high - low < 0.01 else 1
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f}"


def of_share(count: int, total: int) -> Interval:
    """Return the interval of a share, such as an accuracy: `count` of `total` samples, within 0..1.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    from scipy.stats import binomtest

    found = binomtest(count, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def of_mean(values: Sequence[float]) -> Interval:
    """Return Student's t interval of the mean of two or more independent measurements, such as runs of other seeds."""
    from scipy import stats

    spread = statistics.stdev(values)
    if not spread:
        return values[0], values[0]
    error = spread / len(values) ** 0.5
    low, high = stats.t.interval(CONFIDENCE, len(values) - 1, statistics.fmean(values), error)
    return float(low), float(high)


def of_mean_difference(differences: NDArray[np.int64]) -> Interval:
    """Return the bootstrap's percentile interval of the mean of differences (n,), one for each sample.

    The samples are drawn anew by a fixed seed, so that the same differences have the same interval. Source: Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    from scipy.stats import bootstrap

    found = bootstrap(
        (differences,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=_RESAMPLES,
        batch=max(1, _DRAWN // len(differences)),
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def chance_of_split(first: int, second: int) -> float:
    """Return the probability that `first + second` tosses of a coin are divided as unequally as this, or more so.

    Of samples that one of two models gets right and the other wrong this is the exact test of McNemar ("Note on the
    sampling error of the difference between correlated proportions", Psychometrika 12, 1947), two-sided.
    """
    from scipy.stats import binomtest

    return float(binomtest(first, first + second).pvalue) if first + second else 1.0
