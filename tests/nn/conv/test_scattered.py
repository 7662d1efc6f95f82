"""The gradient of images by a product for each element of the kernel: the transpose of the convolution."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnpar.nn.conv import im2col, scattered
from cnnpar.nn.windows import Windows
from cnnpar.nn.workspace import Workspace

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
FEW = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(SIZES, FEW, FEW, st.tuples(st.integers(-9, 9), st.integers(-9, 9)), SIZES)
@settings(max_examples=100, deadline=None)
def test_transposed_convolution_is_the_transpose(
    size: tuple[int, int],
    taps: tuple[int, int],
    stride: tuple[int, int],
    start: tuple[int, int],
    count: tuple[int, int],
) -> None:
    random, windows = np.random.default_rng(0), Windows(start, stride, count)
    x, dy = random.standard_normal((*size, 2, 3)), random.standard_normal((*count, 2, 5))
    kernel, bias = random.standard_normal((*taps, 3, 5)), random.standard_normal(3)
    y = im2col.correlate(x, kernel, None, windows, Workspace())
    work = Workspace()
    dx = scattered.transposed(dy, kernel, None, windows, x.shape, work).copy()
    np.testing.assert_allclose(np.vdot(x, dx), np.vdot(y, dy), atol=1e-9)
    np.testing.assert_allclose(scattered.transposed(dy, kernel, bias, windows, x.shape, work), dx + bias, atol=1e-9)


@pytest.mark.parametrize("numbers", [1, 300])
def test_bands_change_nothing_but_rounding(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random, windows = np.random.default_rng(0), Windows((-1, -1), (2, 2), (8, 8))
    dy, kernel = random.standard_normal((8, 8, 2, 5)), random.standard_normal((3, 3, 16, 5))
    whole = scattered.transposed(dy, kernel, None, windows, (16, 16, 2, 16), Workspace())
    monkeypatch.setattr(scattered, "_BAND", numbers)
    banded = scattered.transposed(dy, kernel, None, windows, (16, 16, 2, 16), Workspace())
    np.testing.assert_allclose(banded, whole, atol=1e-12)
