"""Stratified hold-out and folds: properties of what is chosen, and the old choice by literal values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from cnnpar.data.hold_out import held_out_fold, held_out_share

OLD = [4, 27, 30, 32]  # as the version before chose them
label_lists = hnp.arrays(np.int64, st.integers(1, 200), elements=st.integers(0, 6))


@given(label_lists, st.floats(0.01, 0.9))
@settings(deadline=None)
def test_each_class_gives_its_part_and_keeps_one(labels: NDArray[np.int64], share: float) -> None:
    held = held_out_share(labels, share, "stratified")
    assert np.all(np.diff(held) > 0)
    count = max(1, round(share * len(labels)))
    there, gone = np.bincount(labels), np.bincount(labels[held], minlength=labels.max() + 1)
    assert np.all(gone <= np.maximum(there - 1, 0))
    assert gone.sum() == min(count, np.maximum(there - 1, 0).sum())
    if np.all(there - 1 > there * count / len(labels)):  # nothing had to be kept back
        assert np.all(abs(gone - there * count / len(labels)) < 1)


@given(label_lists, st.integers(2, 6))
@settings(deadline=None)
def test_each_sample_is_in_one_fold_except_lone_ones(labels: NDArray[np.int64], parts: int) -> None:
    folds = [held_out_fold(labels, part, parts) for part in range(1, parts + 1)]
    several = np.flatnonzero(np.bincount(labels)[labels] > 1)
    np.testing.assert_array_equal(np.sort(np.concatenate(folds)), several)
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    for fold in folds:
        kept = np.delete(labels, fold)
        assert set(kept.tolist()) == set(labels.tolist())
        counts = np.bincount(labels[fold], minlength=7)
        assert np.all(abs(counts - np.bincount(labels[several], minlength=7) / parts) < 1.0 + 1e-9)


def test_checkpoints_of_before_keep_their_samples() -> None:
    labels = np.arange(40) % 3
    assert held_out_share(labels, 0.1, "random").tolist() == OLD
    assert held_out_share(labels[::-1].copy(), 0.1, "random").tolist() == OLD  # whatever the labels


@pytest.mark.parametrize("order", [1, -1])
def test_the_choice_depends_on_labels_alone(order: int) -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])[::order]
    first = held_out_share(labels, 0.2, "stratified")
    np.testing.assert_array_equal(first, held_out_share(labels.copy(), 0.2, "stratified"))
    assert np.bincount(labels[first]).tolist() == [10, 6, 4]
