"""Batches: every sample once an epoch, in an order that is a function of (seed, epoch) alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnpar import rng
from cnnpar.config.resolve import resolve
from cnnpar.data import batches
from cnnpar.data.batches import batch_indices, steps_per_epoch
from cnnpar.parallel.work import Kind, Step
from tests.helpers.made_runs import LAYERS, made_run

sizes = st.integers(1, 300)
batch_sizes = st.integers(1, 400)
seeds = st.integers(0, 2**53)
epochs = st.integers(0, 2**40)


@given(seeds, epochs, sizes, batch_sizes)
@settings(deadline=None)
def test_an_epoch_holds_every_sample_exactly_once(seed: int, epoch: int, samples: int, batch_size: int) -> None:
    steps = steps_per_epoch(samples, batch_size)
    parts = [batch_indices(seed, epoch, step, samples, batch_size) for step in range(steps)]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(samples))
    assert all(len(part) == batch_size for part in parts[:-1])
    assert 0 < len(parts[-1]) <= batch_size
    assert all(part.dtype == np.int64 for part in parts)


@given(seeds, st.data())
@settings(max_examples=30, deadline=None)
def test_batches_do_not_depend_on_the_order_of_calls(seed: int, data: st.DataObject) -> None:
    places = [(epoch, step) for epoch in range(4) for step in range(steps_per_epoch(23, 5))]
    batches._order.cache_clear()
    asked_in_order = {place: batch_indices(seed, *place, 23, 5).tolist() for place in places}
    batches._order.cache_clear()
    for place in data.draw(st.permutations(places)):
        assert batch_indices(seed, *place, 23, 5).tolist() == asked_in_order[place]


def test_order_differs_by_seed_and_epoch() -> None:
    orders = {tuple(batch_indices(seed, epoch, 0, 50, 50).tolist()) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_batch_size_leaves_the_order_of_samples_unchanged() -> None:
    whole = batch_indices(7, 3, 0, 100, 100)
    assert np.array_equal(np.concatenate([batch_indices(7, 3, step, 100, 32) for step in range(4)]), whole)


@pytest.mark.parametrize("step", [-1, 4, 1000])
def test_step_outside_the_epoch_is_refused(step: int) -> None:
    with pytest.raises(ValueError, match="outside an epoch of 4 steps"):
        batch_indices(0, 0, step, 100, 32)


def test_batch_indices_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        batch_indices(0, 0, 0, 10, 5)[0] = 3


def test_random_words_are_philox_at_the_stated_key_and_counter() -> None:
    philox = np.random.Philox(key=np.array([5, 2], dtype=np.uint64), counter=[0, 0, 0, 9])
    assert np.array_equal(rng.random_words(5, 2, 9, 20), philox.random_raw(20))
    own = rng.words_of_samples(5, 2, 9, np.array([7, 2**40, 7]), 21)
    for words, sample in zip(own, (7, 2**40, 7), strict=True):
        philox = np.random.Philox(key=np.array([5, 2], dtype=np.uint64), counter=[0, 0, sample, 9])
        assert np.array_equal(words, philox.random_raw(21))


def test_order_of_a_seed_is_the_same_in_every_version() -> None:
    """Literal values: a run that an older version began must resume with the same samples."""
    assert batch_indices(0, 0, 0, 10, 10).tolist() == [5, 3, 7, 8, 2, 4, 1, 0, 6, 9]
    assert batch_indices(42, 7, 1, 10, 5).tolist() == [1, 0, 4, 8, 7]


@given(st.integers(0, 10**6), st.integers(1, 10**4))
@settings(deadline=None)
def test_steps_per_epoch_is_samples_over_batch_size_rounded_up(samples: int, batch_size: int) -> None:
    steps = steps_per_epoch(samples, batch_size)
    assert steps * batch_size >= samples > (steps - 1) * batch_size or samples == steps == 0


def test_position_of_a_sample_is_uniform_over_epochs() -> None:
    """A chi-squared test of where sample 0 lands in 2,000 epochs; 29.9 is exceeded by chance once in 10,000."""
    counts = np.bincount([batch_indices(1, epoch, 0, 8, 8).tolist().index(0) for epoch in range(2000)], minlength=8)
    assert ((counts - 250) ** 2 / 250).sum() < 29.9


@pytest.mark.parametrize(
    ("samples", "batch", "microbatch", "smallest"),
    [(64, 16, 4, 4), (64, 16, 1, 1), (64, 1, 4, 1), (64, 10, 4, 2), (64, 9, 4, 1), (65, 16, 4, 1), (3, 16, 4, 3)],
)
def test_smallest_microbatch_is_that_of_all_steps(samples: int, batch: int, microbatch: int, smallest: int) -> None:
    tables = {"model": {"layers": LAYERS}, "train": {"batch_size": batch, "microbatch": microbatch}}
    _, work, data = made_run(samples, resolve(tables))
    work = work.with_data(data)
    steps = [Step(Kind.TRAIN, 0, number) for number in range(work.steps_per_epoch)]
    sizes = [len(work.prepare(step, part)[1]) for step in steps for part in range(work.microbatches(step))]
    assert work.smallest_microbatch == min(sizes) == smallest
