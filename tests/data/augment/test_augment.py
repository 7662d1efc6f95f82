"""Augmentation as a pure function of (seed, epoch, index); each of its transforms has a test file of its own."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from cnnpar.config.resolve import resolve
from cnnpar.config.sections import Augment, Train
from cnnpar.data.augment.augmenter import Augmenter, check_augment
from cnnpar.data.augment.geometry import random_offsets
from cnnpar.data.augment.mixup import Targets
from cnnpar.errors import InputError
from cnnpar.parallel.work import Kind, Step
from cnnpar.storage.checkpoint import decode
from tests.helpers import tiny_runs
from tests.helpers.checkpoints import file_of, tree
from tests.helpers.made_runs import LAYERS, made_run

MEAN = (120.4, 40.6, 99.5)
EVERYTHING = Augment(
    ratio=4, shift=1, rotation=20, scale=0.1, shear=0.2, elastic_alpha=8, elastic_sigma=2, flip=True, brightness=0.3,
    contrast=0.3, saturation=0.3, cutout=2, mixup=0.4,
)  # fmt: skip
WARPS = "rotation", "scale", "shear", "elastic_alpha"
WAYS = [name for name in Augment.__struct_fields__ if name not in ("ratio", "elastic_sigma", "plain_epochs")]

VARIANTS = [(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0)]  # (down, right)


def samples(count: int, height: int = 6, width: int = 5, channels: int = 3) -> tuple[Any, Any]:
    rng = np.random.default_rng(count)
    images = rng.integers(1, 256, (count, height, width, channels), dtype=np.uint8)
    return images, np.arange(count, dtype=np.int64) * 10


def only(*names: str) -> Augment:
    """Return the settings of EVERYTHING for these augmentations, with all others off."""
    return Augment(**{name: getattr(EVERYTHING, name) for name in names}, elastic_sigma=2)


def moved(image: NDArray[np.uint8], down: int, right: int) -> Any:
    return ndimage.shift(image, (down, right, 0), order=0, mode="constant", cval=0)


def test_ratio_4_shows_each_image_and_its_four_one_pixel_shifts() -> None:
    images, labels = samples(7)
    augmenter = Augmenter(Augment(ratio=4), Train(seed=0), mean=MEAN)
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


def test_samples_are_unchanged_without_augmentation() -> None:
    images, labels = samples(9)
    indices = np.array([8, 0, 3, 3])
    augmenter = Augmenter(Augment(), Train(seed=1), mean=MEAN)
    assert augmenter.epoch_size(9) == 9
    taken, taken_labels = augmenter.take(images, labels, indices, epoch=0)
    assert np.array_equal(taken, images[indices])
    assert np.array_equal(taken_labels, labels[indices])


@pytest.mark.parametrize("ratio", [1, 4])
@pytest.mark.parametrize("shift", [0, 2, 100])
def test_grouping_of_indices_leaves_each_sample_unchanged(ratio: Literal[1, 4], shift: int) -> None:
    images, labels = samples(11)
    augmenter = Augmenter(Augment(ratio=ratio, shift=shift), Train(seed=5), mean=MEAN)
    everything = np.random.default_rng(0).permutation(augmenter.epoch_size(11))
    whole, whole_labels = augmenter.take(images, labels, everything, epoch=2)
    for start in range(0, len(everything), 4):
        part, part_labels = augmenter.take(images, labels, everything[start : start + 4], epoch=2)
        assert np.array_equal(part, whole[start : start + 4])
        assert np.array_equal(part_labels, whole_labels[start : start + 4])
    assert whole.dtype == np.uint8


def test_augmentation_writes_to_fresh_arrays_only() -> None:
    images, labels = samples(5)
    images.flags.writeable = labels.flags.writeable = False  # as workers see them in shared memory
    for augment in (Augment(), Augment(ratio=4, shift=1), *map(only, WAYS)):
        taken, taken_labels = Augmenter(augment, Train(seed=0), mean=MEAN).take(images, labels, np.arange(5), epoch=0)
        for array in (taken, *(taken_labels if isinstance(taken_labels, Targets) else [taken_labels])):
            array[...] = 0  # fresh arrays, not views


def test_random_shifts_add_to_the_shifts_of_the_ratio() -> None:
    images, labels = samples(6)
    taken, _ = Augmenter(Augment(ratio=4, shift=1), Train(seed=3), mean=MEAN).take(
        images, labels, np.arange(30), epoch=4
    )
    offsets = random_offsets(3, 4, 30, 1)
    for index in range(30):
        down, right = offsets[index] + VARIANTS[index // 6]
        assert np.array_equal(taken[index], moved(images[index % 6], down, right))


@given(st.sets(st.sampled_from(WAYS)), st.lists(st.integers(0, 54), min_size=1, max_size=20), st.integers(1, 19))
def test_sample_does_not_depend_on_the_others_in_its_batch(names: set[str], indices: list[int], cut: int) -> None:
    images, labels = samples(11)
    augmenter = Augmenter(msgspec.structs.replace(only(*names), ratio=4), Train(seed=5), mean=MEAN)
    whole, labelled = augmenter.take(images, labels, np.array(indices), epoch=2)
    for part in (slice(cut), slice(cut, None)):
        taken, targets = augmenter.take(images, labels, np.array(indices[part], np.int64), epoch=2)
        assert taken.tobytes() == whole[part].tobytes()
        for one, other in zip(np.atleast_2d(targets), np.atleast_2d(labelled), strict=True):
            assert one.tobytes() == other[part].tobytes()


@pytest.mark.parametrize("name", sorted({*WAYS} - {"mixup"}))
def test_each_augmentation_differs_by_seed_epoch_and_sample(name: str) -> None:
    images, labels = samples(1)
    images, labels = np.repeat(images, 20, axis=0), np.repeat(labels, 20)
    indices = np.arange(20)
    taken, _ = Augmenter(only(name), Train(seed=0), MEAN).take(images, labels, indices, epoch=0)
    assert len({image.tobytes() for image in taken}) > (1 if name == "flip" else 5)
    for seed, epoch in ((1, 0), (0, 1)):
        others, _ = Augmenter(only(name), Train(seed=seed), MEAN).take(images, labels, indices, epoch)
        assert not np.array_equal(taken, others)


@pytest.mark.parametrize("name", WAYS)
def test_draws_of_an_augmentation_do_not_depend_on_the_others(name: str) -> None:
    """The others are on, but too weak to change a pixel."""
    weak = dict.fromkeys((*WARPS, "brightness", "contrast", "saturation"), 1e-6)
    among = Augment(**{**weak, name: getattr(EVERYTHING, name)}, elastic_sigma=2)
    images, labels = samples(9)
    alone, _ = Augmenter(only(name), Train(seed=3), MEAN).take(images, labels, np.arange(9), epoch=1)
    together, _ = Augmenter(among, Train(seed=3), MEAN).take(images, labels, np.arange(9), epoch=1)
    assert np.abs(alone.astype(float) - together).max() <= (name in WARPS)  # there, halves are rounded either way


def test_shift_combined_with_rotation_is_the_same_in_pixels() -> None:
    images, labels = samples(30)
    plain = Augment(shift=2, flip=True)
    expected, _ = Augmenter(plain, Train(seed=4), MEAN).take(images, labels, np.arange(30), epoch=0)
    hardly = msgspec.structs.replace(plain, rotation=1e-9)
    found, _ = Augmenter(hardly, Train(seed=4), MEAN).take(images, labels, np.arange(30), epoch=0)
    assert np.array_equal(found, expected)


def test_flip_mirrors_about_half_of_the_images() -> None:
    images, labels = samples(400)
    taken, _ = Augmenter(Augment(flip=True), Train(seed=0), MEAN).take(images, labels, np.arange(400), epoch=0)
    mirrored = (taken == np.flip(images, axis=2)).all(axis=(1, 2, 3))
    assert np.array_equal(taken[~mirrored], images[~mirrored])
    assert 150 < mirrored.sum() < 250


def test_cutout_fills_with_the_mean() -> None:
    images, labels = samples(50)
    taken, _ = Augmenter(Augment(cutout=4), Train(seed=0), MEAN).take(images, labels, np.arange(50), epoch=0)
    changed = (taken != images).any(axis=3)
    assert np.unique(taken[changed], axis=0).tolist() == [[120, 41, 100]]


def test_plain_epochs_at_the_end_only_flip_and_shift() -> None:
    images, labels = samples(11)
    augmenter = Augmenter(msgspec.structs.replace(EVERYTHING, plain_epochs=2), Train(epochs=5, seed=6), MEAN)
    indices = np.random.default_rng(0).permutation(55)
    for epoch in range(5):
        like = only("ratio", "shift", "flip") if epoch >= 3 else EVERYTHING
        taken, targets = augmenter.take(images, labels, indices, epoch)
        expected, labelled = Augmenter(like, Train(seed=6), MEAN).take(images, labels, indices, epoch)
        assert np.array_equal(taken, expected)
        assert taken.dtype == expected.dtype
        assert np.array_equal(targets, labelled)


def test_plain_epochs_beyond_the_epochs_are_all_of_them() -> None:
    images, labels = samples(5)
    augmenter = Augmenter(Augment(rotation=20, plain_epochs=9), Train(epochs=3), MEAN)
    for epoch in range(3):
        assert np.array_equal(augmenter.take(images, labels, np.arange(5), epoch)[0], images)


def test_saturation_of_grey_images_is_refused_before_the_start(tmp_path: Path) -> None:
    csv = tiny_runs.write_csv(tmp_path / "train.csv")
    with pytest.raises(InputError, match=r"^augment\.saturation: is for images of 3 channels, and these have 1"):
        tiny_runs.train(tiny_runs.settings(csv, augment={"saturation": 0.2}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("augment", "shape", "words"),
    [
        ({"shift": 8}, (8, 8, 1), r"^augment\.shift: 8 pixels move an image of 8 x 8 out of sight"),
        ({"shift": 5}, (9, 5, 3), r"^augment\.shift: 5 pixels move an image of 9 x 5 out of sight"),
        ({"cutout": 10}, (9, 5, 3), r"^augment\.cutout: a square of 10 pixels is larger than an image of 9 x 5"),
        ({"shift": 2**53}, (8, 8, 1), r"^augment\.shift: 9,007,199,254,740,992 pixels"),
        ({"shift": 4, "cutout": 9}, (9, 5, 3), ""),
    ],
)
def test_shifts_and_cutouts_beyond_the_image_are_refused(
    augment: dict[str, int], shape: tuple[int, int, int], words: str
) -> None:
    with pytest.raises(InputError, match=words) if words else nullcontext():
        check_augment(Augment(**augment), shape)  # type: ignore[arg-type]


@pytest.mark.slow
def test_run_on_augmented_images_is_reproducible(tmp_path: Path) -> None:
    ways = {"rotation": 10.0, "elastic_alpha": 5.0, "contrast": 0.2, "cutout": 2}
    wanted = tiny_runs.settings(tiny_runs.write_csv(tmp_path / "train.csv"), augment=ways)
    assert (
        tiny_runs.train(wanted, tmp_path / "run").weights_sha256
        == tiny_runs.train(wanted, tmp_path / "again").weights_sha256
    )


def test_mixup_gives_normalised_images_and_soft_targets() -> None:
    tables = {"augment": {"mixup": 0.4}, "model": {"layers": LAYERS}, "train": {"microbatch": 8}}
    _, work, data = made_run(settings=resolve(tables))
    images, targets = work.with_data(data).prepare(Step(Kind.TRAIN, 0, 0), 1)
    assert isinstance(targets, Targets)
    assert images.dtype == np.float32
    assert len(images) == len(targets.shares) == 8
    assert abs(images.mean()) < 0.1
    _, labels = work.with_data(data).prepare(Step(Kind.TEST, 0, 0), 1)
    assert np.array_equal(labels, data[Kind.TEST].labels[8:16])


def test_older_checkpoint_is_read_with_newer_augmentation_off() -> None:
    old = tree()
    old["config"]["augment"] = {"ratio": 4, "shift": 2}
    assert decode(file_of(old), "").config.augment == Augment(ratio=4, shift=2)
