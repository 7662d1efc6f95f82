"""The first lines of a run say what its data were taken for, rightly and in one short line."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cnnpar.config.data import Data
from cnnpar.data.dataset import Pixels
from cnnpar.data.load import load_splits
from cnnpar.data.readers.files import Part, RawSamples, numbered

KINGDOM = "Animalia_Chordata_Mammalia_Carnivora_Felidae"


def understood(names: list[str], shape: tuple[int, ...] = (6, 5, 1), dtype: str = "uint8", found: str = "") -> str:
    """Return what is said of two samples of each class."""
    labels = np.arange(2 * len(names)) % len(names)
    rng = np.random.default_rng(0)
    images: NDArray[np.uint8] = rng.integers(0, 256, (len(labels), *shape), np.uint8)
    images.reshape(len(images), -1)[:, :2] = 0, 255
    pixels: Pixels = images
    if dtype == "float32":
        pixels = (images / 255).astype(np.float32)
    elif dtype == "uint16":
        pixels = images.astype(np.uint16) * 257
    given: dict[Part, RawSamples] = {
        "train": RawSamples(pixels, labels.astype(np.int64), numbered, tuple(names), understood=found)
    }
    return load_splits(Data(name="given"), given=given).understood


@pytest.mark.parametrize(
    ("names", "rest", "expected"),
    [
        (["0", "1"], {}, "2 classes (0, 1), 6 x 5 grey"),
        (["only"], {}, "1 class (only), 6 x 5 grey"),
        ([f"{n}" for n in range(10)], {"shape": (28, 28, 1)}, "10 classes (0 ... 9), 28 x 28 grey"),
        ([f"{n}" for n in range(1000)], {}, "1,000 classes (0 ... 999), 6 x 5 grey"),
        (["cat", "dog", "eel", "owl"], {"shape": (8, 9, 3)}, "4 classes (cat, dog, eel, owl), 8 x 9 colour"),
        (["cat", "dog"], {"shape": (8, 9, 4)}, "2 classes (cat, dog), 8 x 9 of 4 channels"),
        (["cat", "dog"], {"dtype": "uint16"}, "2 classes (cat, dog), 6 x 5 grey, 16-bit"),
        (["cat", "dog"], {"dtype": "float32"}, "2 classes (cat, dog), 6 x 5 grey, float32 from 0 to 1"),
        (["a", "b"], {"found": "label in column 785 'c'"}, "2 classes (a, b), 6 x 5 grey, label in column 785 'c'"),
        (
            [f"{KINGDOM}_{n}" for n in range(8)],
            {"shape": (224, 224, 3)},
            "8 classes (Animalia_Chorda... ... Animalia_Chorda...), 224 x 224 colour",
        ),
        ([f"{KINGDOM}_{n}" for n in "ab"], {}, "2 classes (Animalia_Chorda..., Animalia_Chorda...), 6 x 5 grey"),
        (["a\tb", "c"], {}, "2 classes (a b, c), 6 x 5 grey"),
    ],
)
def test_what_data_were_taken_for_is_one_short_line(names: list[str], rest: dict[str, Any], expected: str) -> None:
    assert understood(names, **rest) == expected
    assert len(expected) <= 80


def test_the_digits_are_taken_for_what_they_are() -> None:
    assert load_splits(Data()).understood == "10 classes (0 ... 9), 8 x 8 grey"


def test_a_fold_leaves_the_test_data_as_they_are() -> None:
    whole = load_splits(Data())
    folds = [load_splits(Data(fold=f"{part}/5")) for part in range(1, 6)]
    assert whole.test is not None
    held = []
    for fold in folds:
        assert fold.test is not None
        assert fold.validation is not None
        assert (fold.test.images == whole.test.images).all()
        assert len(fold.train) + len(fold.validation) == 1438
        held += [image.tobytes() for image in fold.validation.images]
        assert not {image.tobytes() for image in fold.train.images} & set(held[-len(fold.validation) :])
    assert len(held) == len(set(held)) == 1438  # each picture of the digits is another one
    assert len({fold.fingerprint for fold in folds}) == 5


def test_a_fold_says_that_own_validation_samples_are_unused() -> None:
    rng = np.random.default_rng(0)
    raw = RawSamples(rng.integers(0, 256, (30, 4, 4, 1), np.uint8), np.arange(30) % 3, numbered)
    given: dict[Part, RawSamples] = {"train": replace(raw, other_parts=frozenset(["validation"])), "validation": raw}
    assert load_splits(Data(name="given", fold="1/3"), given=given).notes == (
        "data: data.fold takes a part of the training samples; those for validation are not used",
    )
