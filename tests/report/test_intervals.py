"""Intervals and the test of a difference, against numbers of the literature and of scipy.stats."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.report import intervals


def test_the_interval_of_a_share_is_wilsons() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17, 1998, table I.
    for count, total, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert intervals.of_share(count, total) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10**6), st.data())
def test_the_interval_of_a_share_holds_it_within_bounds(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total))
    low, high = intervals.of_share(count, total)
    assert -1e-12 <= low <= count / total + 1e-12
    assert count / total - 1e-12 <= high <= 1 + 1e-12


def test_the_interval_of_a_mean_is_students() -> None:
    values = [0.91, 0.93, 0.92, 0.96]  # the quantile of t with 3 degrees of freedom is 3.18245
    reach = 3.18245 * np.std(values, ddof=1) / 2
    assert intervals.of_mean(values) == pytest.approx((0.93 - reach, 0.93 + reach), abs=1e-6)
    assert intervals.of_mean([0.5, 0.5]) == (0.5, 0.5)


def test_the_test_of_a_difference_is_mcnemars_exact_one() -> None:
    assert intervals.chance_of_split(3, 7) == pytest.approx(2 * (1 + 10 + 45 + 120) / 2**10)
    assert intervals.chance_of_split(7, 3) == intervals.chance_of_split(3, 7)
    assert intervals.chance_of_split(0, 6) == pytest.approx(2 / 2**6)
    assert intervals.chance_of_split(4, 4) == intervals.chance_of_split(0, 0) == 1


def test_the_bootstrap_agrees_with_the_normal_interval() -> None:
    differences = np.repeat([1, -1, 0], [60, 30, 910])
    mean, error = differences.mean(), differences.std() / 1000**0.5
    found = intervals.of_mean_difference(differences)
    assert found == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.2 * error)
    assert found == intervals.of_mean_difference(differences), "the same differences, another interval"


def test_narrow_intervals_have_two_decimals() -> None:
    assert intervals.as_percent((0.9757, 0.9972)) == "97.6 to 99.7"
    assert intervals.as_percent((0.99163, 0.99281)) == "99.16 to 99.28"
