"""Loss functions of logits and targets (N, classes): sums over the samples, with their gradients, in float64.

A row of targets is 1 at the label, or has shares of several labels. A NaN or an infinity among the logits gives a loss
of NaN, except where the loss is rightly infinite.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.choices import MSE, BinaryCrossEntropy, CrossEntropy, Hinge, Loss
from cnnpar.nn.functions import Matrix, sigmoid, softmax
from cnnpar.nn.shapes import Array


def one_hot(labels: NDArray[np.integer[Any]], classes: int) -> Matrix:
    """Return the targets (N, classes) of labels (N,): 1 at the label, 0 elsewhere."""
    targets = np.zeros((len(labels), classes))
    targets[np.arange(len(labels)), labels] = 1.0
    return targets


def loss(settings: Loss, logits: Array, targets: Matrix) -> tuple[float, Matrix]:
    """Return the loss, summed over the samples, and its gradient with regard to the logits (N, classes)."""
    function = _LOSSES[type(settings)]
    value, gradient = function(settings, logits.astype(np.float64), targets)
    return float(value), gradient


def probabilities(settings: Loss, logits: Array) -> Matrix:
    """Return the probability of each class (N, classes): softmax, or sigmoid for the binary cross-entropy.

    The first largest one is that of the answer, the first largest logit, also where others are rounded to the same.
    """
    found = sigmoid(logits.astype(np.float64)) if isinstance(settings, BinaryCrossEntropy) else softmax(logits)
    answers = logits.argmax(axis=1)
    for row in np.flatnonzero(found.argmax(axis=1) != answers):
        before, answer = found[row, : answers[row]], answers[row]
        found[row, answer] = max(found[row, answer], np.nextafter(0.0, 1.0))
        np.minimum(before, np.nextafter(found[row, answer], 0.0), out=before)
    return found


def _cross_entropy(settings: CrossEntropy, z: Matrix, targets: Matrix) -> tuple[Any, Matrix]:
    """Compute -weight * target * log softmax, as PyTorch's cross_entropy.

    Smoothing spreads the share label_smoothing of a target evenly over all classes (Szegedy et al. 2016, section 7).
    """
    smoothing = settings.label_smoothing
    if smoothing:
        targets = targets * (1 - smoothing) + smoothing / z.shape[1]
    if settings.class_weights:
        targets = targets * np.array(settings.class_weights)
    z -= np.maximum.reduce(z, axis=1, keepdims=True)  # so that exp gets 0 at most
    exponentials = np.exp(z)
    totals = np.add.reduce(exponentials, axis=1, keepdims=True)  # (N, 1)
    np.subtract(np.log(totals), z, out=z)  # -log softmax
    z *= targets
    value = z.sum()
    # softmax, times the sample's sum of weights
    exponentials *= np.add.reduce(targets, axis=1, keepdims=True) / totals
    exponentials -= targets
    return value, exponentials


def _mse(_: MSE, z: Matrix, targets: Matrix) -> tuple[Any, Matrix]:
    """Compute (logit - target)^2, averaged over the classes, as PyTorch's MSELoss."""
    difference = z - targets
    return (difference * difference).sum() / z.shape[1], difference * (2 / z.shape[1])


def _binary_cross_entropy(_: BinaryCrossEntropy, z: Matrix, targets: Matrix) -> tuple[Any, Matrix]:
    """Compute log(1 + exp(z)) - target * z, averaged over the classes, as PyTorch's BCEWithLogitsLoss."""
    value = np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))) - targets * z  # exp gets 0 at most, so nothing overflows
    return value.sum() / z.shape[1], (sigmoid(z) - targets) / z.shape[1]


def _hinge(settings: Hinge, z: Matrix, targets: Matrix) -> tuple[Any, Matrix]:
    """Compute the sum over the other classes of max(0, margin - z[label] + z[other]), divided by the classes.

    As PyTorch's MultiMarginLoss (Weston and Watkins 1999). Labels with shares give the mean with these weights.
    """
    classes = z.shape[1]
    value, gradient = 0.0, np.zeros_like(z)
    for label in np.flatnonzero(targets.any(axis=0)):  # in turn: all at once would take N * classes^2 numbers
        rise = settings.margin - z[:, label, np.newaxis] + z  # (N, classes): above 0 where the margin is not kept
        rise[:, label] = 0
        share = targets[:, label, np.newaxis] / classes  # (N, 1)
        slopes = np.where(rise > 0, share, 0)
        value += (share * np.maximum(rise, 0)).sum()
        gradient += slopes
        gradient[:, label] -= slopes.sum(axis=1)
    return value, gradient


_LOSSES: dict[type, Callable[[Any, Matrix, Matrix], tuple[Any, Matrix]]] = {
    CrossEntropy: _cross_entropy,
    MSE: _mse,
    BinaryCrossEntropy: _binary_cross_entropy,
    Hinge: _hinge,
}
