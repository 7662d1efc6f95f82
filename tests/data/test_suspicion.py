"""Suspicious data are noted, each fault in a line of its own; usual data are quiet."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnnpar.config.data import Data
from cnnpar.data import duplicates
from cnnpar.data.dataset import Dataset, Pixels
from cnnpar.data.duplicates import first_alike
from cnnpar.data.load import load_splits
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.data.suspicion import suspicions, suspicions_of_test
from tests.helpers.commands import call
from tests.helpers.made_runs import made_data
from tests.helpers.tiny_runs import LAYERS, write_csv

TRAIN, VALIDATION, TEST = made_data(600), made_data(60, 1), made_data(90, 2)


def notes(train: Dataset = TRAIN, validation: Dataset | None = VALIDATION, test: Dataset | None = TEST) -> list[str]:
    """Return the notes, after checking that each is a line of its own."""
    found = list(suspicions(train, validation, test))
    assert not [note for note in found if "\n" in note]
    return found


def changed(part: Dataset, images: Pixels) -> Dataset:
    return replace(part, images=images)


def labelled(part: Dataset, labels: NDArray[np.int64], *names: str) -> Dataset:
    return Dataset(part.images, labels.astype(np.int64), names)


def natural(samples: int, seed: int) -> Pixels:
    """Return colour pictures as photographs are: smooth, of every brightness, some of them much brighter."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(120, 60, (samples, 4, 4, 3)) + rng.normal(0, 40, (samples, 1, 1, 3))
    return np.clip(coarse.repeat(8, axis=1).repeat(8, axis=2), 0, 255).astype(np.uint8)


def test_usual_data_are_quiet() -> None:
    assert not notes()
    assert not load_splits(Data()).notes
    labels = np.arange(300)
    parts = [Dataset(natural(300, seed), labels % 10, tuple("abcdefghij")) for seed in range(3)]
    assert not notes(*parts)
    assert not notes(*(changed(part, part.images.astype(np.float32) / np.float32(255)) for part in parts))
    assert not notes(*(changed(part, part.images.astype(np.uint16) * np.uint16(257)) for part in parts))
    for image in range(20):  # a test set may be small
        one = Dataset(parts[2].images[image : image + 1], labels[:1], parts[2].class_names)
        assert not notes(parts[0], None, one)
        known = Preprocessing.of(parts[0])
        assert not list(suspicions_of_test(one, known.mean, known.std))


def test_a_single_class_is_noted() -> None:
    one = labelled(TRAIN, np.zeros(600, np.int64), "cat")
    assert notes(one, None, None) == ["there is only one class (cat), so every network is right; look at the labels"]


def test_classes_of_one_sample_are_named() -> None:
    labels = TRAIN.labels.copy()
    labels[5] = 3
    names = ("a", "b", "c", "bird")
    held = labelled(VALIDATION, VALIDATION.labels, *names)
    assert notes(labelled(TRAIN, labels, *names), held, None) == [
        "class bird has one sample, which is in training only"
    ]
    assert notes(labelled(TRAIN, labels, *names), None, None) == ["class bird has one sample"]
    labels[6:11] = range(4, 9)
    many = labelled(TRAIN, labels, *names, "4", "5", "6", "7", "8")
    assert notes(many, None, None) == ["6 of 9 classes have one sample each: bird, 4, 5, 6, ...; look at the labels"]


def test_a_class_of_nearly_all_samples_is_noted() -> None:
    labels = (np.arange(600) < 30).astype(np.int64)
    (note,) = notes(labelled(TRAIN, labels, "no", "yes"), None, None)
    assert note == "95.0% of the training samples are of class no; naming it always is as accurate"
    (note,) = notes(test=labelled(TEST, np.ones(90, np.int64), *TEST.class_names))
    assert note == "all 90 test samples are of class 1; an accuracy on them says little"


def test_copies_in_training_are_counted() -> None:
    images = TRAIN.images.copy()
    images[300:303] = images[0:3]
    assert not notes(changed(TRAIN, images))  # half of a per cent
    images[303:309] = images[3:9]
    assert notes(changed(TRAIN, images)) == ["9 pictures of 600 in training are copies of others there"]


def test_pictures_with_several_labels_are_counted() -> None:
    images = TRAIN.images.copy()
    images[1] = images[0]
    expected = "1 picture in training occurs with more than one label; look at the labels"
    assert notes(changed(TRAIN, images)) == [expected]
    images[2] = images[0]
    images[4] = images[3]
    expected = "2 pictures in training occur with more than one label; look at the labels"
    assert notes(changed(TRAIN, images)) == [expected]


def test_pictures_of_training_in_other_parts_are_counted() -> None:
    images, held = TEST.images.copy(), VALIDATION.images.copy()
    images[[3, 6]] = TRAIN.images[[0, 3]]
    held[9] = TRAIN.images[6]
    expected = [
        "1 picture of 60 for validation is in training, too, and is known by heart; that accuracy is too high",
        "2 pictures of 90 for test are in training, too, and are known by heart; that accuracy is too high",
    ]
    assert notes(validation=changed(VALIDATION, held), test=changed(TEST, images)) == expected
    assert notes(validation=None, test=changed(TEST, images)) == expected[1:]


def test_pictures_that_are_all_the_same_are_noted() -> None:
    flat = np.zeros_like(TRAIN.images) + np.arange(600, dtype=np.uint8)[:, None, None, None]
    (note,) = notes(changed(TRAIN, flat), None, None)
    assert note == "all 600 training pictures are blank, each of one colour"
    (note,) = notes(changed(TRAIN, np.zeros_like(TRAIN.images)))
    assert note == "all 600 training pictures are the same, so there is nothing to tell them apart by"
    (note,) = notes(test=changed(TEST, np.zeros_like(TEST.images)))
    assert note == "all 90 test pictures are the same, so there is nothing to tell them apart by"


def test_grey_that_was_rounded_away_is_noted() -> None:
    images = (TRAIN.images >= 128).astype(np.uint8)
    found = notes(changed(TRAIN, images), None, None)
    assert (
        found[0] == "all pixels are 0 or 1; if they were shares of 0 to 1 before, rounding has taken the grey from them"
    )


SCALES: dict[str, tuple[Callable[[Pixels], Pixels], str]] = {
    "0..1 against 0..255": (lambda x: (x / 255).astype(np.float32), "are far from the training's"),
    "-1..1 against 0..255": (lambda x: (x / 127.5 - 1).astype(np.float32), "have pixels below 0"),
    "eight bits of sixteen": (lambda x: (x * 257.0).astype(np.float32), "are far from the training's"),
    "negatives": (lambda x: 255 - x.astype(np.float32), "are negatives of the training's"),
}


@pytest.mark.parametrize("kind", SCALES)
def test_another_scale_of_the_test_data_is_noted(kind: str) -> None:
    change, words = SCALES[kind]
    train = changed(TRAIN, TRAIN.images.astype(np.float32))
    there = changed(TEST, change(TEST.images))
    (note,) = notes(train, None, there)
    assert words in note
    known = Preprocessing.of(train)
    if "negative" not in kind and "below" not in words:
        assert list(suspicions_of_test(there, known.mean, known.std)) == [note]
    (note,) = notes(changed(TRAIN, change(TRAIN.images)), None, changed(TEST, TEST.images.astype(np.float32)))
    assert words in note


def test_negatives_of_digits_are_noted() -> None:
    splits = load_splits(Data())
    assert splits.test is not None
    inverse = changed(splits.test, 255 - splits.test.images)
    for count in (20, 359):
        few = Dataset(inverse.images[:count], inverse.labels[:count], inverse.class_names)
        assert notes(splits.train, splits.validation, few) == [
            "the test pictures are negatives of the training's: black is white there; invert them"
        ]


@given(
    st.sampled_from([np.uint8, np.uint16, np.float32]),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    st.lists(st.integers(0, 3), min_size=1, max_size=30),
    st.integers(1, 8),
    st.integers(0, 30),
)
def test_first_alike_is_what_comparing_all_gives(
    dtype: type, shape: tuple[int, int, int], which: list[int], words: int, cut: int
) -> None:
    kinds: Pixels = np.random.default_rng(0).integers(0, 2, (4, *shape)).astype(dtype)
    images = kinds[which]
    rows = [image.tobytes() for image in images]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_WORDS", words)  # so that pictures are hashed in several pieces
        assert first_alike(images[:cut], images[cut:]).tolist() == [rows.index(row) for row in rows]


def test_different_pictures_are_told_apart() -> None:
    images = np.zeros((4096, 8, 8, 1), np.uint8)  # two bright pixels, which weak hashes mix up
    first, second = np.divmod(np.arange(4096), 64)
    flat = images.reshape(4096, 64)
    flat[np.arange(4096), first] = 128
    flat[np.arange(4096), second] += 128
    rows = [image.tobytes() for image in images]
    assert first_alike(images).tolist() == [rows.index(row) for row in rows]


def test_notes_reach_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train = write_csv(Path("train.csv"))
    Path("test.csv").write_text("".join(train.read_text().splitlines(keepends=True)[:1] * 12))
    model = f"--set=model.layers={json.dumps(LAYERS).replace(':', ' =')}"
    options = ["--train-data", "train.csv", "--workers", "0", model]
    leak = "12 pictures of 12 for test are in training, too, and are known by heart; that accuracy is too high"
    same = "all 12 test pictures are the same, so there is nothing to tell them apart by"
    lone = "all 12 test samples are of class 0; an accuracy on them says little"
    assert call("cnnpar-train", *options, "--test-data", "test.csv", "--epochs", 1, "--run-dir", "run", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["notes"] == [lone, leak, same]
    assert "\n".join([lone, leak, same]) in err
    assert call("cnnpar-test", "--from-path", "run", "--json") == 0
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if not line.startswith("testing on ")] == [lone, same]  # said on a busy machine
    one_class = "".join(line for line in train.read_text().splitlines(keepends=True) if line.startswith("0"))
    Path("train.csv").write_text(one_class)
    assert call("cnnpar", "lr-find", *options, "--steps", 20) == 0
    assert "there is only one class (0)" in capsys.readouterr().out
