"""Shifts against scipy, and augmentation as a pure function of (seed, epoch, index)."""

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from cnnpar.config import Augment
from cnnpar.data.augment import Augmenter, _random_offsets, _shifted

VARIANTS = [(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0)]  # (down, right)


def samples(count: int, height: int = 6, width: int = 5, channels: int = 2) -> tuple[Any, Any]:
    rng = np.random.default_rng(count)
    images = rng.integers(1, 256, (count, height, width, channels), dtype=np.uint8)
    return images, np.arange(count, dtype=np.int64) * 10


def moved(image: NDArray[np.uint8], down: int, right: int) -> Any:
    return ndimage.shift(image, (down, right, 0), order=0, mode="constant", cval=0)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_shifts_agree_with_scipy(data: st.DataObject) -> None:
    height, width, channels = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3)))
    offsets = np.array(data.draw(st.lists(st.tuples(st.integers(-8, 8), st.integers(-8, 8)), min_size=1, max_size=5)))
    images, _ = samples(len(offsets), height, width, channels)
    expected = [moved(image, *offset) for image, offset in zip(images, offsets, strict=True)]
    assert np.array_equal(_shifted(images, offsets), expected)


def test_ratio_4_shows_each_image_and_its_four_one_pixel_shifts() -> None:
    images, labels = samples(7)
    augmenter = Augmenter(Augment(ratio=4), seed=0)
    assert augmenter.epoch_size(7) == 35
    taken, taken_labels = augmenter.take(images, labels, np.arange(35), epoch=3)
    shown = {(int(label), image.tobytes()) for image, label in zip(taken, taken_labels, strict=True)}
    expected = {
        (int(label), moved(image, *variant).tobytes())
        for image, label in zip(images, labels, strict=True)
        for variant in VARIANTS
    }
    assert len(expected) == 35
    assert shown == expected


def test_without_augmentation_samples_come_as_they_are() -> None:
    images, labels = samples(9)
    indices = np.array([8, 0, 3, 3])
    augmenter = Augmenter(Augment(), seed=1)
    assert augmenter.epoch_size(9) == 9
    taken, taken_labels = augmenter.take(images, labels, indices, epoch=0)
    assert np.array_equal(taken, images[indices])
    assert np.array_equal(taken_labels, labels[indices])


@pytest.mark.parametrize("ratio", [1, 4])
@pytest.mark.parametrize("shift", [0, 2, 100])
def test_how_indices_are_grouped_leaves_each_sample_unchanged(ratio: Literal[1, 4], shift: int) -> None:
    images, labels = samples(11)
    augmenter = Augmenter(Augment(ratio=ratio, shift=shift), seed=5)
    everything = np.random.default_rng(0).permutation(augmenter.epoch_size(11))
    whole, whole_labels = augmenter.take(images, labels, everything, epoch=2)
    for start in range(0, len(everything), 4):
        part, part_labels = augmenter.take(images, labels, everything[start : start + 4], epoch=2)
        assert np.array_equal(part, whole[start : start + 4])
        assert np.array_equal(part_labels, whole_labels[start : start + 4])
    assert whole.dtype == np.uint8


def test_the_data_set_is_left_as_it_was() -> None:
    images, labels = samples(5)
    images.flags.writeable = labels.flags.writeable = False  # as workers see them in shared memory
    for augment in (Augment(), Augment(ratio=4, shift=1)):
        taken, taken_labels = Augmenter(augment, seed=0).take(images, labels, np.arange(5), epoch=0)
        taken[...] = 0  # fresh arrays, not views
        taken_labels[...] = 0


def test_random_shifts_are_drawn_for_each_seed_epoch_and_sample() -> None:
    first = _random_offsets(1, 1, 400, 2)
    assert set(map(tuple, first.tolist())) == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}
    assert not np.array_equal(first, _random_offsets(2, 1, 400, 2))
    assert not np.array_equal(first, _random_offsets(1, 2, 400, 2))
    assert np.array_equal(first[:100], _random_offsets(1, 1, 100, 2))


def test_random_shifts_add_to_the_shifts_of_the_ratio() -> None:
    images, labels = samples(6)
    taken, _ = Augmenter(Augment(ratio=4, shift=1), seed=3).take(images, labels, np.arange(30), epoch=4)
    offsets = _random_offsets(3, 4, 30, 1)
    for index in range(30):
        down, right = offsets[index] + VARIANTS[index // 6]
        assert np.array_equal(taken[index], moved(images[index % 6], down, right))


def test_random_shifts_of_a_seed_never_change() -> None:
    assert _random_offsets(0, 0, 3, 2).tolist() == [[1, -2], [-2, -1], [0, 2]]
