"""Mean and interval of a cross-validation, against scipy's own Student's t."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.report.cross_validation import CrossValidation, Fold, as_text, interval_of_mean


def fold(number: int, accuracy: float | None, exact: bool = True) -> Fold:
    return Fold(f"{number}/3", 2, accuracy, accuracy, 2 if accuracy is not None else None, "ab" * 32, exact, "cv")


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_the_interval_is_students_with_the_corrected_variance(accuracies: list[float]) -> None:
    from scipy import stats

    count = len(accuracies)
    low, high = interval_of_mean(accuracies)
    scale = np.std(accuracies, ddof=1) * np.sqrt(1 / count + (1 / count) / (1 - 1 / count))
    if scale > 1e-12:
        expected = stats.t.interval(0.95, count - 1, np.mean(accuracies), scale)
        assert (low, high) == pytest.approx(np.clip(expected, 0, 1), abs=1e-9)
    assert 0 <= low <= np.mean(accuracies) + 1e-12
    assert low <= high <= 1


def test_text_has_each_fold_and_the_mean() -> None:
    found = CrossValidation.of([fold(1, 0.9), fold(2, 0.92), fold(3, 0.94, exact=False)], "cv", None)
    *folds, mean, interval = as_text(found, 1000).splitlines()
    assert folds[0] == f"fold 1/3: validation accuracy 90.00%, best 90.00% in epoch 2, weights sha256 {'ab' * 32}"
    assert folds[2].endswith(" (not exact)")
    assert not found.exact
    assert mean == "validation accuracy 92.00%, the mean of 3 folds (standard deviation 2.00%)"
    assert interval.startswith("95% interval 84.14% to 99.86%, by Student's t, corrected for folds that share training")


def test_80_columns_hold_each_line_without_the_digest() -> None:
    found = CrossValidation.of([fold(1, 0.9), fold(2, 0.92), fold(3, 1.0, exact=False)], "cv", None)
    assert as_text(found, 80).splitlines() == [
        "fold 1/3: validation accuracy 90.00%, best 90.00% in epoch 2",
        "fold 2/3: validation accuracy 92.00%, best 92.00% in epoch 2",
        "fold 3/3: validation accuracy 100.00%, best 100.00% in epoch 2 (not exact)",
        "validation accuracy 94.00%, the mean of 3 folds (standard deviation 5.29%)",
        "95% interval 73.22% to 100.00%",
    ]


def test_a_stopped_cross_validation_has_no_mean() -> None:
    found = CrossValidation.of([fold(1, 0.9), fold(2, None)], "cv", "SIGINT")
    assert (found.validation_accuracy, found.standard_deviation, found.interval) == (None, None, None)
    assert as_text(found, 1000).splitlines()[1] == f"fold 2/3: no epoch is finished, weights sha256 {'ab' * 32}"
