"""Changes of colour against Pillow, which truncates where ours round, and cutout against single squares."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from scipy import stats

from cnnpar.config.sections import Augment
from cnnpar.data.augment.colour import cut_out, jittered, random_centres, random_factors
from cnnpar.data.dataset import Pixels

EACH = [Augment(brightness=1), Augment(contrast=1), Augment(saturation=1)]
OURS: list[tuple[Augment, Callable[[Any], Any]]] = list(
    zip(EACH, (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), strict=True)
)


def pictures(count: int, channels: int = 3, height: int = 7, width: int = 5) -> NDArray[np.uint8]:
    rng = np.random.default_rng(count)
    return (rng.integers(0, 256, (count, height, width, channels)) * rng.uniform(0.3, 1, (count, 1, 1, 1))).astype("u1")


def alike(count: int, factor: float) -> NDArray[np.float32]:
    return np.full((count, 3), factor, np.float32)


@pytest.mark.parametrize(("settings", "pillow"), OURS)
@given(factor=st.floats(0, 2, width=32))
def test_brightness_contrast_and_saturation_agree_with_pillow(
    settings: Augment, pillow: Callable[[Any], Any], factor: float
) -> None:
    images = pictures(3)
    found = jittered(images, alike(3, factor), settings)
    for image, result in zip(images, found, strict=True):
        expected = np.asarray(pillow(Image.fromarray(image)).enhance(factor))
        # Pillow rounds the grey to whole numbers, and the result down.
        assert np.abs(result.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_factor_1_changes_nothing_and_0_gives_black_or_mean(channels: int) -> None:
    images = pictures(4, channels)
    for settings in EACH[: 3 if channels == 3 else 2]:
        assert np.array_equal(jittered(images, alike(4, 1), settings), images)
    assert not jittered(images, alike(4, 0), EACH[0]).any()
    weights = (0.299, 0.587, 0.114) if channels == 3 else (1 / channels,) * channels
    means = (images * weights).sum(axis=3).mean(axis=(1, 2))
    flat = jittered(images, alike(4, 0), EACH[1])
    assert np.array_equal(flat, np.broadcast_to(np.rint(means)[:, None, None, None], flat.shape))


def test_saturation_0_gives_the_grey_of_each_pixel() -> None:
    images = pictures(4)
    expected = np.rint((images.astype(int) * (299, 587, 114)).sum(axis=3, keepdims=True) / 1000)
    assert np.array_equal(jittered(images, alike(4, 0), EACH[2]), np.broadcast_to(expected, images.shape))


def test_colour_changes_are_applied_in_a_fixed_order() -> None:
    images, factors = pictures(6), np.random.default_rng(0).uniform(0.5, 1.5, (6, 3)).astype(np.float32)
    expected: Pixels = images
    for settings in EACH:
        expected = jittered(expected, factors, settings)
    assert np.array_equal(jittered(images, factors, Augment(brightness=1, contrast=1, saturation=1)), expected)


def test_colour_factors_are_uniform_and_independent() -> None:
    factors = random_factors(0, 1, 5000, 0.2, 0.4, 1.0)
    for column, largest in zip(factors.T, (0.2, 0.4, 1.0), strict=True):
        assert stats.kstest(column, stats.uniform(1 - largest, 2 * largest).cdf).pvalue > 1e-4
    assert abs(np.corrcoef(factors.T) - np.eye(3)).max() < 0.05
    assert np.array_equal(random_factors(0, 1, 10, 0.2, 0.4, 1.0), factors[:10])
    assert not np.array_equal(random_factors(0, 2, 10, 0.2, 0.4, 1.0), factors[:10])


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=1, max_size=5), st.integers(1, 20))
def test_cutout_fills_squares_around_their_centres(centres: list[tuple[int, int]], side: int) -> None:
    images, fill = pictures(len(centres), 2), np.array([3, 200], np.uint8)
    expected = images.copy()
    for image, (row, column) in zip(expected, centres, strict=True):
        top, left = row - side // 2, column - side // 2
        image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = fill
    cut_out(images, np.array(centres), side, fill)
    assert np.array_equal(images, expected)


def test_cutout_centres_are_uniform_over_the_pixels() -> None:
    centres = random_centres(0, 0, 6000, 3, 4)
    counts = np.bincount(centres[:, 0] * 4 + centres[:, 1], minlength=12)
    assert len(counts) == 12
    assert stats.chisquare(counts).pvalue > 1e-4
    assert np.array_equal(random_centres(0, 0, 10, 3, 4), centres[:10])


def test_random_draws_are_the_same_in_every_version() -> None:
    """Literal values: a run that an older version began must resume with the same samples."""
    assert (random_factors(0, 0, 1, 1, 1, 1) * 2**16).tolist() == [[11575, 43765, 947]]
    assert random_centres(0, 0, 3, 100, 100).tolist() == [[45, 16], [78, 59], [13, 87]]
