"""Intervals and the test of a difference, against numbers of the literature and of scipy.stats."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

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
    assert intervals.of_mean([0.95, 0.6, 0.95])[1] == 1


def test_the_test_of_a_difference_is_mcnemars_exact_one() -> None:
    assert intervals.chance_of_split(3, 7) == pytest.approx(2 * (1 + 10 + 45 + 120) / 2**10)
    assert intervals.chance_of_split(7, 3) == intervals.chance_of_split(3, 7)
    assert intervals.chance_of_split(0, 6) == pytest.approx(2 / 2**6)
    assert intervals.chance_of_split(4, 4) == intervals.chance_of_split(0, 0) == 1


def test_the_interval_of_a_difference_is_that_of_bonett_and_price() -> None:
    # The examples of ci.prop.ps in Bonett's package statpsych, and of his CIpropWS; and the data of Cavo et al. in the
    # tests of the package contingencytables (Fagerland, Lydersen and Laake).
    for lost, won, total, low, high, digits in (
        (26, 4, 48, -0.6251933, -0.2548067, 7),
        (4, 26, 40, 0.3126438, 0.7349752, 7),
        (16, 6, 161, -0.1195, -0.0032, 4),
    ):
        assert intervals.of_difference(lost, won, total) == pytest.approx((low, high), abs=0.51 * 10**-digits)
    # The P value of the exact test for the last of them, from the same place.
    assert intervals.chance_of_split(16, 6) == pytest.approx(0.052479, abs=5e-7)


@pytest.mark.parametrize("total", [359, 10_000])
@pytest.mark.parametrize("rates", [(0.002, 0.008), (0, 0.01), (0.005, 0.015), (0.01, 0.03)])
def test_the_interval_of_a_difference_covers(total: int, rates: tuple[float, float]) -> None:
    first, second = rates
    lost, won = _likely(total * first), _likely(total * second)
    chances = stats.binom.pmf(lost, total, first)[:, None] * stats.binom.pmf(
        won[None, :], total - lost[:, None], second / (1 - first)
    )
    found = [[intervals.of_difference(one, two, total) for two in won.tolist()] for one in lost.tolist()]
    inside = [[low <= second - first <= high for low, high in row] for row in found]
    assert chances.sum() > 1 - 1e-6
    assert (chances * inside).sum() > 0.945


def _likely(mean: float) -> NDArray[np.int64]:
    """Return the counts that a binomial variable of this mean takes, but for less than one time in a million."""
    reach = 6 * mean**0.5 + 6
    return np.arange(max(0, int(mean - reach)), int(mean + reach) + 1)


def test_a_difference_by_few_samples_is_judged_as_the_exact_test_does() -> None:
    for total in (60, 359, 10_000):
        for lost, won in ((lost, answers - lost) for answers in range(11) for lost in range(answers + 1)):
            low, high = intervals.of_difference(lost, won, total)
            assert (not low <= 0 <= high) == (intervals.chance_of_split(lost, won) < 0.05), (lost, won, total)


def test_holms_adjustment() -> None:
    # By statsmodels' multipletests(..., method="holm").
    assert intervals.adjusted_by_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    found = intervals.adjusted_by_holm([0.2, 0.013, 0.021, 0.9, 0.013])
    assert found == pytest.approx([0.4, 0.065, 0.065, 0.9, 0.065])
    assert intervals.adjusted_by_holm([0.3]) == [0.3]
    assert intervals.adjusted_by_holm([]) == []


def test_an_end_near_0_keeps_its_sign() -> None:
    assert intervals.as_points(intervals.of_difference(0, 5, 359)) == "-0.04 to +2.81"
    assert intervals.as_points((-0.0039, 0.0001)) == "-0.39 to +0.01"
    assert intervals.as_points((0.0, 0.5)) == "+0.000000 to +50.000000"


def test_narrow_intervals_have_two_decimals() -> None:
    assert intervals.as_percent((0.9757, 0.9972)) == "97.6 to 99.7"
    assert intervals.as_percent((0.99163, 0.99281)) == "99.16 to 99.28"
