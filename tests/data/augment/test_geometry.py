"""Shifts, affine maps, elastic fields and the resampling by them, against scipy."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage, stats

from cnnpar import rng
from cnnpar.data.augment import elastic, warp
from cnnpar.data.augment.geometry import random_flips, random_maps, random_offsets, shifted, source_coordinates

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7), st.integers(1, 3))  # (n, H, W, C)
IDENTITY = np.eye(2, dtype=np.float32)


def pictures(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def uniform(numbers: NDArray[np.floating], low: float, high: float) -> bool:
    """Return whether a Kolmogorov-Smirnov test accepts, at 1e-4; the numbers are the same in every run."""
    return bool(stats.kstest(numbers, stats.uniform(low, high - low).cdf).pvalue > 1e-4)


@given(SIZES, st.data())
def test_shifts_agree_with_scipy(shape: tuple[int, ...], data: st.DataObject) -> None:
    pairs = st.lists(st.tuples(st.integers(-8, 8), st.integers(-8, 8)), min_size=shape[0], max_size=shape[0])
    images, offsets = pictures(shape), np.array(data.draw(pairs))
    expected = [
        ndimage.shift(image, (*offset, 0), order=0, mode="constant", cval=0)
        for image, offset in zip(images, offsets, strict=True)
    ]
    assert np.array_equal(shifted(images, offsets), expected)


def test_random_shifts_differ_by_seed_epoch_and_sample() -> None:
    first = random_offsets(1, 1, 400, 2)
    assert set(map(tuple, first.tolist())) == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}
    assert not np.array_equal(first, random_offsets(2, 1, 400, 2))
    assert not np.array_equal(first, random_offsets(1, 2, 400, 2))
    assert np.array_equal(first[:100], random_offsets(1, 1, 100, 2))


@given(SIZES, st.integers(0, 2**32))
def test_resampling_agrees_with_scipys_bilinear_interpolation(shape: tuple[int, ...], seed: int) -> None:
    images, generator = pictures(shape, seed), np.random.default_rng(seed)
    rows, columns = generator.uniform(-3, 10, (2, *shape[:3])).astype(np.float32)
    found = warp.resampled(images, rows, columns)
    for number, channel in np.ndindex(shape[0], shape[3]):
        expected = ndimage.map_coordinates(
            images[number, ..., channel].astype(float), (rows[number], columns[number]), order=1, mode="grid-constant"
        )
        assert np.abs(found[number, ..., channel] - expected).max() <= 0.5 + 1e-3


@given(SIZES, st.integers(0, 2**32))
def test_compiled_resampling_has_the_bits_of_numpy(shape: tuple[int, ...], seed: int) -> None:
    compiled = pytest.importorskip("cnnpar.data.augment.numba_warp", reason="numba is not installed")
    count, height, width, channels = shape
    generator = np.random.default_rng(seed)
    framed = pictures((count, height + 3, width + 3, channels), seed)
    rows, columns = np.round(generator.uniform(-3, 10, (2, *shape[:3])) * 8).astype(np.float32) / 8  # halves, too
    found = np.full(shape, 7, np.uint8), np.full(shape, 8, np.uint8)
    for way, out in zip((warp, compiled), found, strict=True):
        way.bilinear(framed, rows, columns, out)
    assert np.array_equal(*found)


def test_resampling_of_large_images_is_the_same_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures((3, 40, 30, 2))
    rows, columns = np.random.default_rng(1).uniform(-3, 40, (2, 3, 40, 30)).astype(np.float32)
    found = warp.resampled(images, rows, columns)
    monkeypatch.setattr(warp, "compiled", lambda module: None)
    assert np.array_equal(warp.resampled(images, rows, columns), found)


@given(SIZES, st.data())
def test_resampling_by_identity_maps_is_an_exact_shift(shape: tuple[int, ...], data: st.DataObject) -> None:
    pairs = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=shape[0], max_size=shape[0])
    images, offsets = pictures(shape), np.array(data.draw(pairs))
    rows, columns = source_coordinates(np.stack([IDENTITY] * shape[0]), offsets, *shape[1:3])
    assert np.array_equal(warp.resampled(images, rows, columns), shifted(images, offsets))


def test_a_quarter_turn_is_exact() -> None:
    images = pictures((2, 5, 5, 3))
    turn = np.array([[[0, 1], [-1, 0]]] * 2, np.float32)
    rows, columns = source_coordinates(turn, np.zeros((2, 2), np.int64), 5, 5)
    assert np.array_equal(warp.resampled(images, rows, columns), np.rot90(images, axes=(1, 2)))


@given(st.integers(0, 1000), st.tuples(st.integers(2, 9), st.integers(2, 9)))
def test_affine_maps_agree_with_scipys_affine_transform(epoch: int, shape: tuple[int, int]) -> None:
    images, offsets = pictures((4, *shape, 1)), random_offsets(0, epoch, 4, 2)
    maps = random_maps(0, epoch, 4, 40.0, 0.3, 0.5)
    found = warp.resampled(images, *source_coordinates(maps, offsets, *shape))
    centre = (np.array(shape) - 1) / 2
    for image, result, matrix, offset in zip(images, found, maps.astype(float), offsets, strict=True):
        start = centre - matrix @ (centre + offset)
        expected = ndimage.affine_transform(image[..., 0].astype(float), matrix, start, order=1, mode="grid-constant")
        assert np.abs(result[..., 0] - expected).max() <= 0.5 + 1e-2


def test_rotation_scale_and_shear_are_uniform_and_independent() -> None:
    count = 5000
    largest = (30, 0, 0), (0, 0.2, 0), (0, 0, 0.5), (30, 0.2, 0)
    turned, scaled, slanted, both = (random_maps(3, 7, count, *each).astype(float) for each in largest)
    angle = np.rad2deg(np.arctan2(turned[:, 0, 1], turned[:, 0, 0]))
    np.testing.assert_allclose(turned @ turned.transpose(0, 2, 1), np.broadcast_to(np.eye(2), (count, 2, 2)), atol=1e-6)
    assert uniform(angle, -30, 30)
    size = 1 / scaled[:, 0, 0]
    np.testing.assert_allclose(scaled, np.eye(2) / size[:, None, None])
    assert uniform(size, 0.8, 1.2)
    assert uniform(-slanted[:, 1, 0], -0.5, 0.5)
    assert abs(np.corrcoef([angle, size, slanted[:, 1, 0]]) - np.eye(3)).max() < 0.05
    np.testing.assert_allclose(both, turned @ scaled, atol=1e-6)
    assert np.array_equal(random_maps(3, 7, 10, 30, 0, 0), turned[:10].astype(np.float32))


def test_random_flips_are_on_for_half_of_the_samples() -> None:
    flips = random_flips(0, 0, 10_000)
    assert 4_800 < flips.sum() < 5_200
    assert np.array_equal(random_flips(0, 0, 10), flips[:10])


def noise(index: int, height: int, width: int) -> Any:
    """Return the elastic field before it is smoothed, (H, 2, W), made of single words."""
    words = rng.words_of_samples(1, rng.ELASTIC, 2, np.array([index]), -(-height * width // 2))
    numbers = [int(word) >> place & 0xFFFF for word in words[0] for place in (0, 16, 32, 48)]
    return (np.array(numbers[: 2 * height * width]).reshape(height, 2, width) - 32767.5) / 32768


@pytest.mark.parametrize(("height", "width", "sigma"), [(28, 28, 4.0), (9, 5, 1.5), (3, 7, 40.0), (1, 1, 0.1)])
def test_elastic_field_is_noise_smoothed_by_scipys_gaussian(height: int, width: int, sigma: float) -> None:
    found = elastic.displacements(1, 2, np.array([5, 0]), height, width, 34.0, sigma)
    assert np.array_equal(found[1:], elastic.displacements(1, 2, np.array([0]), height, width, 34.0, sigma))
    for number, index in enumerate((5, 0)):
        for axis in range(2):
            smooth = ndimage.gaussian_filter(noise(index, height, width)[:, axis], sigma, mode="constant", truncate=4.0)
            np.testing.assert_allclose(found[number, :, axis], 34 * smooth, atol=34 * 1e-6)


def test_elastic_field_has_the_deviation_of_its_formula() -> None:
    fields = elastic.displacements(0, 0, np.arange(40), 40, 40, 10.0, 2.0)[:, 10:30, :, 10:30]
    assert fields.std() == pytest.approx(10 / 2 / np.sqrt(12 * np.pi), rel=0.05)
    assert abs(fields.mean()) < 0.05
    assert abs(np.corrcoef(fields[:, :, 0].ravel(), fields[:, :, 1].ravel())[0, 1]) < 0.1


def test_random_draws_are_the_same_in_every_version() -> None:
    """Literal values: a run that an older version began must resume with the same samples."""
    assert random_offsets(0, 0, 3, 2).tolist() == [[1, -2], [-2, -1], [0, 2]]
    assert random_flips(0, 0, 8).tolist() == [True, True, False, True, False, False, True, False]
    assert random_maps(0, 0, 2, 0, 0, 2**15)[:, 1, 0].tolist() == [19192.5, -24641.5]
    assert rng.words_of_samples(0, rng.ELASTIC, 0, np.array([1]), 1).tolist() == [[14836447075816436349]]


def test_random_words_give_symmetric_numbers_below_1() -> None:
    words = np.array([0, 2**64 - 1, 1 << 16], np.uint64)
    end = 1 - 2.0**-16
    assert rng.symmetric(words).tolist() == [[-end] * 4, [end] * 4, [-end, 2.0**-15 - end, -end, -end]]
    assert rng.uniform(words[:2]).tolist() == [2.0**-53, 1 - 2.0**-53]
