"""Losses against scipy and PyTorch, their gradients by finite differences, and logits that overflow naive code."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax
from scipy.special import softmax as scipy_softmax

from cnnpar.config.choices import MSE, BinaryCrossEntropy, CrossEntropy, Hinge, Loss
from cnnpar.nn.functions import Matrix, softmax
from cnnpar.nn.losses import loss, one_hot, probabilities

PLAIN = CrossEntropy()
LOSSES: dict[str, Loss] = {
    "cross_entropy": PLAIN,
    "smoothed": CrossEntropy(label_smoothing=0.1),
    "weighted": CrossEntropy(class_weights=(1.0, 0.5, 0.0, 3.0)),
    "smoothed and weighted": CrossEntropy(label_smoothing=0.3, class_weights=(1.0, 0.5, 0.0, 3.0)),
    "mse": MSE(),
    "binary_cross_entropy": BinaryCrossEntropy(),
    "hinge": Hinge(),
    "wide hinge": Hinge(margin=2.5),
}
ORACLES: dict[type[Loss], Any] = {BinaryCrossEntropy: expit, CrossEntropy: scipy_softmax}
ALL = pytest.mark.parametrize("chosen", LOSSES.values(), ids=LOSSES)


def logits(samples: int, classes: int, scale: float = 1.0) -> Matrix:
    return np.random.default_rng(samples).standard_normal((samples, classes)) * scale


def shares(samples: int, classes: int) -> Matrix:
    """Return soft targets (samples, classes), in which every class has a share."""
    return np.random.default_rng(1).dirichlet(np.ones(classes), samples)


@given(st.integers(1, 9), st.integers(1, 12), st.floats(0, 1e4))
@settings(deadline=None)
def test_cross_entropy_and_softmax_agree_with_scipy(samples: int, classes: int, scale: float) -> None:
    z = logits(samples, classes, scale)
    labels = np.arange(samples) % classes
    value, _ = loss(PLAIN, z, one_hot(labels, classes))
    np.testing.assert_allclose(value, -log_softmax(z, axis=1)[np.arange(samples), labels].sum(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(softmax(z), scipy_softmax(z, axis=1), rtol=1e-12, atol=1e-300)


@ALL
@pytest.mark.parametrize("mixed", [False, True])
def test_gradient_is_the_finite_difference_of_the_loss(chosen: Loss, mixed: bool) -> None:
    z, step = logits(3, 4), 1e-6
    targets = shares(3, 4) if mixed else one_hot(np.array([2, 0, 3]), 4)
    _, gradient = loss(chosen, z, targets)
    for index in np.ndindex(z.shape):
        near = np.zeros_like(z)
        near[index] = step
        rise = loss(chosen, z + near, targets)[0] - loss(chosen, z - near, targets)[0]
        assert gradient[index] == pytest.approx(rise / (2 * step), abs=1e-8)


@ALL
def test_losses_and_gradients_agree_with_pytorch(chosen: Loss) -> None:
    torch = pytest.importorskip("torch")
    z, labels = logits(6, 4, 3.0), np.array([0, 3, 2, 1, 1, 0])
    tz, targets = torch.from_numpy(z).requires_grad_(), torch.from_numpy(one_hot(labels, 4))
    functional = torch.nn.functional
    expected: Any
    if isinstance(chosen, CrossEntropy):
        weights = torch.tensor(chosen.class_weights, dtype=torch.float64) if chosen.class_weights else None
        expected = functional.cross_entropy(
            tz, torch.from_numpy(labels), weights, reduction="sum", label_smoothing=chosen.label_smoothing
        )
    elif isinstance(chosen, Hinge):
        expected = functional.multi_margin_loss(tz, torch.from_numpy(labels), margin=chosen.margin, reduction="sum")
    elif isinstance(chosen, MSE):
        expected = functional.mse_loss(tz, targets, reduction="sum") / 4
    else:
        expected = functional.binary_cross_entropy_with_logits(tz, targets, reduction="sum") / 4
    expected.backward()
    value, gradient = loss(chosen, z, one_hot(labels, 4))
    assert value == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(gradient, tz.grad.numpy(), rtol=1e-10, atol=1e-12)


@ALL
def test_loss_of_soft_targets_is_the_weighted_mean_over_labels(chosen: Loss) -> None:
    if isinstance(chosen, MSE):
        pytest.skip("its targets are squared")
    z, targets = logits(1, 4), shares(1, 4)
    whole = sum(targets[0, label] * loss(chosen, z, one_hot(np.array([label]), 4))[0] for label in range(4))
    assert loss(chosen, z, targets)[0] == pytest.approx(whole, rel=1e-12)


def test_huge_logits_give_a_finite_cross_entropy_and_gradient() -> None:
    z = np.array([[3e38, -3e38, 0], [-3e38, -3e38, -3e38]], np.float32)
    value, gradient = loss(PLAIN, z, one_hot(np.array([0, 1]), 3))
    assert value == pytest.approx(np.log(3))
    assert np.isfinite(gradient).all()


def test_huge_logits_saturate_the_sigmoid_without_a_warning() -> None:
    z = np.array([[1e30, -1e30]], np.float32)
    assert probabilities(BinaryCrossEntropy(), z).tolist() == [[1.0, 0.0]]
    assert loss(BinaryCrossEntropy(), z, np.array([[1.0, 0.0]]))[0] == 0.0


@pytest.mark.parametrize("chosen", [BinaryCrossEntropy(), PLAIN], ids=["sigmoid", "softmax"])
@pytest.mark.parametrize("row", [[40, 60, 50, 60], [-800, -760, -770, -900], [0, 1e-20, 0, 0], [3, 3, 3, 3]])
def test_the_answer_keeps_the_largest_probability(chosen: Loss, row: list[float]) -> None:
    z = np.array([[1.0, 2.0, 0.0, 0.0], row], np.float32)
    found = probabilities(chosen, z)
    assert found.argmax(axis=1).tolist() == z.argmax(axis=1).tolist()
    np.testing.assert_allclose(found[1], ORACLES[type(chosen)](z[1].astype(float)), rtol=1e-15, atol=1e-300)


def test_loss_of_float32_logits_is_summed_in_float64() -> None:
    z = np.zeros((3000, 10), np.float32)
    value, gradient = loss(PLAIN, z, one_hot(np.zeros(3000, int), 10))
    assert value == pytest.approx(3000 * np.log(10), rel=1e-14)
    assert gradient.dtype == np.float64


@ALL
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_or_infinite_logits_give_a_loss_that_is_not_finite(chosen: Loss, bad: float) -> None:
    z = logits(4, 4)
    z[1, 3] = bad
    with np.errstate(all="ignore"):
        assert not np.isfinite(loss(chosen, z, one_hot(np.array([0, 1, 2, 0]), 4))[0])


def test_softmax_of_a_sample_does_not_depend_on_its_batch() -> None:
    z = logits(6, 4, 30.0)
    assert softmax(z)[2:3].tobytes() == softmax(z[2:3]).tobytes()
