"""Softmax cross-entropy: its definition, its gradient, and numbers that overflow naive code."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from scipy.special import softmax as scipy_softmax

from cnnpar.nn.losses import softmax, softmax_cross_entropy


def logits(samples: int, classes: int, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(samples).standard_normal((samples, classes)) * scale


@given(st.integers(1, 9), st.integers(1, 12), st.floats(0, 1e4))
@settings(deadline=None)
def test_loss_and_probabilities_are_scipys(samples: int, classes: int, scale: float) -> None:
    z = logits(samples, classes, scale)
    labels = np.arange(samples) % classes
    loss, correct, _ = softmax_cross_entropy(z, labels)
    np.testing.assert_allclose(loss, -log_softmax(z, axis=1)[np.arange(samples), labels].sum(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(softmax(z), scipy_softmax(z, axis=1), rtol=1e-12, atol=1e-300)
    assert correct == (z.argmax(axis=1) == labels).sum()


def test_gradient_is_the_finite_difference_of_the_sum() -> None:
    z, labels, step = logits(3, 4), np.array([2, 0, 3]), 1e-6
    _, _, gradient = softmax_cross_entropy(z, labels)
    for index in np.ndindex(z.shape):
        near = np.zeros_like(z)
        near[index] = step
        rise = softmax_cross_entropy(z + near, labels)[0] - softmax_cross_entropy(z - near, labels)[0]
        assert gradient[index] == pytest.approx(rise / (2 * step), abs=1e-8)


def test_huge_logits_give_a_finite_loss_and_gradient() -> None:
    z = np.array([[3e38, -3e38, 0], [-3e38, -3e38, -3e38]], np.float32)
    loss, correct, gradient = softmax_cross_entropy(z, np.array([0, 1]))
    assert loss == pytest.approx(np.log(3))
    assert correct == 1
    assert np.isfinite(gradient).all()


def test_a_loss_of_float32_logits_is_summed_in_float64() -> None:
    z = np.zeros((3000, 10), np.float32)
    loss, _, gradient = softmax_cross_entropy(z, np.zeros(3000, int))
    assert loss == pytest.approx(3000 * np.log(10), rel=1e-14)
    assert gradient.dtype == np.float64


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_logit_that_is_not_finite_makes_the_loss_not_a_number(bad: float) -> None:
    z = logits(4, 3)
    z[1, 2] = bad
    with np.errstate(all="ignore"):
        assert np.isnan(softmax_cross_entropy(z, np.array([0, 1, 2, 0]))[0])


def test_of_equal_logits_the_first_class_is_the_answer() -> None:
    assert softmax_cross_entropy(np.zeros((3, 5)), np.array([0, 1, 0]))[1] == 2


def test_probabilities_of_a_sample_do_not_depend_on_its_neighbours() -> None:
    z = logits(6, 4, 30.0)
    assert softmax(z)[2:3].tobytes() == softmax(z[2:3]).tobytes()
