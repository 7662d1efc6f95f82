"""The confusion matrix of a test, and the number of labels among the five likeliest classes, as one vector of counts.

The vector (1 + classes^2,) is the number of top-5 hits, then the matrix row by row. It is summed as gradients are, in
float32, where whole numbers are exact up to 2^24: far more than one step of an evaluation has samples.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnpar.nn.shapes import Array

NEAR = 5  # likeliest classes: top-5 accuracy
MOST_CLASSES = 1000  # with more, no matrix is kept


def size(classes: int) -> int:
    """Return the length of the vector; 1 where there are too many classes for a matrix."""
    return 1 + classes * classes * (classes <= MOST_CLASSES)


def count(logits: Array, labels: NDArray[np.integer[Any]], out: Array) -> None:
    """Write the vector of logits (N, classes) and labels (N,) to `out` (size(classes),)."""
    own = logits[np.arange(len(labels)), labels][:, np.newaxis]  # (N, 1): the logit of the label
    place = np.arange(logits.shape[1])
    # (N,): classes ahead of the label; of equal logits the first class is ahead, as in argmax.
    ahead = ((logits > own) | ((logits == own) & (place < labels[:, np.newaxis]))).sum(axis=1)
    out.fill(0)
    out[0] = np.count_nonzero(ahead < NEAR)
    if len(out) > 1:
        np.add.at(out[1:], labels * logits.shape[1] + logits.argmax(axis=1), 1)


def matrix(vector: NDArray[np.int64], classes: int) -> NDArray[np.int64] | None:
    """Return the confusion matrix (classes, classes), rows are labels, columns answers; None where none is kept."""
    return vector[1:].reshape(classes, classes) if len(vector) > 1 else None
