"""Convolution by Winograd's algorithm against im2col, where each way is chosen, and the workspaces of both."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnpar.nn.conv import banded, dispatch, im2col, winograd
from cnnpar.nn.loops import winograd_formulas
from cnnpar.nn.shapes import Array
from cnnpar.nn.windows import Windows, pad_sizes, window_count
from cnnpar.nn.workspace import Scratch, Workspace

TAPS = st.integers(3, 5)


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    """Draw sizes of convolutions: whole and partial tiles, windows beyond the image on any side, sizes of 1."""
    sizes, few = st.integers(1, 11), st.integers(1, 4)
    starts = st.integers(-5, 4)
    return {
        "shape": (draw(sizes), draw(sizes), draw(few), draw(few)),
        "kernel": (draw(TAPS), draw(TAPS), draw(few)),
        "start": (draw(starts), draw(starts)),
        "count": (draw(sizes), draw(sizes)),
    }


def random(*shape: int, seed: int = 0, dtype: Any = np.float64) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def both_ways(
    shape: tuple[int, ...], kernel: tuple[int, ...], start: Any, count: Any, dtype: Any = np.float64
) -> list[tuple[Array, Array]]:
    """Return (outputs, kernel's gradient) by Winograd and by im2col, the second pass in memory that held NaN."""
    x, weights = random(*shape, dtype=dtype), random(*kernel[:2], shape[3], kernel[2], seed=1, dtype=dtype)
    dy, bias = random(*count, shape[2], kernel[2], seed=2, dtype=dtype), random(kernel[2], seed=3, dtype=dtype)
    results = []
    for way in (winograd, im2col):
        memory, gradient, windows = Workspace(), np.full_like(weights, np.nan), Windows(start, (1, 1), count)
        for scale in (np.nan, 1.0):
            y = way.correlate(x * scale, weights, bias, windows, memory)
            way.gradients(dy * scale, gradient, None, windows, memory)
        results.append((y, gradient))
    return results


@given(convolutions())
@settings(max_examples=60, deadline=None)
def test_winograd_agrees_with_im2col_in_outputs_and_gradients(case: dict[str, Any]) -> None:
    (y, gradient), (expected, expected_gradient) = both_ways(**case)
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_winograd_in_blocks_of_tiles_agrees_with_one_block(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case: dict[str, Any] = {"shape": (19, 9, 2, 3), "kernel": (3, 4, 2), "start": (-1, -1), "count": (19, 9)}
    ((whole, whole_gradient), _) = both_ways(**case)
    monkeypatch.setattr(winograd, "_BLOCK", rows * 36 * 3 * 2 * (3 + 2))  # columns of tiles, samples, channels
    tiles = winograd.Tiling((19, 9), (3, 4, 3, 2), 2)
    assert len(tiles.blocks) == -(-5 // rows)
    assert [row for block in tiles.blocks for row in range(block.start, block.stop)] == list(range(5))
    ((y, gradient), _) = both_ways(**case)
    np.testing.assert_allclose(y, whole, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(gradient, whole_gradient, rtol=1e-10, atol=1e-10)


FORMULAS: dict[int, tuple[Any, Any]] = {  # by the pixels of the kernel
    5: (winograd_formulas.outputs2, winograd_formulas.gradients2),
    4: (winograd_formulas.outputs3, winograd_formulas.gradients3),
    3: (winograd_formulas.outputs4, winograd_formulas.gradients4),
}


@pytest.mark.parametrize("taps", FORMULAS)
def test_winograd_of_one_axis_agrees_with_numpy_correlate(taps: int) -> None:
    outputs, gradients = FORMULAS[taps]
    values = winograd.kernel_values(taps, np.dtype(np.float64))
    pixels, kernel = random(6), random(taps, seed=1)
    found = outputs(*(values @ kernel * winograd_formulas.inputs(*pixels)))
    np.testing.assert_allclose(found, np.correlate(pixels, kernel, mode="valid"), rtol=1e-12, atol=1e-12)
    transposed = np.array([outputs(*row) for row in np.eye(6)])  # (6, 7 - taps)
    assert np.array_equal(np.array([gradients(*row) for row in np.eye(7 - taps)]), transposed.T)


@pytest.mark.parametrize(("taps", "most"), [(3, 3.0), (4, 4.0), (5, 5.0)])
def test_winograd_rounds_at_most_a_few_times_more_than_im2col(taps: int, most: float) -> None:
    case: dict[str, Any] = {"shape": (16, 16, 4, 64), "kernel": (taps, taps, 32), "start": (0, 0), "count": (12, 12)}
    exact = both_ways(**case)[1]
    ours, definition = both_ways(**case, dtype=np.float32)
    errors = [
        [np.sqrt(np.mean((found - true) ** 2) / np.mean(true**2)) for found, true in zip(way, exact, strict=True)]
        for way in (ours, definition)
    ]
    assert errors[0][0] < most * errors[1][0]
    assert errors[0][1] < 1e-5  # the gradient: sums of products of transforms on both sides
    assert errors[1][1] < 1e-6


@given(st.integers(1, 200), st.integers(1, 12), st.integers(1, 12))
@settings(deadline=None)
def test_same_padding_gives_ceil_of_size_over_stride_windows(size: int, window: int, stride: int) -> None:
    before, after = pad_sizes(size, window, stride, "same")
    assert window_count(size + before + after, window, stride) == -(-size // stride)
    assert after - before in (0, 1)


def test_winograd_suits_only_kernels_of_3_to_5_with_stride_1() -> None:
    windows = Windows((-1, -1), (1, 1), (28, 28))
    assert winograd.suits((3, 5, 16, 32), windows._replace(outputs=(7, 7)))
    for kernel, others in [
        ((3, 3, 16, 32), windows._replace(stride=(1, 2))),
        ((2, 3, 16, 32), windows),
        ((3, 6, 16, 32), windows),
        ((3, 3, 1, 32), windows),
        ((3, 3, 16, 32), windows._replace(outputs=(4, 4))),
        ((3, 3, 16, 32), windows._replace(dilation=(1, 2))),
        ((3, 3, 16, 32), windows._replace(groups=2)),
    ]:
        assert not winograd.suits(kernel, others)


def test_bands_suit_short_undilated_ungrouped_windows_only() -> None:
    windows = Windows((-1, -1), (2, 2), (28, 28))
    assert banded.suits((55, 55), (3, 3, 1, 32), windows)
    assert not banded.suits((55, 55), (3, 3, 1, 32), windows._replace(dilation=(2, 1)))
    assert not banded.suits((55, 55), (3, 3, 1, 32), windows._replace(groups=4))
    pixels = Windows((0, 0), (1, 1), (28, 28))
    assert not banded.suits((28, 28), (1, 1, 3, 32), pixels)
    assert banded.suits((28, 27), (1, 1, 3, 32), pixels)


@given(convolutions(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_im2col_of_1x1_kernels_copies_nothing_and_is_a_product(case: dict[str, Any], everywhere: bool) -> None:
    height, width, _, depth = case["shape"]
    x, kernel = random(*case["shape"], dtype=np.float32), random(1, 1, depth, 3, seed=1, dtype=np.float32)
    windows = Windows((0 if everywhere else -1, 0), (1, 1), (height, width))
    memory, gradient = Workspace(), np.empty_like(kernel)
    y = im2col.correlate(x, kernel, None, windows, memory)
    im2col.gradients(y, gradient, None, windows, memory)
    assert everywhere != ("padded" in memory._arrays)
    seen = x if everywhere else np.concatenate([np.zeros_like(x[:1]), x[:-1]])
    assert y.tobytes() == (seen.reshape(-1, depth) @ kernel[0, 0]).tobytes()
    assert gradient.tobytes() == (seen.reshape(-1, depth).T @ y.reshape(-1, 3)).tobytes()


@st.composite
def rewritten(draw: st.DrawFn) -> dict[str, Any]:
    """Draw convolutions with groups or gaps: of a single channel a group, and windows beyond the image on any side."""
    sizes, few, places = st.integers(1, 8), st.integers(1, 3), st.integers(-4, 3)
    groups = draw(st.sampled_from([1, 2, 3, 12]))
    stride = draw(st.sampled_from([(1, 1), (1, 1), (2, 1)]))
    apart = draw(few), draw(few)
    windows = Windows((draw(places), draw(places)), stride, (draw(sizes), draw(sizes)), apart, groups)
    depth, channels = draw(st.sampled_from([1, 3, 9])), draw(st.sampled_from([1, 4, 10]))
    return {
        "shape": (draw(sizes), draw(sizes), draw(few), depth * groups),
        "kernel": (draw(st.integers(1, 4)), draw(st.integers(1, 4)), depth, channels * groups),
        "windows": windows,
    }


@given(rewritten())
@settings(max_examples=80, deadline=None)
def test_groups_and_gaps_taken_away_agree_with_im2col(case: dict[str, Any]) -> None:
    shape, windows = case["shape"], case["windows"]
    x, kernel = random(*shape), random(*case["kernel"], seed=1)
    bias, dy = random(kernel.shape[3], seed=2), random(*windows.outputs, shape[2], kernel.shape[3], seed=3)
    memory, definition = Workspace(), Workspace()
    found, expected = ((np.empty_like(kernel), np.empty_like(bias)) for _ in range(2))
    for scale in (np.nan, 1.0):  # the second pass in memory that held NaN
        y = dispatch.correlate(x * scale, kernel, bias, windows, memory)
        dx = dispatch.gradients(shape, dy * scale, kernel, *found, windows, True, memory)
    assert dx is not None
    np.testing.assert_allclose(y, im2col.correlate(x, kernel, bias, windows, definition), rtol=1e-9, atol=1e-9)
    im2col.gradients(dy, *expected, windows, definition)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    # The gradient is the transpose: <dx, x> = <dy, y - bias>.
    np.testing.assert_allclose((dx * x).sum(), (dy * (y - bias)).sum(), rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("numbers", [1, 500])
def test_im2col_in_bands_agrees_with_one_band(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, kernel, windows = random(9, 7, 2, 3), random(3, 2, 3, 5, seed=1), Windows((-1, 0), (2, 1), (4, 6))
    bias, dy = random(5, seed=2), random(4, 6, 2, 5, seed=3)
    results = []
    for band in (10**6, numbers):
        monkeypatch.setattr(im2col, "_BAND", band)
        memory, gradient = Workspace(), np.empty_like(kernel)
        y = im2col.correlate(x, kernel, bias, windows, memory)
        im2col.gradients(dy, gradient, None, windows, memory)
        results.append((y, gradient))
    for whole, part in zip(*results, strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-12, atol=1e-12)


def test_workspace_keeps_arrays_and_shares_scratch_by_name() -> None:
    shared = Scratch()
    single = np.dtype(np.float32)
    first, second = Workspace(shared), Workspace(shared)
    kept = first.array("a", (2, 3), single)
    kept += 1
    assert first.array("a", (2, 3), single) is kept
    assert not second.array("a", (2, 3), single).any()
    assert not first.part("p").array("a", (2, 3), single).any()
    assert first.part("p") is first.part("p")
    assert np.shares_memory(first.scratch("s", (4, 3), single), second.scratch("s", (2, 2), single))
    assert np.shares_memory(first.scratch("s", (4, 3), single), second.part("p").scratch("s", (4, 3), single))
    assert not np.shares_memory(first.scratch("s", (4, 3), single), first.scratch("t", (4, 3), single))
    assert first.scratch("s", (5, 5), np.dtype(bool)).dtype == bool
