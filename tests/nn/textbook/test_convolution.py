"""The textbook's convolutions against scipy.signal, finite differences, and each other."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from cnnpar.nn.shapes import Array
from cnnpar.nn.textbook import convolution, in_scipy
from cnnpar.nn.textbook.convolution import Geometry

BOTH = pytest.mark.parametrize("functions", [convolution, in_scipy], ids=["numpy", "scipy"])
SMALL = st.integers(1, 3)
PAIRS = st.tuples(SMALL, SMALL)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Array, Array, Geometry]:
    """Draw an image x, a kernel w that fits into it, and the geometry, with remainders at the end of the image."""
    groups, size, dilation = draw(SMALL), draw(PAIRS), draw(PAIRS)
    padding = draw(st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2))
    extent = [apart * (taps - 1) + 1 for taps, apart in zip(size, dilation, strict=True)]
    image = [max(whole - sum(zeros), 1) + draw(st.integers(0, 4)) for whole, zeros in zip(extent, padding, strict=True)]
    random = np.random.default_rng(draw(st.integers(0, 99)))
    depth, channels = groups * draw(SMALL), groups * draw(SMALL)
    x = random.standard_normal((2, *image, depth))
    w = random.standard_normal((*size, depth // groups, channels))
    return x, w, Geometry(draw(PAIRS), padding, dilation, groups)


@BOTH
@given(cases())
@settings(max_examples=40, deadline=None)
def test_convolution_is_what_scipy_signal_correlate_gives(functions: Any, case: tuple[Array, Array, Geometry]) -> None:
    x, w, (stride, padding, dilation, groups) = case
    y = functions.correlate(x, w, Geometry(stride, padding, dilation, groups))
    wide = np.zeros([apart * (taps - 1) + 1 for apart, taps in zip(dilation, w.shape, strict=False)] + [*w.shape[2:]])
    wide[:: dilation[0], :: dilation[1]] = w
    image, depth = np.pad(x, ((0, 0), *padding, (0, 0))), w.shape[2]
    for n, k in np.ndindex(len(x), w.shape[3]):
        first = k // (w.shape[3] // groups) * depth
        expected = correlate(image[n, :, :, first : first + depth], wide[..., k], mode="valid", method="direct")
        np.testing.assert_allclose(y[n, :, :, k], expected[:: stride[0], :: stride[1], 0], rtol=1e-10, atol=1e-10)


@BOTH
@given(cases())
@settings(max_examples=25, deadline=None)
def test_both_gradients_are_the_finite_differences(functions: Any, case: tuple[Array, Array, Geometry]) -> None:
    x, w, geometry = case
    dy = np.random.default_rng(5).standard_normal(functions.correlate(x, w, geometry).shape)
    dx = functions.image_gradient(dy, w, x.shape, geometry)
    dw = functions.kernel_gradient(x, dy, w.shape[:2], geometry)
    for variable, gradient in ((x, dx), (w, dw)):
        assert gradient.shape == variable.shape
        for number in range(0, variable.size, 5):  # y is linear in both: a difference of any size is exact
            index = np.unravel_index(number, variable.shape)
            value = variable[index]
            variable[index] = value + 1
            above = np.vdot(functions.correlate(x, w, geometry), dy)
            variable[index] = value - 1
            below = np.vdot(functions.correlate(x, w, geometry), dy)
            variable[index] = value
            np.testing.assert_allclose(gradient[index], (above - below) / 2, rtol=1e-9, atol=1e-9)


@BOTH
def test_float32_stays_float32(functions: Any) -> None:
    x, w = np.ones((1, 4, 4, 2), np.float32), np.ones((3, 3, 2, 1), np.float32)
    y = functions.correlate(x, w, Geometry())
    assert y.dtype == functions.kernel_gradient(x, y, (3, 3), Geometry()).dtype == np.float32
    assert functions.image_gradient(y, w, x.shape, Geometry()).dtype == np.float32
    assert (y == 18).all()
