"""Pixels of other types: what they become, and that training on them is the same arithmetic."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from cnnpar.config.sections import Augment, Train
from cnnpar.data.augment.augmenter import Augmenter
from cnnpar.data.dataset import Dataset
from cnnpar.data.pixels import as_pixels
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.errors import InputError

whole = hnp.arrays(np.uint8, (4, 2, 3, 1))


@given(whole, st.sampled_from(["int8", "uint16", "int64", "bool", "float64", "float32", ">u2"]))
@settings(deadline=None)
def test_no_pixel_changes_its_value(images: NDArray[np.uint8], dtype: str) -> None:
    given = images.astype(dtype)
    found = as_pixels(given, 1.0, "x")
    np.testing.assert_array_equal(found.astype(np.float64), given.astype(np.float64))
    assert found.dtype in (np.uint8, np.uint16, np.float32)


@given(whole, st.integers(3, 8))
@settings(deadline=None)
def test_a_scale_restores_pixels_that_were_divided(images: NDArray[np.uint8], decimals: int) -> None:
    divided = np.round(images / 255, decimals)
    restored = as_pixels(divided, 255.0, "x")
    assert restored.dtype == np.uint8
    np.testing.assert_array_equal(restored, images)


def test_a_scale_keeps_what_lies_between() -> None:
    found = as_pixels(np.array([[0.0, 0.5, 1.0]]), 3.0, "x")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([[0, 1.5, 3]], np.float32))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([[1.0], [np.nan]]), "sample 1 (counted from 0) has a pixel of nan"),
        (np.array([[1.0], [2e9]]), "sample 1 (counted from 0) has a pixel of 2e+09"),
        (np.array([[2**40]]), "not exact in float32"),
        (np.array([["a"]]), "expected whole numbers or floats"),
        (np.array([[1j]]), "expected whole numbers or floats"),
    ],
)
def test_what_is_no_pixel_is_refused(array: NDArray[Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        as_pixels(array, 1.0, "x")
    assert words in str(caught.value)


def _dataset(images: NDArray[Any]) -> Dataset:
    return Dataset(images, np.zeros(len(images), np.int64), ("0",))


@given(hnp.arrays(np.uint16, (5, 2, 3, 2)))
@settings(deadline=None)
def test_float_pixels_have_the_moments_of_whole_ones(images: NDArray[np.uint16]) -> None:
    exact, floats = Preprocessing.of(_dataset(images)), Preprocessing.of(_dataset(images.astype(np.float32)))
    assert floats.mean == pytest.approx(exact.mean, rel=1e-12)
    assert floats.std == pytest.approx(exact.std, rel=1e-6)


@pytest.mark.parametrize("side", [5, 30])  # the latter by compiled loops
@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_floats_are_augmented_as_whole_pixels_are(side: int, dtype: type) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, side, side, 1), dtype=np.uint8)
    labels, indices = np.arange(6), np.arange(6)
    for changes in ({"shift": 1, "flip": True, "cutout": 2}, {"rotation": 20.0, "scale": 0.2, "elastic_alpha": 2.0}):
        augmenter = Augmenter(Augment(**changes), Train(), (100.0,))
        expected, _ = augmenter.take(images, labels, indices, 0)
        found, _ = augmenter.take(images.astype(dtype), labels, indices, 0)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(np.rint(found), expected)
