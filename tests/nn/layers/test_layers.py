"""Every layer against its definition: finite differences, scipy, and linear algebra."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate
from scipy.special import ndtr
from scipy.special import softmax as scipy_softmax

from cnnpar.errors import InputError
from cnnpar.nn.conv import winograd
from cnnpar.nn.layers import LAYERS, Layer, register
from cnnpar.nn.shapes import Array
from cnnpar.nn.tables import named_layers
from cnnpar.nn.workspace import Workspace

# type, settings, input shapes without the samples: (H, W, C) or (features,). Conv2d on few channels and on many
# computes differently; sizes are odd, windows overlap, leave gaps and leave remainders.
CASES: list[tuple[str, dict[str, Any], list[tuple[int, ...]]]] = [
    ("conv2d", {"channels": 3}, [(5, 4, 1), (4, 5, 7), (1, 1, 2)]),
    ("conv2d", {"channels": 2, "kernel": [3, 2], "stride": [2, 3]}, [(7, 8, 2), (5, 6, 9)]),
    ("conv2d", {"channels": 2, "kernel": [2, 5], "padding": "valid", "bias": False}, [(4, 6, 1), (3, 5, 4)]),
    ("conv2d", {"channels": 9, "kernel": 2, "padding": [2, 1], "init": "glorot"}, [(3, 4, 8)]),
    ("conv2d", {"channels": 2, "kernel": [5, 3], "padding": [5, 0]}, [(3, 7, 4)]),
    ("conv2d", {"channels": 2, "kernel": 5, "stride": [1, 2]}, [(5, 6, 4)]),
    ("conv2d", {"channels": 2, "kernel": 1, "stride": 3, "padding": 1}, [(6, 5, 3), (5, 5, 17)]),
    ("conv2d", {"channels": 2, "kernel": 1}, [(3, 4, 17), (3, 4, 5)]),
    ("conv2d", {"channels": 2, "kernel": 1, "stride": 2, "padding": 1}, [(3, 3, 16)]),  # as many windows as pixels
    ("conv2d", {"channels": 4, "kernel": [3, 2], "dilation": [2, 3]}, [(7, 6, 2), (5, 4, 9)]),
    ("conv2d", {"channels": 2, "dilation": 2, "stride": [2, 3], "padding": [1, 4]}, [(8, 7, 3)]),
    ("conv2d", {"channels": 2, "kernel": 2, "dilation": [6, 4], "stride": [4, 6]}, [(9, 14, 2)]),
    ("conv2d", {"channels": 6, "groups": 3}, [(5, 4, 3), (3, 4, 6), (4, 3, 12)]),
    ("conv2d", {"channels": 5, "groups": 5, "stride": 2, "bias": False}, [(7, 6, 5)]),
    (
        "conv2d",
        {"channels": 6, "groups": 2, "stride": [1, 3], "dilation": [3, 2], "padding": 2},
        [(6, 7, 8), (6, 7, 2)],
    ),
    ("conv2d", {"channels": 6, "groups": 2, "kernel": 1}, [(3, 4, 8), (3, 4, 2)]),
    ("convtranspose2d", {"channels": 3}, [(4, 5, 2), (1, 3, 9)]),
    ("convtranspose2d", {"channels": 5, "padding": 1, "init": "glorot", "bias": False}, [(5, 4, 4), (1, 1, 1)]),
    ("convtranspose2d", {"channels": 2, "kernel": [4, 3], "stride": [2, 3], "padding": [1, 0]}, [(4, 3, 5)]),
    ("convtranspose2d", {"channels": 2, "kernel": [1, 2], "stride": 3, "output_padding": [0, 2]}, [(3, 2, 4)]),
    ("convtranspose2d", {"channels": 9, "kernel": 1}, [(3, 2, 17)]),
    ("maxpool2d", {}, [(4, 6, 3), (5, 7, 2)]),
    ("maxpool2d", {"size": [3, 2], "stride": [2, 1]}, [(7, 5, 2)]),
    ("maxpool2d", {"size": 2, "stride": 3}, [(8, 6, 2)]),
    ("maxpool2d", {"size": 1}, [(2, 3, 1)]),
    ("avgpool2d", {}, [(4, 6, 3), (5, 7, 2)]),
    ("avgpool2d", {"size": [3, 2], "stride": [2, 1]}, [(7, 5, 2)]),
    ("avgpool2d", {"size": 2, "stride": 3}, [(8, 6, 2)]),
    ("globalavgpool2d", {}, [(3, 5, 2), (1, 1, 3)]),
    ("upsample2d", {}, [(3, 2, 2), (1, 1, 1)]),
    ("upsample2d", {"factor": [1, 3]}, [(2, 3, 1)]),
    ("upsample2d", {"mode": "bilinear"}, [(3, 2, 2), (1, 1, 1)]),
    ("upsample2d", {"factor": [3, 4], "mode": "bilinear"}, [(2, 3, 2), (3, 1, 1)]),
    ("batchnorm2d", {}, [(3, 4, 2), (1, 2, 5)]),
    ("batchnorm2d", {"epsilon": 0.5, "momentum": 1.0}, [(5, 3, 1)]),
    ("groupnorm", {"groups": 2}, [(3, 5, 4), (1, 1, 6), (6,)]),
    ("groupnorm", {"groups": 1, "epsilon": 0.5}, [(2, 3, 3)]),
    ("groupnorm", {"groups": 3}, [(3, 2, 3), (3,)]),
    ("layernorm", {}, [(3, 5, 2), (1, 1, 1), (7,), (1,)]),
    ("layernorm", {"epsilon": 0.5}, [(2, 3, 1)]),
    ("dense", {"units": 4}, [(5,), (1,)]),
    ("flatten", {}, [(2, 3, 4), (6,)]),
    ("relu", {}, [(3, 2, 2), (7,)]),
    ("leakyrelu", {"slope": 0.2}, [(3, 2, 2), (7,)]),
    ("leakyrelu", {"slope": 0.0}, [(7,)]),
    ("sigmoid", {}, [(3, 2, 2), (7,)]),
    ("tanh", {}, [(3, 2, 2), (7,)]),
    ("elu", {}, [(3, 2, 2), (7,)]),
    ("elu", {"alpha": 0.3}, [(7,)]),
    ("silu", {}, [(3, 2, 2), (7,)]),
    ("gelu", {}, [(3, 2, 2), (7,)]),
    ("softmax", {}, [(3, 2, 4), (5,), (1,)]),
    ("dropout", {"rate": 0.4}, [(3, 2, 2), (7,)]),
    ("dropout", {"rate": 0.0}, [(7,)]),
    ("residual", {"layers": [{"type": "conv2d", "channels": 3}, {"type": "tanh"}]}, [(3, 4, 3)]),
    ("residual", {"layers": [], "shortcut": [{"type": "dense", "units": 4}]}, [(4,)]),
    (
        "residual",
        {
            "layers": [{"type": "dropout"}, {"type": "conv2d", "channels": 4, "stride": 2}, {"type": "batchnorm2d"}],
            "shortcut": [{"type": "conv2d", "channels": 4, "kernel": 1, "stride": 2, "bias": False}],
        },
        [(5, 4, 2)],
    ),
    (
        "residual",
        {"layers": [{"type": "dropout"}, {"type": "residual", "layers": [{"type": "dropout"}, {"type": "dense"}]}]},
        [(4,)],
    ),
]
ROWS = [
    pytest.param(kind, table, shape, id=f"{kind}-{table}-{shape}") for kind, table, shapes in CASES for shape in shapes
]


@pytest.fixture(autouse=True, scope="module")
def winograds_way_where_it_is_possible() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "_FEWEST", 0)  # however small
        yield


def make(kind: str, **table: Any) -> Layer:
    (layer,) = named_layers([{"type": kind, **table}], classes=4)
    return layer


def batch(shape: tuple[int, ...], samples: int, dtype: Any = np.float64, seed: int = 0) -> Array:
    """Return random numbers in the layout that layers pass on: (H, W, N, C) or (N, features)."""
    full = (*shape[:2], samples, shape[2]) if len(shape) == 3 else (samples, *shape)
    return np.random.default_rng(seed).standard_normal(full).astype(dtype)


class Bench:
    """A layer with parameters, and a workspace that outlives single passes, as in a network."""

    def __init__(self, layer: Layer, shape: tuple[int, ...], dtype: Any = np.float64) -> None:
        self.layer, self.work = layer, Workspace()
        random = np.random.default_rng(7)
        parameters, buffers = layer.parameters(shape), layer.buffers(shape)
        self.p = {name: random.standard_normal(p.shape).astype(dtype) for name, p in parameters.items()}
        self.buffers = {name: np.full(buffer.shape, buffer.start, dtype) for name, buffer in buffers.items()}
        self.work.p = {**self.p, **self.buffers}
        self.work.g = {name: np.full_like(p, np.nan) for name, p in self.work.p.items()}  # to be overwritten

    def forward(self, x: Array) -> Array:
        self.work.x, self.work.generator = x, np.random.Generator(np.random.Philox(3))
        self.work.generators = lambda place: np.random.Generator(np.random.Philox(place))
        self.work.y = self.layer.forward(x, self.work)
        return self.work.y

    def backward(self, dy: Array) -> Array:
        dx = self.layer.backward(dy, self.work)
        assert dx is not None
        return dx

    @property
    def gradients(self) -> Mapping[str, Array]:
        return self.work.g


def difference(bench: Bench, x: Array, variable: Array, dy: Array) -> Array:
    """Return central differences of sum(forward(x) * dy) by `variable`, which is changed in place and restored."""
    result, step = np.empty_like(variable), 1e-6
    for index in np.ndindex(variable.shape):
        value = variable[index]
        variable[index] = value + step
        above = float((bench.forward(x) * dy).sum())
        variable[index] = value - step
        below = float((bench.forward(x) * dy).sum())
        variable[index] = value
        result[index] = (above - below) / (2 * step)
    return result


def test_the_table_has_a_row_for_every_registered_layer() -> None:
    assert {kind for kind, _, _ in CASES} == set(LAYERS)


@pytest.mark.parametrize(("kind", "table", "shape"), ROWS)
@pytest.mark.parametrize("samples", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_gradients_are_the_finite_differences(
    kind: str, table: dict[str, Any], shape: tuple[int, ...], samples: int
) -> None:
    bench, x = Bench(make(kind, **table), shape), batch(shape, samples)
    dy = np.random.default_rng(1).standard_normal(bench.forward(x).shape)
    dx = bench.backward(dy).copy()
    gradients = {name: g.copy() for name, g in bench.gradients.items()}
    np.testing.assert_allclose(dx, difference(bench, x, x, dy), rtol=1e-6, atol=1e-7)
    for name, parameter in bench.p.items():
        np.testing.assert_allclose(gradients[name], difference(bench, x, parameter, dy), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("kind", "table", "shape"), ROWS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_output_has_the_dtype_and_shape_that_the_layer_declares(
    kind: str, table: dict[str, Any], shape: tuple[int, ...], dtype: Any
) -> None:
    layer = make(kind, **table)
    bench, x = Bench(layer, shape, dtype), batch(shape, 3, dtype)
    y = bench.forward(x)
    assert y.shape == batch(layer.output_shape(shape), 3).shape
    dx = bench.backward(y.copy())
    assert dx.shape == x.shape
    assert y.dtype == dx.dtype == dtype
    assert all(np.isfinite(g).all() for g in bench.gradients.values())


@pytest.mark.parametrize(("kind", "table", "shape"), ROWS)
def test_passes_change_no_input_and_ignore_earlier_passes(
    kind: str, table: dict[str, Any], shape: tuple[int, ...]
) -> None:
    used, fresh = Bench(make(kind, **table), shape), Bench(make(kind, **table), shape)
    with np.errstate(all="ignore"):
        used.backward(used.forward(np.full_like(batch(shape, 2), np.nan)).copy())
    x = batch(shape, 2, seed=5)
    kept = x.copy()
    for bench in (used, fresh):
        bench.dx = bench.backward(bench.forward(x) * 2.0)  # type: ignore[attr-defined]
    assert x.tobytes() == kept.tobytes()
    assert used.work.y.tobytes() == fresh.work.y.tobytes()
    assert used.dx.tobytes() == fresh.dx.tobytes()  # type: ignore[attr-defined]
    for name in used.p:
        assert used.gradients[name].tobytes() == fresh.gradients[name].tobytes()


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Layer, tuple[int, int, int]]:
    sizes = st.integers(1, 9)
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = draw(st.sampled_from(["same", "valid", 0, 1, (0, 2), (3, 1)]))
    dilation, groups = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (2, 3)])), draw(st.sampled_from([1, 1, 1, 2, 3]))
    layer = make("conv2d", channels=groups * draw(st.integers(1, 3)), kernel=kernel, padding=padding, groups=groups,
                 stride=draw(st.tuples(st.integers(1, 3), st.integers(1, 4))), dilation=dilation)  # fmt: skip
    height, width, depth = draw(st.tuples(sizes, sizes, st.sampled_from([1, 2, 5, 8, 16])))
    shape = height, width, groups * depth
    try:
        layer.output_shape(shape)
    except InputError:
        layer = msgspec.structs.replace(layer, padding="same")
    return layer, shape


def padded(layer: Any, x: Array) -> Array:
    """Return x (H, W, N, C) with zeros around, as `padding` is defined."""
    around = []
    for axis in range(2):
        window, stride = layer.dilation[axis] * (layer.kernel[axis] - 1) + 1, layer.stride[axis]
        if layer.padding == "same":
            zeros = max((-(-x.shape[axis] // stride) - 1) * stride + window - x.shape[axis], 0)
            around.append((zeros // 2, zeros - zeros // 2))
        else:
            zeros = 0 if layer.padding == "valid" else np.broadcast_to(layer.padding, 2)[axis]
            around.append((int(zeros), int(zeros)))
    return np.pad(x, (*around, (0, 0), (0, 0)))


def dilated(layer: Any, weight: Array) -> Array:
    """Return the kernel with `dilation - 1` zeros between its elements."""
    (rows, columns), (height, width) = layer.dilation, weight.shape[:2]
    wide = np.zeros((rows * (height - 1) + 1, columns * (width - 1) + 1, *weight.shape[2:]))
    wide[::rows, ::columns] = weight
    return wide


@given(convolutions())
@settings(max_examples=60, deadline=None)
def test_convolution_agrees_with_strided_scipy_correlation(case: tuple[Any, tuple[int, int, int]]) -> None:
    layer, shape = case
    bench, x = Bench(layer, shape), batch(shape, 2)
    y = bench.forward(x)
    wide, weight = padded(layer, x), dilated(layer, bench.p["weight"])
    for sample, channel in np.ndindex(2, layer.channels):
        group = channel // (layer.channels // layer.groups)
        seen = wide[:, :, sample, group * weight.shape[2] : (group + 1) * weight.shape[2]]
        expected = correlate(seen, weight[..., channel], mode="valid")[:: layer.stride[0], :: layer.stride[1], 0]
        np.testing.assert_allclose(
            y[:, :, sample, channel], expected + bench.p["bias"][channel], rtol=1e-10, atol=1e-10
        )


@given(convolutions())
@settings(max_examples=60, deadline=None)
def test_convolution_backward_is_the_transpose_of_forward(case: tuple[Layer, tuple[int, int, int]]) -> None:
    layer, shape = case
    bench, x = Bench(layer, shape), batch(shape, 2)
    bench.p["bias"][...] = 0
    y = bench.forward(x).copy()
    dy = np.random.default_rng(2).standard_normal(y.shape)
    dx, product = bench.backward(dy), np.vdot(y, dy)  # y is linear in x, and in the weight
    np.testing.assert_allclose(np.vdot(x, dx), product, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.vdot(bench.p["weight"], bench.gradients["weight"]), product, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(bench.gradients["bias"], dy.sum(axis=(0, 1, 2)), rtol=1e-9, atol=1e-9)


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3, 9])),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
@settings(max_examples=60, deadline=None)
def test_convtranspose_is_the_transpose_of_convolution(
    shape: tuple[int, int, int], kernel: Any, stride: Any, padding: Any, more: tuple[int, int]
) -> None:
    more = min(more[0], stride[0] - 1), min(more[1], stride[1] - 1)
    table: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding, "bias": False}
    layer = make("convtranspose2d", channels=2, output_padding=more, **table)
    try:
        large = layer.output_shape(shape)
    except InputError:
        return
    bench, back = Bench(layer, shape), Bench(make("conv2d", channels=shape[2], **table), (large[0], large[1], 2))
    back.p["weight"][...] = bench.p["weight"]
    x, image = batch(shape, 2), batch(large, 2, seed=1)
    np.testing.assert_allclose(np.vdot(bench.forward(x), image), np.vdot(x, back.forward(image)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "table", "expected"),
    [
        ("conv2d", {"kernel": [3, 2]}, 5 * 4 * 6 * (3 * 2 * 8)),
        ("conv2d", {"stride": 2, "padding": "valid"}, 2 * 1 * 6 * (3 * 3 * 8)),
        ("conv2d", {"dilation": 2, "padding": "valid", "kernel": [3, 2]}, 1 * 2 * 6 * (3 * 2 * 8)),
        ("conv2d", {"groups": 2}, 5 * 4 * 6 * (3 * 3 * 4)),
        ("convtranspose2d", {"stride": 2}, 5 * 4 * 8 * (3 * 3 * 6)),
    ],
)
def test_products_counts_the_multiplications_of_a_forward_pass(kind: str, table: dict[str, Any], expected: int) -> None:
    assert make(kind, channels=6, **table).products((5, 4, 8)) == expected


@pytest.mark.parametrize(("depth", "channels", "groups"), [(8, 12, 4), (6, 6, 6), (3, 1, 1)])
def test_fan_in_and_fan_out_count_one_group_of_a_convolution(depth: int, channels: int, groups: int) -> None:
    weight = make("conv2d", channels=channels, groups=groups).parameters((5, 5, depth))["weight"]
    assert weight.shape == (3, 3, depth // groups, channels)
    assert weight.fan_in == 9 * depth // groups
    assert weight.fan_out == 9 * channels // groups
    up = make("convtranspose2d", channels=channels, kernel=4, stride=2).parameters((5, 5, depth))["weight"]
    assert (up.fan_in, up.fan_out) == (4 * depth, 16 * channels)


def windows(x: Array, size: tuple[int, int], stride: tuple[int, int]) -> Iterator[tuple[int, int, Array]]:
    for i in range((x.shape[0] - size[0]) // stride[0] + 1):
        for j in range((x.shape[1] - size[1]) // stride[1] + 1):
            top, left = i * stride[0], j * stride[1]
            yield i, j, x[top : top + size[0], left : left + size[1]]


POOLINGS = st.tuples(
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(3, 8), st.integers(3, 8), st.integers(1, 3)),
)


@given(POOLINGS)
@settings(max_examples=40, deadline=None)
def test_pooling_takes_maximum_and_mean_of_whole_windows(case: tuple[Any, Any, Any]) -> None:
    size, stride, shape = case
    x = batch(shape, 2)
    highest = Bench(make("maxpool2d", size=size, stride=stride), shape).forward(x)
    mean = Bench(make("avgpool2d", size=size, stride=stride), shape).forward(x)
    count = 0
    for i, j, window in windows(x, size, stride):
        np.testing.assert_array_equal(highest[i, j], window.max(axis=(0, 1)))
        np.testing.assert_allclose(mean[i, j], window.mean(axis=(0, 1)), rtol=1e-12, atol=1e-12)
        count += 1
    assert count == highest.shape[0] * highest.shape[1] == mean.shape[0] * mean.shape[1]


@given(POOLINGS, st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_maxpool_gradient_goes_to_the_first_of_equal_maxima(case: tuple[Any, Any, Any], seed: int) -> None:
    size, stride, shape = case
    x = np.random.default_rng(seed).integers(0, 3, batch(shape, 2).shape).astype(np.float64)  # many ties
    bench = Bench(make("maxpool2d", size=size, stride=stride), shape)
    dy = np.random.default_rng(1).integers(1, 99, bench.forward(x).shape).astype(np.float64)
    expected = np.zeros_like(x)
    for i, j, window in windows(x, size, stride):
        for sample, channel in np.ndindex(x.shape[2:]):
            y, z = np.unravel_index(window[..., sample, channel].argmax(), size)  # argmax: the first
            expected[i * stride[0] + y, j * stride[1] + z, sample, channel] += dy[i, j, sample, channel]
    np.testing.assert_array_equal(bench.backward(dy), expected)


def test_globalavgpool_is_avgpool_with_one_window_per_image() -> None:
    x = batch((5, 7, 3), 2)
    mean = Bench(make("globalavgpool2d"), (5, 7, 3)).forward(x)
    window = Bench(make("avgpool2d", size=[5, 7]), (5, 7, 3)).forward(x)
    np.testing.assert_allclose(mean, window[0, 0], rtol=1e-12, atol=1e-12)


UPSAMPLINGS = st.tuples(
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3)),
)


@given(UPSAMPLINGS)
@settings(max_examples=40, deadline=None)
def test_upsampling_repeats_pixels_or_interpolates_bilinearly(case: tuple[Any, Any]) -> None:
    factor, shape = case
    x = batch(shape, 2)
    nearest = Bench(make("upsample2d", factor=factor), shape).forward(x)
    np.testing.assert_array_equal(nearest, x.repeat(factor[0], axis=0).repeat(factor[1], axis=1))
    expected = x
    for axis in (0, 1):
        centres, places = np.arange(shape[axis]) + 0.5, (np.arange(shape[axis] * factor[axis]) + 0.5) / factor[axis]
        expected = np.apply_along_axis(lambda line, to=places, at=centres: np.interp(to, at, line), axis, expected)
    bilinear = Bench(make("upsample2d", factor=factor, mode="bilinear"), shape).forward(x)
    np.testing.assert_allclose(bilinear, expected, rtol=1e-12, atol=1e-12)


@given(UPSAMPLINGS, st.sampled_from(["nearest", "bilinear"]))
@settings(max_examples=40, deadline=None)
def test_upsampling_backward_is_the_transpose_of_forward(case: tuple[Any, Any], mode: str) -> None:
    factor, shape = case
    bench, x = Bench(make("upsample2d", factor=factor, mode=mode), shape), batch(shape, 2)
    y = bench.forward(x).copy()
    dy = np.random.default_rng(2).standard_normal(y.shape)
    np.testing.assert_allclose(np.vdot(x, bench.backward(dy)), np.vdot(y, dy), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(5, 4, 6), (6,)])
def test_layernorm_and_groupnorm_normalise_each_sample_alone(shape: tuple[int, ...]) -> None:
    x = (100 + 10 * batch(shape, 3)).astype(np.float32)
    for layer, groups in ((make("layernorm"), 1), (make("groupnorm", groups=1), 1), (make("groupnorm", groups=3), 3)):
        bench = Bench(layer, shape, np.float32)
        bench.p["scale"].fill(1)
        bench.p["shift"].fill(0)
        y = bench.forward(x).copy()
        parts = y.reshape(-1, 3, groups, shape[-1] // groups)  # (pixels, samples, groups, channels)
        np.testing.assert_allclose(parts.mean(axis=(0, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(parts.var(axis=(0, 3)), 1, atol=1e-4)
        bench.work.training = False
        np.testing.assert_array_equal(bench.forward(x), y)
        alone = Bench(layer, shape, np.float32)
        alone.work.p = bench.work.p
        np.testing.assert_array_equal(alone.forward(x[..., 1:2, :])[..., 0, :], y[..., 1, :])


def test_groupnorm_per_channel_is_batchnorm_of_one_sample() -> None:
    shape = (4, 3, 5)
    x, dy = batch(shape, 1), batch(shape, 1, seed=1)
    group, norm = Bench(make("groupnorm", groups=5), shape), Bench(make("batchnorm2d"), shape)
    np.testing.assert_allclose(group.forward(x), norm.forward(x), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(group.backward(dy), norm.backward(dy), rtol=1e-12, atol=1e-12)
    for name in ("scale", "shift"):
        np.testing.assert_allclose(group.gradients[name], norm.gradients[name], rtol=1e-12, atol=1e-12)


def test_dropout_zeroes_its_rate_and_rescales_the_rest() -> None:
    bench = Bench(make("dropout", rate=0.25), (50, 40, 2), np.float32)
    y = bench.forward(np.ones((50, 40, 5, 2), np.float32))
    assert np.unique(y).tolist() == [0.0, float(np.float32(1 / 0.75))]
    assert abs((y == 0).mean() - 0.25) < 0.02
    np.testing.assert_array_equal(bench.backward(np.ones_like(y)), y)  # the same mask, the same factor


def test_dropout_mask_depends_on_its_generator_only() -> None:
    x, masks = np.ones((8, 100), np.float32), []
    for key in (1, 1, 2):
        bench = Bench(make("dropout"), (100,), np.float32)
        bench.work.generator = np.random.Generator(np.random.Philox(key))
        masks.append(bench.layer.forward(x, bench.work).copy())
    assert (masks[0] == masks[1]).all()
    assert (masks[0] != masks[2]).any()


def test_activations_at_zero_infinity_and_nan_have_known_values() -> None:
    x = np.array([[-np.inf, -1e30, -0.0, 0.0, 1e30, np.inf, np.nan]], np.float32)
    with np.errstate(all="ignore"):
        results = {
            kind: Bench(make(kind), (7,), np.float32).forward(x)[0]
            for kind in ("relu", "sigmoid", "tanh", "leakyrelu", "elu", "silu", "gelu")
        }
    np.testing.assert_array_equal(results["relu"], np.array([0, 0, 0, 0, 1e30, np.inf, np.nan], np.float32))
    np.testing.assert_array_equal(results["sigmoid"], np.array([0, 0, 0.5, 0.5, 1, 1, np.nan], np.float32))
    np.testing.assert_array_equal(results["tanh"], np.array([-1, -1, 0, 0, 1, 1, np.nan], np.float32))
    np.testing.assert_array_equal(
        results["leakyrelu"], np.array([-np.inf, -1e28, 0, 0, 1e30, np.inf, np.nan], np.float32)
    )
    np.testing.assert_array_equal(results["elu"], np.array([-1, -1, 0, 0, 1e30, np.inf, np.nan], np.float32))
    for kind in ("silu", "gelu"):  # minus infinity times 0 is no number, as in PyTorch
        np.testing.assert_array_equal(results[kind], np.array([np.nan, 0, 0, 0, 1e30, np.inf, np.nan], np.float32))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 2e-6)])
def test_gelu_is_x_times_scipys_normal_distribution(dtype: Any, tolerance: float) -> None:
    x = np.linspace(-12, 12, 70_001).astype(dtype)  # more than are worked on at a time
    y = Bench(make("gelu"), x.shape, dtype).forward(x[np.newaxis])[0]
    np.testing.assert_allclose(y, x * ndtr(x.astype(np.float64)), rtol=tolerance, atol=tolerance / 10)


@pytest.mark.parametrize("shape", [(3, 2, 5), (5,)])
def test_softmax_agrees_with_scipy_on_small_and_large_numbers(shape: tuple[int, ...]) -> None:
    for scale in (1, 1e4):
        x = scale * batch(shape, 3)
        y = Bench(make("softmax"), shape).forward(x)
        np.testing.assert_allclose(y, scipy_softmax(x, axis=-1), rtol=1e-12, atol=1e-300)


def test_registering_a_second_layer_of_one_type_is_refused() -> None:
    class Twin(Layer, frozen=True, tag="relu"):
        """Another relu."""

    with pytest.raises(ValueError, match="'relu' is registered already: ReLU"):
        register(Twin)
    assert LAYERS["relu"] is not Twin
