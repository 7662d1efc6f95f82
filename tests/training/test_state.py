"""The state of a run: its counters, its best epoch, its digest."""

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cnnpar.nn.sums import NOTHING, Sums
from cnnpar.training.state import weights_digest
from tests.helpers.made_runs import fresh

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
vectors = arrays.arrays(np.float32, st.integers(0, 40), elements=finite)


@given(vectors, vectors)
def test_digest_is_sha256_of_little_endian_float32_weights(parameters: np.ndarray, buffers: np.ndarray) -> None:
    numbers = [*parameters.tolist(), *buffers.tolist()]
    expected = hashlib.sha256(struct.pack(f"<{len(numbers)}f", *numbers)).hexdigest()
    assert weights_digest(np.concatenate([parameters, buffers])) == expected


def test_the_digest_does_not_depend_on_byte_order_or_stride() -> None:
    weights = np.arange(6, dtype=np.float32)
    spread = np.repeat(weights, 2)[::2]
    assert weights_digest(weights.astype(">f4")) == weights_digest(spread) == weights_digest(weights)


def test_the_digest_differs_between_zero_and_minus_zero() -> None:
    assert weights_digest(np.zeros(1, np.float32)) != weights_digest(-np.zeros(1, np.float32))


def test_an_epoch_record_holds_means_over_all_its_samples() -> None:
    state = fresh()
    state.advance(Sums(3.0, 1, 2), 1.0)
    state.advance(Sums(1.0, 3, 6), 3.0)
    assert (state.index, state.step, state.samples, state.sums) == (2, 2, 8, Sums(4.0, 4, 8))
    record = state.finish_epoch(Sums(2.0, 3, 4), 5.0)
    assert (record.epoch, record.train_loss, record.train_accuracy) == (1, 0.5, 0.5)
    assert (record.validation_loss, record.validation_accuracy, record.seconds) == (0.5, 0.75, 5.0)
    assert (state.epoch, state.index, state.step, state.samples, state.sums) == (1, 0, 2, 8, NOTHING)


def test_the_seconds_of_an_epoch_exclude_earlier_epochs() -> None:
    state = fresh()
    for end in (5.0, 7.0):
        state.advance(Sums(1.0, 1, 1), end - 1)
        state.finish_epoch(None, end)
    assert [record.seconds for record in state.history] == [5.0, 2.0]


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [([], None), ([None, None], None), ([0.0], 1), ([0.5, 0.75, 0.75], 2), ([0.5, None, 0.25], 1)],
)
def test_best_epoch_is_the_first_of_highest_accuracy(accuracies: list[float | None], best: int | None) -> None:
    state = fresh()
    for accuracy in accuracies:
        state.advance(Sums(1.0, 1, 1), 1.0)
        state.finish_epoch(None if accuracy is None else Sums(1.0, int(accuracy * 100), 100), 1.0)
    assert (state.best.epoch if state.best else None) == best
