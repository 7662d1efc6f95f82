"""A model's answers to each image of a data set: for the comparison of models, and for the report of one."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cnnpar.blas import use_one_thread
from cnnpar.data.dataset import Dataset
from cnnpar.errors import RunError
from cnnpar.nn.network import Network
from cnnpar.storage.checkpoint import Payload
from cnnpar.training.state import TrainState


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says of labelled images: N images, K classes."""

    data: Dataset
    probabilities: NDArray[np.float64]  # (N, K); see `Network.probabilities`

    @cached_property
    def classes(self) -> NDArray[np.int64]:
        """The likeliest class of each image (N,), the first one of equals."""
        found: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return found

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether the likeliest class is the label (N,)."""
        found: NDArray[np.bool_] = self.classes == self.data.labels
        return found


def answer(payload: Payload, network: Network, state: TrainState, data: Dataset, path: str) -> Answers:
    """Return the answers of the model of checkpoint `path`, with its evaluation weights.

    Images go through the network as many at a time as in an evaluation, so that they get the same bits there.
    Raises RunError where the model's outputs are not finite.
    """
    use_one_thread()
    known, size = payload.preprocessing, payload.config.train.microbatch
    with state.evaluation_weights() as weights:
        parts = [
            network.probabilities(weights, known.normalise(data.images[start : start + size]))
            for start in range(0, len(data), size)
        ]
    probabilities = np.concatenate(parts) if parts else np.zeros((0, network.classes))
    if not np.isfinite(probabilities).all():
        raise RunError(f"{path}: its outputs are not finite; its weights are too large")
    return Answers(data, probabilities)
