"""Balanced epochs: classes, and samples of a class, equally often; the same for any number of workers."""

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from cnnpar import rng
from cnnpar.config.resolve import resolve
from cnnpar.config.sections import Augment, Config, Train
from cnnpar.data.augment.augmenter import Augmenter
from cnnpar.data.balance import Balance, balanced
from cnnpar.errors import InputError
from cnnpar.parallel.work import Kind, Step
from tests.helpers import tiny_runs
from tests.helpers.made_runs import LAYERS, in_process, made_run, trained
from tests.helpers.observers import Stopping
from tests.helpers.random_workers import RandomWorkers, served
from tests.helpers.run_files import assert_same_run

Labels = NDArray[np.int64]
seeds = st.integers(0, 2**53)
epochs = st.integers(0, 2**40)
copies = st.sampled_from([1, 5])
label_lists = st.integers(1, 60).flatmap(lambda count: arrays.arrays(np.int64, count, elements=st.integers(0, 9)))


def rare_third_class() -> Labels:
    return np.array([0] * 40 + [1] * 17 + [2] * 3)


@given(seeds, epochs, label_lists, copies)
def test_balanced_epoch_shows_classes_and_samples_equally_often(
    seed: int, epoch: int, labels: Labels, copies: int
) -> None:
    size = copies * len(labels)
    shown = balanced(seed, epoch, labels, size)
    assert shown.shape == (size,)
    times = np.bincount(shown, minlength=size)
    assert len(times) == size
    by_class = [times[np.tile(labels, copies) == label] for label in set(labels.tolist())]
    totals = [part.sum() for part in by_class]
    assert max(totals) - min(totals) <= 1
    assert all(part.max() - part.min() <= 1 for part in by_class)


def test_balanced_epoch_agrees_with_its_definition_by_loops() -> None:
    labels, size = np.array([4, 0, 0, 4, 0, 0, 0, 2]), 40
    for epoch in range(20):
        words = rng.random_words(3, rng.BALANCE, epoch, 5 + size).tolist()
        lots, words = words[:5], words[5:]
        first = min((0, 2, 4), key=lambda label: lots[label])  # 40 places are 13 for each class, and one more
        expected: list[int] = []
        for label in (0, 2, 4):
            own = sorted((i for i in range(size) if labels[i % 8] == label), key=lambda i: words[i])
            expected += [own[place % len(own)] for place in range(13 + (label == first))]
        assert balanced(3, epoch, labels, size).tolist() == expected


def test_remainder_of_an_epoch_falls_on_all_classes_alike() -> None:
    labels = np.array([0] * 9 + [1] * 2)
    more = Counter(int(np.bincount(labels[balanced(0, epoch, labels, 11)]).argmax()) for epoch in range(400))
    assert min(more.values()) > 150


def test_balanced_order_differs_by_seed_and_epoch_and_is_stable() -> None:
    labels = rare_third_class()
    epochs = {tuple(balanced(seed, epoch, labels, 60)) for seed in range(4) for epoch in range(4)}
    assert len(epochs) == 16
    assert balanced(1, 2, np.array([0, 0, 0, 0, 1]), 5).tolist() == [0, 3, 1, 4, 4]  # written down once
    seen = {sample for epoch in range(20) for sample in balanced(0, epoch, labels, 60)}
    assert seen == set(range(60))


def test_balance_keeps_two_epochs_and_returns_the_same_order() -> None:
    balance = Balance(5, rare_third_class(), 60)
    for epoch in (0, 1, 0, 2, 3, 1, 0):
        np.testing.assert_array_equal(balance[epoch], balanced(5, epoch, rare_third_class(), 60))
    assert len(balance._kept) == 2


def test_image_shown_twice_is_augmented_differently_each_time() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), np.uint8)
    augmenter = Augmenter(Augment(rotation=20.0, mixup=0.0), Train(seed=0), (0.0,))
    taken, labels = augmenter.take(images, np.array([3, 7]), np.array([0, 1]), 0, np.array([1, 1]))
    assert np.array_equal(labels, [7, 7])
    assert not np.array_equal(*taken)
    alone, _ = augmenter.take(images, np.array([3, 7]), np.array([1]), 0)
    np.testing.assert_array_equal(taken[1:], alone)


def wanted(**augment: Any) -> Config:
    return resolve(
        {
            "data": {"balance": True},
            "model": {"layers": LAYERS},
            "augment": augment,
            "train": {"epochs": 2, "batch_size": 50, "microbatch": 8, "seed": 7},
        }
    )


def test_worker_count_leaves_weights_of_balanced_runs_unchanged() -> None:
    settings = wanted(ratio=4, shift=1, flip=True, mixup=0.4)
    _, work, data = made_run(settings=settings)
    alone = trained(settings, work, in_process(work, data)).digest
    for workers in (1, 3, 5):
        server = served(RandomWorkers(work, data, Random(workers)), workers)
        assert trained(settings, work, server).digest == alone
    plain = resolve({"model": {"layers": LAYERS}, "train": {"epochs": 2, "batch_size": 50, "microbatch": 8, "seed": 7}})
    _, work, data = made_run(settings=plain)
    assert trained(plain, work, in_process(work, data)).digest != alone


@pytest.mark.parametrize("ratio", [1, 4])
def test_balanced_microbatches_hold_every_class_equally_often(ratio: int) -> None:
    _, work, data = made_run(settings=wanted(ratio=ratio))
    whole = data[Kind.TRAIN]
    rare = whole.subset(np.concatenate([np.flatnonzero(whole.labels != 2), np.flatnonzero(whole.labels == 2)[:3]]))
    work = type(work)(
        work.network, work.preprocessing, work.augment, work.train, {Kind.TRAIN: len(rare)}, True, {Kind.TRAIN: rare}
    )
    assert work.epoch_samples == len(rare) * (5 if ratio == 4 else 1)
    counts = np.zeros(3, int)
    for number in range(work.steps_per_epoch):
        step = Step(Kind.TRAIN, 1, number)
        for microbatch in range(work.microbatches(step)):
            labels = work.prepare(step, microbatch)[1]
            assert isinstance(labels, np.ndarray)
            counts += np.bincount(labels, minlength=3)
    assert counts.sum() == work.epoch_samples
    assert counts.max() - counts.min() <= 1


def test_balanced_run_resumes_exactly_and_only_with_balance_on(tmp_path: Path) -> None:
    csv = tiny_runs.write_csv(tmp_path / "train.csv")
    settings = tiny_runs.settings(csv, data={"balance": True})
    tiny_runs.train(settings, tmp_path / "whole")
    tiny_runs.train(settings, tmp_path / "cut", progress=Stopping(7))
    model = tmp_path / "cut" / "model.json"
    with pytest.raises(InputError, match=r"data\.balance was True and is now False"):
        tiny_runs.train(tiny_runs.settings(csv), None, model)
    tiny_runs.train(settings, None, model)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
