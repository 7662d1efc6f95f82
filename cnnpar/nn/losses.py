"""The loss: softmax cross-entropy, as a sum over the samples, with its gradient."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnpar.nn.kernels import Array


def softmax(logits: Array) -> NDArray[np.float64]:
    """Probabilities (N, classes) in float64 of logits (N, classes).

    The largest logit of each sample is subtracted first, so that no finite logits overflow.
    """
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=1, keepdims=True)
    return shifted


def softmax_cross_entropy(logits: Array, labels: NDArray[np.integer[Any]]) -> tuple[float, int, NDArray[np.float64]]:
    """Sum over the samples of -log softmax(logits)[label], the number of right answers, and the gradient.

    `logits` is (N, classes), `labels` (N,); the gradient of the sum is softmax - one-hot, (N, classes). All in
    float64. The largest logit is the answer; of equal ones the first. A NaN among the logits makes the loss NaN.
    """
    samples = np.arange(len(labels))
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    totals = exponentials.sum(axis=1)
    loss = float((np.log(totals) - shifted[samples, labels]).sum())
    correct = int((logits.argmax(axis=1) == labels).sum())
    exponentials /= totals[:, np.newaxis]
    exponentials[samples, labels] -= 1.0
    return loss, correct, exponentials
