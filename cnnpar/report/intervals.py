"""Intervals for what was measured on some samples, or by some runs, and the test whether a difference may be chance.

scipy.stats, which takes a second to load, is imported by the function that needs it.
"""

import math
import statistics
from collections.abc import Sequence

CONFIDENCE = 0.95  # of all intervals
_MOST_DIGITS = 6  # decimals of an end that is near 0

Interval = tuple[float, float]


def as_percent(interval: Interval) -> str:
    """Return an interval of shares for people: 97.6 to 99.7, and with two decimals if it is narrower than 1 %."""
    low, high = interval
    digits = 2 if high - low < 0.01 else 1
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f}"


def as_points(interval: Interval) -> str:
    """Return an interval of a difference of shares for people, with as many decimals as keep its ends apart from 0."""
    low, high = interval
    digits = 2 if high - low < 0.01 else 1
    while digits < _MOST_DIGITS and any(round(100 * end, digits) == 0 for end in interval):
        digits += 1
    return f"{100 * low:+.{digits}f} to {100 * high:+.{digits}f}"


def of_share(count: int, total: int) -> Interval:
    """Return the interval of a share, such as an accuracy: `count` of `total` samples, within 0..1.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    from scipy.stats import binomtest

    found = binomtest(count, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def of_mean(values: Sequence[float]) -> Interval:
    """Return Student's t interval of the mean of two or more independent shares, such as accuracies, within 0..1."""
    from scipy import stats

    spread = statistics.stdev(values)
    if not spread:
        return values[0], values[0]
    error = spread / len(values) ** 0.5
    low, high = stats.t.interval(CONFIDENCE, len(values) - 1, statistics.fmean(values), error)
    return max(0.0, float(low)), min(1.0, float(high))


def of_difference(lost: int, won: int, total: int) -> Interval:
    """Return the interval of the difference of two shares of the same `total` samples, within -1..1.

    `won` samples count for the second share only, `lost` for the first only; the difference is the second less the
    first. Source: Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial proportions based
    on paired data", Journal of Educational and Behavioral Statistics 37, 2012. Unlike a bootstrap's, it covers where
    few samples differ, and, if they are few of many, it agrees with `chance_of_split` on whether the shares differ.
    """
    first, second = (lost + 1) / (total + 2), (won + 1) / (total + 2)
    middle = second - first
    quantile = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    reach = quantile * math.sqrt((first + second - middle**2) / (total + 2))
    return max(-1.0, middle - reach), min(1.0, middle + reach)


def chance_of_split(first: int, second: int) -> float:
    """Return the probability that `first + second` tosses of a coin are divided as unequally as this, or more so.

    Of samples that one of two models gets right and the other wrong this is the exact test of McNemar ("Note on the
    sampling error of the difference between correlated proportions", Psychometrika 12, 1947), two-sided.
    """
    from scipy.stats import binomtest

    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def adjusted_by_holm(chances: Sequence[float]) -> list[float]:
    """Return the probabilities of several tests, adjusted for their number, in the same order.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
    """
    adjusted, least = [0.0] * len(chances), 0.0
    for rank, place in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        least = max(least, min(1.0, (len(chances) - rank) * chances[place]))
        adjusted[place] = least
    return adjusted
