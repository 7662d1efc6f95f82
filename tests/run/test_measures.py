"""Numbers about answers, against scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnpar.config.choices import MSE, CrossEntropy
from cnnpar.data.dataset import Dataset, Pixels
from cnnpar.report.html.confusion import most_confused
from cnnpar.report.scores import class_scores
from cnnpar.run import measures
from cnnpar.run.answers import Answers


def made(samples: int, classes: int, seed: int) -> Answers:
    """Return answers of any quality to images of noise; some classes may have no image, or no answer."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    logits = rng.normal(size=(samples, classes)) * rng.choice([0.1, 1, 5]) + 2 * np.eye(classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    images = rng.integers(0, 256, (samples, 2, 2, 1), dtype=np.uint8)
    return Answers(Dataset(images, labels, tuple(f"class {number}" for number in range(classes))), probabilities)


some_answers = st.builds(made, st.integers(1, 60), st.integers(2, 7), st.integers(0, 2**32 - 1))


@given(some_answers)
@settings(deadline=None)
def test_scores_by_class_are_those_of_scikit_learn(answers: Answers) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    labels, names = range(answers.probabilities.shape[1]), answers.data.class_names
    matrix = measures.confusion_matrix(answers)
    np.testing.assert_array_equal(matrix, metrics.confusion_matrix(answers.data.labels, answers.classes, labels=labels))
    found = class_scores(matrix, names)
    wanted = metrics.precision_recall_fscore_support(
        answers.data.labels, answers.classes, labels=labels, zero_division=np.nan
    )
    for one, precision, recall, f1, images in zip(found, *wanted, strict=True):
        assert one.images == images
        for own, theirs in ((one.precision, precision), (one.recall, recall), (one.f1, f1)):
            assert (np.nan if own is None else own) == pytest.approx(theirs, nan_ok=True)


@given(some_answers)
@settings(deadline=None)
def test_the_reliability_curve_is_that_of_scikit_learn(answers: Answers) -> None:
    curve = pytest.importorskip("sklearn.calibration").calibration_curve
    found = measures.calibration(answers, are_probabilities=True)
    right, probability = curve(answers.right, answers.probabilities.max(axis=1), n_bins=10)
    there = [one for one in found.bins if one.images]
    np.testing.assert_allclose([one.right for one in there], right)
    np.testing.assert_allclose([one.probability for one in there], probability)
    assert sum(one.images for one in there) == len(answers.data)
    gaps = [abs(one.right - one.probability) * one.images for one in there]
    assert found.error == pytest.approx(sum(gaps) / len(answers.data))


@given(some_answers, st.integers(1, 20))
@settings(deadline=None)
def test_the_worst_mistakes_come_first(answers: Answers, most: int) -> None:
    found = measures.worst_mistakes(answers, most)
    wrong = np.flatnonzero(~answers.right)
    assert len(found) == min(len(wrong), most)
    own = answers.probabilities[np.arange(len(answers.data)), answers.data.labels]
    assert [one.of_label for one in found] == sorted(own[wrong])[:most]
    for one in found:
        assert one.label == answers.data.class_names[answers.data.labels[one.row - 1]] != one.answer
        np.testing.assert_array_equal(one.image, answers.data.images[one.row - 1, ..., 0])


def test_the_most_confused_classes_are_counted() -> None:
    matrix = np.array([[9, 3, 0], [0, 5, 0], [1, 4, 2]])
    found = most_confused(matrix, ("a", "b", "c"), 2)
    assert [tuple(one) for one in found] == [("c", "b", 4, 7), ("a", "b", 3, 12)]
    assert most_confused(np.diag([1, 2]), ("a", "b")) == []


def test_outputs_of_some_losses_are_no_probabilities() -> None:
    answers = made(20, 3, 0)
    assert measures.judge(answers, "some", CrossEntropy()).calibration.are_probabilities
    assert not measures.judge(answers, "some", MSE()).calibration.are_probabilities


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_images_of_any_kind_can_be_shown(dtype: type, channels: int) -> None:
    images: Pixels = np.random.default_rng(0).integers(0, 200, (4, 3, 5, channels)).astype(dtype)
    answers = Answers(Dataset(images, np.zeros(4, np.int64), ("a", "b")), np.tile([0.2, 0.8], (4, 1)))
    for one in measures.worst_mistakes(answers, 4):
        assert one.image.dtype == np.uint8
        assert one.image.shape == ((3, 5) if channels < 3 else (3, 5, 3))
