"""The losses: of logits (N, classes) and what they should be, as sums over the samples, with their gradients.

What they should be is a matrix too, (N, classes): a row has 1 at the label, or shares of several labels. All in
float64. A NaN among the logits makes a loss NaN, and an infinity too, except where the loss is rightly infinite.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.choices import MSE, BinaryCrossEntropy, CrossEntropy, Hinge, Loss
from cnnpar.nn.functions import Matrix, sigmoid, softmax
from cnnpar.nn.shapes import Array


def one_hot(labels: NDArray[np.integer[Any]], classes: int) -> Matrix:
    """Targets of labels (N,) without doubt."""
    targets = np.zeros((len(labels), classes))
    targets[np.arange(len(labels)), labels] = 1.0
    return targets


def loss(settings: Loss, logits: Array, targets: Matrix) -> tuple[float, Matrix]:
    """The sum over the samples, and its gradient with regard to the logits."""
    function = _LOSSES[type(settings)]
    value, gradient = function(settings, logits.astype(np.float64), targets)
    return float(value), gradient


def probabilities(settings: Loss, logits: Array) -> Matrix:
    """What logits say of each class: their softmax, or, where classes are asked for one by one, their sigmoid."""
    return sigmoid(logits.astype(np.float64)) if isinstance(settings, BinaryCrossEntropy) else softmax(logits)


def _cross_entropy(settings: CrossEntropy, z: Matrix, targets: Matrix) -> tuple[Any, Matrix]:
    """-weight * target * log softmax, as PyTorch's cross_entropy.

    Smoothed targets have the share label_smoothing spread over all classes (Szegedy et al. 2016, section 7).
    """
    smoothing = settings.label_smoothing
    if smoothing:
        targets = targets * (1 - smoothing) + smoothing / z.shape[1]
    if settings.class_weights:
        targets = targets * np.array(settings.class_weights)
    z -= z.max(axis=1, keepdims=True)
    exponentials = np.exp(z)
    totals = exponentials.sum(axis=1, keepdims=True)
    value = (targets * (np.log(totals) - z)).sum()
    exponentials *= targets.sum(axis=1, keepdims=True) / totals
    return value, exponentials - targets


def _mse(_: MSE, z: Matrix, targets: Matrix) -> tuple[Any, Matrix]:
    """(logit - target)^2, in the mean of the classes, as PyTorch's MSELoss."""
    difference = z - targets
    return (difference * difference).sum() / z.shape[1], difference * (2 / z.shape[1])


def _binary_cross_entropy(_: BinaryCrossEntropy, z: Matrix, targets: Matrix) -> tuple[Any, Matrix]:
    """log(1 + exp(z)) - target * z, in the mean of the classes, as PyTorch's BCEWithLogitsLoss."""
    value = np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))) - targets * z
    return value.sum() / z.shape[1], (sigmoid(z) - targets) / z.shape[1]


def _hinge(settings: Hinge, z: Matrix, targets: Matrix) -> tuple[Any, Matrix]:
    """max(0, margin - z[label] + z[other]) for each other class, in the mean of the classes, as PyTorch's
    MultiMarginLoss (Crammer and Singer 2001; Weston and Watkins 1999); a share of it where the target is a share.
    """
    classes = z.shape[1]
    value, gradient = 0.0, np.zeros_like(z)
    for label in np.flatnonzero(targets.any(axis=0)):  # one after the other: all at once would take classes^2 numbers
        rise = settings.margin - z[:, label, np.newaxis] + z
        rise[:, label] = 0
        share = targets[:, label, np.newaxis] / classes
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
