"""Compiled loops against those in numpy: the same numbers, to the bit."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnpar.nn.loops import interface
from cnnpar.nn.loops.interface import NUMPY, Loops
from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Array
from cnnpar.nn.windows import Windows, window_count
from tests.helpers.tiny_runs import ROOT

found_loops = interface.compiled_loops()
if found_loops is None:
    pytest.skip("numba is not installed", allow_module_level=True)
compiled: Loops = found_loops

WAYS: tuple[Loops, Loops] = NUMPY, compiled
SIZES, SMALL = st.integers(1, 9), st.integers(-6, 6)
PIXELS = st.sampled_from([1, 3, 16, 255, 256, 257, 600])
MARGINS = st.integers(2, 4)


def random(*shape: int, seed: int = 0) -> Array:
    """Return float32 numbers of all magnitudes, about a tenth of them zeros of either sign."""
    generator = np.random.default_rng(seed)
    numbers = generator.standard_normal(shape) * 10.0 ** generator.integers(-42, 20, shape)
    zeros = generator.random(shape) < 0.1
    return np.where(zeros, np.copysign(0.0, numbers), numbers).astype(np.float32)


def equal(first: Any, second: Any) -> bool:
    return bool(np.array_equal(first.view(np.uint8), second.view(np.uint8)))


def filled(*shape: int) -> tuple[Array, Array]:
    """Return two arrays full of 7, so that elements that a loop does not write can be told."""
    return np.full(shape, 7, np.float32), np.full(shape, 7, np.float32)


@given(st.tuples(SIZES, SIZES, PIXELS), SMALL, SMALL, MARGINS, MARGINS, st.tuples(SIZES, SIZES))
@settings(max_examples=60, deadline=None)
def test_compiled_winograd_inputs_have_the_bits_of_numpy(
    shape: tuple[int, ...], top: int, left: int, down: int, across: int, count: tuple[int, int]
) -> None:
    x, found = random(*shape), filled(36, count[0] * count[1] * shape[2] + 5)
    for way, out in zip(WAYS, found, strict=True):
        way.input_points(x, top, left, down, across, *count, out)
    assert equal(*found)


@given(st.tuples(SIZES, SIZES, PIXELS), MARGINS, MARGINS, st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_compiled_winograd_outputs_have_the_bits_of_numpy(
    shape: tuple[int, ...], down: int, across: int, first: int
) -> None:
    """Take some rows of tiles, which cover the rest of the image and reach beyond it."""
    top = min(first * down, (shape[0] - 1) // down * down)
    count = -(-(shape[0] - top) // down), -(-shape[1] // across)
    points = 36, count[0] * count[1] * shape[2] + 5
    products, bias, dy = random(*points), random(shape[2], seed=1), random(*shape, seed=2)
    found, gradients = filled(*shape), filled(*points)
    for way, out, gradient in zip(WAYS, found, gradients, strict=True):
        way.outputs(products, bias, top, down, across, *count, out)
        way.gradient_points(dy, top, down, across, *count, gradient)
    assert equal(*found)
    assert equal(*gradients)
    assert (found[0][:top] == 7).all()
    assert not (found[0][top:] == 7).any()


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 20), st.sampled_from([1, 3, 40])),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_compiled_maxpool_and_gradient_have_the_bits_of_numpy(
    shape: tuple[int, ...], window: tuple[int, int], stride: tuple[int, int], rectify: bool
) -> None:
    count = tuple(window_count(*sizes) for sizes in zip(shape[:2], window, stride, strict=True))
    if not all(count):
        return
    kind = np.uint8 if window[0] * window[1] <= 255 else np.uint32
    overlap = any(step < size for step, size in zip(stride, window, strict=True))
    x, dy = np.round(random(*shape)), random(*count, shape[2], seed=1)  # rounded: many are equal
    y, dx = filled(*count, shape[2]), filled(*shape)
    winners = np.full(y[0].shape, 9, kind), np.full(y[0].shape, 9, kind)
    for way, out, winner, gradient in zip(WAYS, y, winners, dx, strict=True):
        way.maxpool(x, *window, *stride, rectify, out, winner)
        way.maxpool_gradient(dy, winner, *window, *stride, overlap, gradient)
    assert equal(*y)
    assert equal(*winners)
    assert equal(*dx)
    assert not np.signbit(y[0][y[0] == 0]).any()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", range(4))
def test_maxpool_of_nan_is_nan_and_passes_no_gradient(way: Loops, place: int) -> None:
    x = np.arange(4, dtype=np.float32)
    x[place] = np.nan
    y, winner = np.zeros((1, 1, 1), np.float32), np.zeros((1, 1, 1), np.uint8)
    for rectify in (False, True):
        way.maxpool(x.reshape(2, 2, 1), 2, 2, 2, 2, rectify, y, winner)
        assert np.isnan(y).all()
    assert winner[0, 0, 0] == 4  # nobody gets a gradient, as behind a relu of it


@given(st.tuples(st.sampled_from([4, 7]), st.sampled_from([4, 6]), PIXELS), st.integers(1, 3), st.booleans())
def test_compiled_pooling_of_nan_agrees_with_numpy(shape: tuple[int, ...], stride: int, rectify: bool) -> None:
    count = tuple(window_count(size, 2, stride) for size in shape[:2])
    x, sign = random(*shape), np.where(random(shape[2], seed=2) < 0, -1, 1).astype(np.float32)
    x[np.random.default_rng(3).random(shape) < 0.2] = np.nan
    for name, arguments in (("maxpool", (rectify,)), ("extremes", ())):
        y = filled(*count, shape[2])
        winners = np.full(y[0].shape, 9, np.uint8), np.full(y[0].shape, 9, np.uint8)
        for way, out, winner in zip(WAYS, y, winners, strict=True):
            first = (x,) if arguments else (x, sign)
            getattr(way, name)(*first, 2, 2, stride, stride, *arguments, out, winner)
        assert np.array_equal(*y, equal_nan=True)
        assert equal(*winners)


@given(st.integers(0, 300))
def test_compiled_relu_gradient_has_the_bits_of_numpy(size: int) -> None:
    dy, y, found = random(size), random(size, seed=1), filled(size)
    for way, out in zip(WAYS, found, strict=True):
        way.relu_gradient(dy, y, out)
    assert equal(*found)


ACTIVATIONS: dict[str, tuple[float, ...]] = {
    "silu": (),
    "gelu": (),
    "elu": (0.3,),
}
EDGES = np.array([0, -0.0, np.inf, -np.inf, np.nan, 87, -87, 88, -88, 104, -104, 1e-42, -1e-42, 40, -13.2], np.float32)


def of_activations(size: int) -> Array:
    """Return numbers of the sizes that meet activations, then those where formulas change."""
    return np.concatenate([np.random.default_rng(size).standard_normal(size).astype(np.float32) * 9, EDGES])


def same(first: Array, second: Array) -> bool:
    """Tell whether arrays have the same bits, except those of NaN."""
    return bool(np.array_equal(np.isnan(first), np.isnan(second))) and equal(
        np.nan_to_num(first, nan=0), np.nan_to_num(second, nan=0)
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("size", [0, 100, 40_000])
def test_compiled_activation_has_the_bits_of_numpy(name: str, size: int) -> None:
    x = of_activations(size)
    found, slopes = filled(len(x)), filled(len(x))
    with np.errstate(all="ignore"):
        for way, out, slope in zip(WAYS, found, slopes, strict=True):
            getattr(way, name)(x, *ACTIVATIONS[name], slope, out)
    assert same(*found)
    assert same(*slopes)


@pytest.mark.parametrize("size", [0, 100])
def test_compiled_relu_and_leaky_relu_have_the_bits_of_numpy(size: int) -> None:
    x, dy = of_activations(size), random(size + len(EDGES))
    rectified, leaky, gradients = filled(len(x)), filled(len(x)), filled(len(x))
    with np.errstate(all="ignore"):
        for way, plain, out, gradient in zip(WAYS, rectified, leaky, gradients, strict=True):
            way.relu(x, plain)
            way.leaky_relu(x, 0.3, out)
            way.leaky_relu_gradient(dy, x, 0.3, gradient)
    assert same(*rectified)
    assert same(*leaky)
    assert same(*gradients)


@pytest.mark.parametrize("size", [0, 100, 40_000])
def test_compiled_sigmoid_has_the_bits_of_numpy(size: int) -> None:
    x, dy = of_activations(size), random(size + len(EDGES))
    found, gradients = filled(len(x)), filled(len(x))
    with np.errstate(all="ignore"):
        for way, out, gradient in zip(WAYS, found, gradients, strict=True):
            way.sigmoid(x, out)
            way.sigmoid_gradient(dy, out, gradient)
    assert same(*found)
    assert same(*gradients)


@given(st.integers(1, 5), st.integers(1, 70), st.sampled_from([0.0, 1.0, 50.0]), st.booleans())
@settings(max_examples=80, deadline=None)
def test_compiled_softmax_has_the_bits_of_numpy(rows: int, channels: int, size: float, edges: bool) -> None:
    generator = np.random.default_rng(rows * channels)
    x, dy = ((generator.standard_normal((rows, channels)) * scale).astype(np.float32) for scale in (size, 1))
    if edges:
        x[0, generator.integers(channels)] = generator.choice(EDGES)
    found, gradients = filled(rows, channels), filled(rows, channels)
    with np.errstate(all="ignore"):
        for way, out, gradient in zip(WAYS, found, gradients, strict=True):
            way.softmax(x, out)
            way.softmax_gradient(dy, out, gradient)
    assert same(*found)
    assert same(*gradients)


@pytest.mark.parametrize("way", WAYS)
def test_activations_in_float32_are_those_in_float64_rounded(way: Loops) -> None:
    x = np.linspace(-30, 30, 200_001, dtype=np.float32)
    for name, settings_ in ACTIVATIONS.items():
        found, exact = (
            (np.empty_like(x), np.empty_like(x)),
            (np.empty(len(x)), np.empty(len(x))),
        )
        getattr(way, name)(x, *settings_, *found)
        getattr(NUMPY, name)(x.astype(np.float64), *settings_, *exact)
        for ours, true in zip(found, exact, strict=True):
            np.testing.assert_allclose(ours, true, rtol=3e-6, atol=3e-7)
    y = np.empty_like(x)
    way.sigmoid(x, y)
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-x.astype(np.float64))), rtol=3e-6, atol=3e-7)


@given(st.tuples(SIZES, SIZES, PIXELS), SMALL, SMALL, MARGINS, MARGINS, st.tuples(SIZES, SIZES))
@settings(max_examples=60, deadline=None)
def test_compiled_winograd_input_gradient_has_the_bits_of_numpy(
    shape: tuple[int, ...], top: int, left: int, down: int, across: int, count: tuple[int, int]
) -> None:
    points, found = random(36, count[0] * count[1] * shape[2] + 5), filled(*shape)
    for way, out in zip(WAYS, found, strict=True):
        way.input_gradients(points, top, left, down, across, *count, out)
    assert equal(*found)


@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_compiled_im2col_has_the_bits_of_numpy(
    window: tuple[int, int], stride: tuple[int, int], count: tuple[int, int], depth: int, samples: int, row: int
) -> None:
    size = [step * (number - 1) + length for step, number, length in zip(stride, count, window, strict=True)]
    x = random(size[0] + row, size[1] + 1, samples * depth)
    found = filled(window[0] * window[1] * depth + 1, count[0] * count[1] * samples)
    for way, out in zip(WAYS, found, strict=True):
        way.windows(x, row, *window, depth, *stride, count, out)
    assert equal(*found)
    assert (found[0][-1] == 7).all()
    assert np.isin(found[0][:-1], x).all()


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5), PIXELS),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
@settings(max_examples=60, deadline=None)
def test_compiled_depthwise_convolution_has_the_bits_of_numpy(
    shape: tuple[int, ...], window: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> None:
    size = Windows((0, 0), stride, (shape[0], shape[1]), dilation).span(window)
    x, kernel, dy = random(*size, shape[2]), random(*window, shape[2], seed=1), random(*shape, seed=2)
    found, gradients = filled(*shape), filled(*kernel.shape)
    with np.errstate(all="ignore"):
        for way, out, gradient in zip(WAYS, found, gradients, strict=True):
            way.depthwise(x, kernel, stride, dilation, out)
            way.depthwise_gradient(x, dy, stride, dilation, gradient)
    assert equal(*found)
    assert equal(*gradients)


@given(st.tuples(SIZES, SIZES, PIXELS), st.booleans())
@settings(max_examples=40, deadline=None)
def test_compiled_normalisation_has_the_bits_of_numpy(shape: tuple[int, ...], rectify: bool) -> None:
    x, dy = random(*shape), random(*shape, seed=1)
    numbers = [random(shape[2], seed=seed) for seed in (2, 3, 4)]
    sums = np.full((2, shape[2]), 7.0), np.full((2, shape[2]), 7.0)
    maps, gradients = filled(*shape), filled(*shape)
    with np.errstate(all="ignore"):
        for way, out, mapped, gradient in zip(WAYS, sums, maps, gradients, strict=True):
            way.moments(x, dy, out)
            way.affine(x, numbers[0], numbers[1], rectify, mapped)
            way.affine_gradient(dy, x, numbers[0], numbers[1], numbers[2], gradient)
    assert equal(*sums)
    assert equal(*maps)
    assert equal(*gradients)


@given(st.tuples(SIZES, SIZES, PIXELS))
@settings(max_examples=40, deadline=None)
def test_compiled_normalisation_behind_relu_has_the_bits_of_numpy(shape: tuple[int, ...]) -> None:
    x, dy = random(*shape), random(*shape, seed=1)
    relu = random(shape[2], seed=2), random(shape[2], seed=3)
    numbers = random(shape[2], seed=4), random(shape[2], seed=5), random(shape[2], seed=6)
    sums, gradients = (np.full((2, shape[2]), 7.0), np.full((2, shape[2]), 7.0)), filled(*shape)
    with np.errstate(all="ignore"):
        for way, out, gradient in zip(WAYS, sums, gradients, strict=True):
            way.rectified_moments(dy, x, *relu, out)
            way.rectified_gradient(dy, x, relu, numbers, gradient)
    assert equal(*sums)
    assert equal(*gradients)


@given(st.integers(1, 5), SIZES, st.lists(st.integers(1, 5), min_size=1, max_size=9), st.sampled_from([1, 40, 1025]))
@settings(max_examples=60, deadline=None)
def test_compiled_weighted_sums_have_the_bits_of_numpy(rows: int, columns: int, terms: list[int], size: int) -> None:
    x, weights, starts = random(rows, columns, size), random(sum(terms), seed=1), np.cumsum([0, *terms])
    places = np.random.default_rng(2).integers(0, columns, sum(terms))
    found = filled(rows, len(terms), size)
    with np.errstate(all="ignore"):
        for way, out in zip(WAYS, found, strict=True):
            way.weighted_sums(x, starts, places, weights, out)
    assert same(*found)


@given(
    st.tuples(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3, 40])),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
@settings(max_examples=60, deadline=None)
def test_compiled_extremes_and_gradient_have_the_bits_of_numpy(
    shape: tuple[int, ...], window: tuple[int, int], gap: tuple[int, int]
) -> None:
    stride = window[0] + gap[0], window[1] + gap[1]
    count = tuple(window_count(*sizes) for sizes in zip(shape[:2], window, stride, strict=True))
    if not all(count):
        return
    kind = np.uint8 if window[0] * window[1] <= 255 else np.uint32
    x, dy = np.round(random(*shape)), random(*count, shape[2], seed=1)
    sign = np.where(random(shape[2], seed=2) < 0, np.float32(-1), np.float32(1))
    y, dx = filled(*count, shape[2]), filled(*shape)
    winners = np.full(y[0].shape, 9, kind), np.full(y[0].shape, 9, kind)
    with np.errstate(all="ignore"):
        for way, out, winner, gradient in zip(WAYS, y, winners, dx, strict=True):
            way.extremes(x, sign, *window, *stride, out, winner)
            way.extremes_gradient(dy, winner, x, sign, dy[0, 0], *window, *stride, gradient)
    assert equal(*y)
    assert equal(*winners)
    assert equal(*dx)


LAYERS: list[dict[str, Any]] = [
    {"type": "conv2d", "channels": 5, "kernel": [3, 5]},
    {"type": "relu"},
    {"type": "maxpool2d", "size": 3, "stride": 2},
    {"type": "conv2d", "channels": 70, "kernel": 4, "bias": False},
    {"type": "groupnorm", "groups": 7},
    {"type": "maxpool2d", "size": 2},
    {"type": "relu"},
    {"type": "layernorm"},
    {"type": "conv2d", "channels": 9, "kernel": 3, "padding": "valid"},
    {"type": "relu"},
    {"type": "conv2d", "channels": 18, "groups": 9, "stride": 2},
    {"type": "gelu"},
    {"type": "conv2d", "channels": 18, "groups": 2, "dilation": 2},
    {"type": "silu"},
    {"type": "softmax"},
    {"type": "elu"},
    {"type": "flatten"},
    {"type": "layernorm"},
    {"type": "sigmoid"},
    {"type": "leakyrelu"},
    {"type": "dense"},
]


@pytest.mark.parametrize("samples", [1, 3])
def test_network_gradient_has_the_same_bits_with_compiled_loops(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).standard_normal((samples, 33, 30, 4)).astype(np.float32)
    results = []
    for way in WAYS:
        monkeypatch.setattr(interface, "choose_loops", lambda *_, way=way: way)
        network = Network.from_tables(LAYERS, (33, 30, 4), 10)
        gradient = np.empty(network.layout.size, np.float32)
        network.loss_and_gradient(network.init(0), images, np.arange(samples), None, gradient)
        results.append(gradient)
    assert equal(*results)


def test_compiled_loops_are_chosen_for_large_float32_work_only() -> None:
    assert interface.choose_loops(np.dtype(np.float32), 10**7) is compiled
    assert interface.choose_loops(np.dtype(np.float64), 10**7) is NUMPY
    assert interface.choose_loops(np.dtype(np.float32), 10**3) is NUMPY


@pytest.mark.slow
def test_changed_formulas_are_compiled_anew(tmp_path: Path) -> None:
    package = tmp_path / "cnnpar"
    shutil.copytree(ROOT / "cnnpar", package, ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import numpy as np\nfrom cnnpar.optim import compiled\n"
        "p, g = np.zeros(3, np.float32), np.ones(3, np.float32)\n"
        "compiled.sgd(p, g, *map(np.float32, (1, 1, 0)))\nprint(p[0])"
    )
    line = [sys.executable, "-c", code]

    def said() -> str:
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert said() == "-1.0\n"
    sgd = package / "optim" / "sgd.py"
    sgd.write_text(sgd.read_text().replace("(p - (g + p * decay) * rate,)", "(p + (g + p * decay) * rate,)"))
    assert said() == "1.0\n"
