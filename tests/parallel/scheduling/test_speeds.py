"""Measured speeds: the usual pace, the time that a span is expected to take, and the shares of a step."""

from math import floor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cnnpar.parallel.scheduling.speeds import Speeds


def measured(*paces: float, kind: str = "train") -> Speeds:
    """Return the speeds of workers 0, 1, ... with these seconds for a microbatch, and no delay."""
    speeds = Speeds()
    for worker, pace in enumerate(paces):
        for _ in range(3):
            speeds.measured(worker, kind, 2, 2 * pace, 2 * pace)
    return speeds


def test_nothing_is_expected_before_anything_was_measured() -> None:
    assert Speeds().usual("train") is None
    assert Speeds().expected("train", 3) is None
    assert Speeds().shares([0, 1], "train", 3) == [2, 1]


def test_one_slow_answer_changes_no_share_and_two_do() -> None:
    speeds = measured(0.1, 0.1)
    speeds.measured(1, "train", 1, 9.0, 9.0)
    assert speeds.shares([0, 1], "train", 4) == [2, 2]
    speeds.measured(1, "train", 1, 9.0, 9.0)
    assert speeds.shares([0, 1], "train", 4) == [4, 0]


def test_a_worker_counts_as_fast_again_after_two_answers() -> None:
    speeds = measured(0.1, 9.0)
    for _ in range(2):
        speeds.measured(1, "train", 1, 0.1, 0.1)
    assert speeds.shares([0, 1], "train", 4) == [2, 2]


@pytest.mark.parametrize(("paces", "usual"), [((0.2,), 0.2), ((0.1, 0.9), 0.1), ((0.9, 0.1, 0.2), 0.2)])
def test_the_usual_pace_is_that_of_most_workers(paces: tuple[float, ...], usual: float) -> None:
    assert measured(*paces).usual("train") == pytest.approx(usual)


def test_expected_time_is_usual_delay_plus_pace_per_microbatch() -> None:
    speeds = Speeds()
    for turnaround in (0.5, 0.6, 7.0):
        speeds.measured(0, "train", 4, 0.4, turnaround)
    assert speeds.expected("train", 1) == pytest.approx(0.2 + 0.1)
    assert speeds.expected("train", 10) == pytest.approx(0.2 + 1.0)


def test_clocks_that_disagree_make_no_negative_delay() -> None:
    speeds = Speeds()
    speeds.measured(0, "train", 1, 0.4, 0.3)
    assert speeds.expected("train", 1) == pytest.approx(0.4)


def test_an_unseen_kind_of_step_is_expected_to_be_the_slowest() -> None:
    speeds = measured(0.1)
    speeds.measured(0, "validation", 1, 0.02, 0.02)
    assert speeds.expected("test", 2) == pytest.approx(0.2)
    assert speeds.expected("validation", 2) == pytest.approx(0.04)


def test_kinds_of_steps_are_measured_apart() -> None:
    speeds = measured(0.1, 9.0)
    assert speeds.shares([0, 1], "validation", 4) == [2, 2]


def test_a_worker_that_is_gone_is_forgotten() -> None:
    speeds = measured(0.1, 9.0)
    speeds.forget(0)
    assert speeds.usual("train") == pytest.approx(9.0)
    speeds.forget(1)
    assert speeds.expected("train", 1) is None


def test_an_unmeasured_worker_gets_as_much_as_a_usual_one() -> None:
    assert measured(0.1, 0.1).shares([0, 1, 7], "train", 6) == [2, 2, 2]


def test_a_worker_too_slow_to_help_gets_nothing() -> None:
    assert measured(0.1, 0.1, 1.0).shares([0, 1, 2], "train", 8) == [4, 4, 0]
    assert measured(0.1, 0.1, 1.0).shares([0, 1, 2], "train", 42) == [20, 20, 2]


def test_about_equal_workers_get_equal_shares() -> None:
    assert measured(0.1, 0.12, 0.085, 0.1).shares([0, 1, 2, 3], "train", 16) == [4, 4, 4, 4]


def test_steps_of_microseconds_are_shared_equally() -> None:
    assert measured(1e-6, 1e-5).shares([0, 1], "train", 8) == [4, 4]


@given(st.integers(1, 100), st.integers(1, 20))
def test_equal_workers_get_nearly_equal_parts(microbatches: int, workers: int) -> None:
    sizes = measured(*[0.1] * workers).shares(range(workers), "train", microbatches)
    assert sum(sizes) == microbatches
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.sampled_from([1.0, 2.0, 4.0, 8.0, 64.0]), min_size=1, max_size=8), st.integers(1, 70))
def test_no_other_shares_would_be_done_sooner(paces: list[float], microbatches: int) -> None:
    sizes = measured(*paces).shares(range(len(paces)), "train", microbatches)
    assert sum(sizes) == microbatches
    end = max(size * pace for size, pace in zip(sizes, paces, strict=True))
    assert sum(floor(0.999999 * end / pace) for pace in paces) < microbatches


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=8), st.integers(0, 70))
@example([1e-311], 1)
def test_shares_hold_each_microbatch_for_any_measurements(paces: list[float], microbatches: int) -> None:
    sizes = measured(*paces).shares(range(len(paces)), "train", microbatches)
    assert sum(sizes) == microbatches
    assert min(sizes) >= 0
