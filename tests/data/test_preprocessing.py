"""Exact means and deviations, normalisation of images, and the struct as it is kept in checkpoints."""

import statistics

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from cnnpar.data import preprocessing
from cnnpar.data.dataset import Dataset
from cnnpar.data.preprocessing import Preprocessing

pictures = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=4, max_dims=4, max_side=4))


def dataset(images: NDArray[np.uint8]) -> Dataset:
    return Dataset(images, np.zeros(len(images), dtype=np.int64), ("0",))


@given(pictures)
@settings(deadline=None)
def test_mean_and_deviation_agree_with_the_statistics_module(images: NDArray[np.uint8]) -> None:
    found = Preprocessing.of(dataset(images))
    for channel in range(images.shape[-1]):
        values = images[..., channel].ravel().tolist()
        assert found.mean[channel] == statistics.mean(map(float, values))
        deviation = statistics.pstdev(map(float, values))
        assert found.std[channel] == pytest.approx(deviation or 1.0, rel=1e-15)


def test_chunk_size_leaves_mean_and_deviation_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 3), dtype=np.uint8)
    whole = Preprocessing.of(dataset(images))
    monkeypatch.setattr(preprocessing, "_MOST_IMAGES", 7)
    assert Preprocessing.of(dataset(images[::-1])) == whole
    monkeypatch.setattr(preprocessing, "_MOST_PIXELS", 5)  # fewer than an image has
    assert Preprocessing.of(dataset(images[::-1])) == whole


def test_a_constant_channel_is_only_centred() -> None:
    found = Preprocessing.of(dataset(np.full((3, 2, 2, 1), 200, dtype=np.uint8)))
    assert (found.mean, found.std) == ((200.0,), (1.0,))
    assert not found.normalise(np.full((1, 2, 2, 1), 200, dtype=np.uint8)).any()


@given(pictures)
@settings(deadline=None)
def test_normalised_images_are_centred_and_scaled(images: NDArray[np.uint8]) -> None:
    found = Preprocessing.of(dataset(images))
    normal = found.normalise(images)
    assert normal.dtype == np.float32
    assert normal.shape == images.shape
    expected = (images.astype(np.float64) - np.array(found.mean)) / np.array(found.std)
    # float32 rounds the mean (up to 255) before the difference is divided by a deviation that may be small.
    assert np.allclose(normal, expected, rtol=1e-6, atol=255 * 2**-23 / min(found.std))


def test_part_of_a_batch_is_normalised_like_the_whole() -> None:
    images = np.random.default_rng(1).integers(0, 256, (20, 5, 4, 3), dtype=np.uint8)
    found = Preprocessing.of(dataset(images))
    assert np.array_equal(found.normalise(images)[3:8], found.normalise(images[3:8]))


def test_images_of_another_shape_are_refused() -> None:
    found = Preprocessing.of(dataset(np.zeros((2, 4, 4, 1), dtype=np.uint8)))
    for shape in ((2, 5, 4, 1), (2, 1, 1, 1), (2, 4, 4, 3)):
        with pytest.raises(ValueError, match=r"not \(4, 4, 1\)"):
            found.normalise(np.zeros(shape, dtype=np.uint8))


def test_preprocessing_survives_json_exactly() -> None:
    images = np.random.default_rng(2).integers(0, 256, (9, 3, 3, 3), dtype=np.uint8)
    found = Preprocessing.of(dataset(images))
    found.normalise(images)  # what is kept for speed is no part of the value
    assert msgspec.json.decode(msgspec.json.encode(found), type=Preprocessing) == found


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"mean": [1.0, 2.0]}, "one number for each of 1 channels"),
        ({"std": []}, "one number for each of 1 channels"),
        ({"std": [0.0]}, "above 0"),
        ({"std": [float("inf")]}, "finite"),
        ({"mean": [float("nan")]}, "finite"),
        ({"class_names": []}, "`class_names` is empty"),
        ({"image_shape": [0, 2, 1]}, ">= 1"),
        ({"image_shape": [2, 2]}, "length 3"),
        ({"scale": 3}, "unknown field `scale`"),
    ],
)
def test_preprocessing_with_wrong_fields_is_refused(change: dict[str, object], complaint: str) -> None:
    good = {"image_shape": [2, 2, 1], "mean": [1.0], "std": [2.0], "class_names": ["a"]}
    assert msgspec.convert(good, Preprocessing).mean == (1.0,)
    with pytest.raises(msgspec.ValidationError, match=complaint):
        msgspec.convert(good | change, Preprocessing)
