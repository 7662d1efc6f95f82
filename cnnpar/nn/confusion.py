"""What is counted of a test besides the right answers: how often which class was taken for which, and near misses.

Counts travel as gradients do, as float32, in which whole numbers are exact up to 2^24: far more than one step of an
evaluation has samples. They are one vector: hits among the five likeliest, then the confusion matrix, row by row.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnpar.nn.shapes import Array

NEAR = 5  # likeliest classes
MOST_CLASSES = 1000  # of which a matrix is kept


def size(classes: int) -> int:
    """Length of the vector; 1 where there are too many classes for a matrix."""
    return 1 + classes * classes * (classes <= MOST_CLASSES)


def count(logits: Array, labels: NDArray[np.integer[Any]], out: Array) -> None:
    """Overwrite `out` (size(classes),) with the counts of logits (N, classes) and labels (N,)."""
    own = logits[np.arange(len(labels)), labels][:, np.newaxis]
    place = np.arange(logits.shape[1])
    # Of equal logits the first class comes first, as for the answer.
    ahead = ((logits > own) | ((logits == own) & (place < labels[:, np.newaxis]))).sum(axis=1)
    out.fill(0)
    out[0] = np.count_nonzero(ahead < NEAR)
    if len(out) > 1:
        np.add.at(out[1:], labels * logits.shape[1] + logits.argmax(axis=1), 1)


def matrix(vector: NDArray[np.int64], classes: int) -> NDArray[np.int64] | None:
    """The confusion matrix of a vector of counts, (classes, classes): rows are labels, columns answers."""
    return vector[1:].reshape(classes, classes) if len(vector) > 1 else None
