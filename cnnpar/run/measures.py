"""Numbers about the answers of a model: confusion matrix, scores by class, calibration, the worst mistakes."""

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.choices import MSE, Hinge, Loss
from cnnpar.data.dataset import Pixels
from cnnpar.nn.confusion import MOST_CLASSES
from cnnpar.report import intervals
from cnnpar.report.html.contents import Bin, Calibration, Judged, Mistake
from cnnpar.report.html.mosaic import as_image
from cnnpar.report.scores import class_scores
from cnnpar.run.answers import Answers

MOST_MISTAKES = 64
_BINS = 10


def judge(answers: Answers, what: str, loss: Loss) -> Judged:
    """Measure answers to the images that `what` names; `loss`: what the model was trained by."""
    total, correct = len(answers.data), int(answers.right.sum())
    names = answers.data.class_names
    matrix = confusion_matrix(answers) if len(names) <= MOST_CLASSES else None
    return Judged(
        what=what,
        total=total,
        correct=correct,
        interval=intervals.of_share(correct, total),
        classes=[] if matrix is None else class_scores(matrix, names),
        matrix=matrix,
        mistakes=worst_mistakes(answers, MOST_MISTAKES),
        calibration=calibration(answers, are_probabilities=not isinstance(loss, MSE | Hinge)),
    )


def confusion_matrix(answers: Answers) -> NDArray[np.int64]:
    """Return how many images of a class (row) were taken for a class (column): (K, K)."""
    classes = answers.probabilities.shape[1]
    places = answers.data.labels * classes + answers.classes
    return np.bincount(places, minlength=classes * classes).reshape(classes, classes)


def calibration(answers: Answers, *, are_probabilities: bool) -> Calibration:
    """Return the answers in ten ranges of their probability, and the expected calibration error.

    That is the mean over the images of the distance, in their range, between mean probability and share of right
    answers. Source: Guo et al., "On calibration of modern neural networks", ICML 2017, equation 3.
    """
    probability = answers.probabilities.max(axis=1)  # (N,)
    edges = np.linspace(0, 1, _BINS + 1)
    places = np.searchsorted(edges[1:-1], probability)  # (N,): a number on an edge belongs to the range below
    bins, error = [], 0.0
    for number in range(_BINS):
        own = places == number
        count = int(own.sum())
        mean = float(probability[own].mean()) if count else np.nan
        right = float(answers.right[own].mean()) if count else np.nan
        bins.append(Bin(float(edges[number]), float(edges[number + 1]), count, mean, right))
        error += abs(mean - right) * count / len(places) if count else 0.0
    return Calibration(bins, error, are_probabilities)


def worst_mistakes(answers: Answers, most: int) -> list[Mistake]:
    """Return the wrong answers whose labels got the lowest probabilities, the lowest first."""
    data, names = answers.data, answers.data.class_names
    wrong = np.flatnonzero(~answers.right)
    of_label = answers.probabilities[wrong, data.labels[wrong]]
    low, high = pixel_range(data.images)
    return [
        Mistake(
            row=data.row(index),
            label=names[data.labels[index]],
            answer=names[answers.classes[index]],
            probability=float(answers.probabilities[index].max()),
            of_label=float(answers.probabilities[index, data.labels[index]]),
            image=as_image(data.images[index], low, high),
            file=data.file(index),
        )
        for index in wrong[np.argsort(of_label, kind="stable")][:most]
    ]


def pixel_range(images: Pixels) -> tuple[float, float]:
    """Return the values that are shown as black and white: those of the type for bytes, else the extremes."""
    return (0.0, 255.0) if images.dtype == np.uint8 else (float(images.min()), float(images.max()))
