"""The textbook's pooling and dense layers against scipy.ndimage, and finite differences."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from cnnpar.nn.shapes import Array, Pair
from cnnpar.nn.textbook import dense, pooling

CASES = pytest.mark.parametrize(
    ("size", "stride"), [((2, 2), (2, 2)), ((3, 2), (1, 2)), ((2, 3), (3, 1)), ((1, 1), (2, 2))]
)


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def differences(function: Callable[[], Array], variable: Array, dy: Array) -> Array:
    """Return central differences of sum(function() * dy) by the variable, which is restored."""
    result, step = np.empty_like(variable), 1e-6
    for index in np.ndindex(variable.shape):
        value = variable[index]
        variable[index] = value + step
        above = np.vdot(function(), dy)
        variable[index] = value - step
        result[index] = (above - np.vdot(function(), dy)) / (2 * step)
        variable[index] = value
    return result


def filtered(name: str, x: Array, size: Pair, stride: Pair) -> Array:
    """Return what a filter of scipy.ndimage gives at the windows that lie inside of the image."""
    whole = getattr(ndimage, name)(x, size=(1, *size, 1))  # centred at size // 2
    inside = [slice(taps // 2, axis - (taps - 1) // 2) for taps, axis in zip(size, x.shape[1:3], strict=True)]
    found: Array = whole[:, inside[0], inside[1]][:, :: stride[0], :: stride[1]]
    return found


@CASES
def test_pooling_is_what_filters_of_scipy_give(size: Pair, stride: Pair) -> None:
    x = random(2, 7, 6, 3)
    np.testing.assert_array_equal(pooling.maximum(x, size, stride), filtered("maximum_filter", x, size, stride))
    np.testing.assert_allclose(pooling.mean(x, size, stride), filtered("uniform_filter", x, size, stride), atol=1e-12)


@CASES
def test_pooling_gradients_are_the_finite_differences(size: Pair, stride: Pair) -> None:
    x = random(2, 5, 6, 2)
    dy = random(*pooling.mean(x, size, stride).shape, seed=1)
    expected = differences(lambda: pooling.maximum(x, size, stride), x, dy)
    np.testing.assert_allclose(pooling.maximum_gradient(x, dy, size, stride), expected, atol=1e-8)
    expected = differences(lambda: pooling.mean(x, size, stride), x, dy)
    np.testing.assert_allclose(pooling.mean_gradient(dy, x.shape, size, stride), expected, atol=1e-8)


def test_the_first_of_equal_maxima_gets_the_gradient() -> None:
    x, dy = np.zeros((1, 2, 2, 1)), np.ones((1, 1, 1, 1))
    assert pooling.maximum_gradient(x, dy, (2, 2), (2, 2)).ravel().tolist() == [1, 0, 0, 0]


def test_dense_and_relu_gradients_are_the_finite_differences() -> None:
    x, W, b = random(3, 4), random(4, 5, seed=1), random(5, seed=2)
    dy = random(3, 5, seed=3)
    for variable, gradient in zip((x, W, b), dense.affine_gradients(x, dy, W), strict=True):
        np.testing.assert_allclose(gradient, differences(lambda: dense.affine(x, W, b), variable, dy), atol=1e-8)
    dy = random(3, 4, seed=4)
    np.testing.assert_allclose(dense.relu_gradient(x, dy), differences(lambda: dense.relu(x), x, dy), atol=1e-8)
    assert dense.relu_gradient(np.zeros(1), np.ones(1)) == 0
