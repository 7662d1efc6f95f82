"""Predict the classes of samples by the model of a checkpoint, in passes: what is in memory does not grow."""

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from cnnpar.blas import use_one_thread
from cnnpar.compiling import loading
from cnnpar.config.data import Data
from cnnpar.data.dataset import Pixels
from cnnpar.data.readers.inputs import Input
from cnnpar.data.readers.unlabelled import Fail, Origin, read_pictures, read_table
from cnnpar.errors import RunError
from cnnpar.report.predictions import Answers
from cnnpar.storage.checkpoint import Payload
from cnnpar.storage.packing import unpack

_AT_A_TIME = 64  # images in one pass


def predict(
    payload: Payload,
    path: str,
    inputs: Sequence[Input],
    settings: Data,
    answered: Callable[[Answers], None],
    fail: Fail,
    note: Callable[[str], None],
) -> None:
    """Predict the samples of all inputs with the model of checkpoint `path`, and hand on what is found, in order.

    `settings`: how they are read. `fail` is told of each input that is left out, and `note` if loops are compiled.
    Raises RunError where the model's outputs are not finite.
    """
    use_one_thread()
    network, state = unpack(payload, path)
    known = payload.preprocessing
    with loading(network.load_loops, note), state.evaluation_weights() as weights:

        def probabilities(images: Pixels) -> NDArray[np.float64]:
            found = network.probabilities(weights, known.normalise(images))
            if not np.isfinite(found).all():
                raise RunError(f"{path}: its outputs are not finite; its weights are too large")
            return found

        passes = _Passes(probabilities, answered)
        for are_pictures, group in groupby(inputs, lambda each: each.kind == "pictures"):
            if are_pictures:
                read_pictures([*group], settings, known.traits, passes.add, fail)
                passes.end()
                continue
            for source in group:
                read_table(source, settings, known.traits, passes.add, fail)
                passes.end()


class _Passes:
    """Samples that are gathered for passes of one size from the first on: the last bits depend on it."""

    def __init__(
        self, probabilities: Callable[[Pixels], NDArray[np.float64]], answered: Callable[[Answers], None]
    ) -> None:
        """Begin without samples."""
        self._probabilities, self._answered = probabilities, answered
        self._images: Pixels | None = None  # (_AT_A_TIME, H, W, C)
        self._origins: list[Origin] = []

    def add(self, images: Pixels, origins: Sequence[Origin]) -> None:
        """Take samples (n, H, W, C), and compute what is a whole pass."""
        if self._images is None:
            self._images = np.empty((_AT_A_TIME, *images.shape[1:]), images.dtype)
        done = 0
        while done < len(images):
            there = len(self._origins)
            count = min(_AT_A_TIME - there, len(images) - done)
            self._images[there : there + count] = images[done : done + count]
            self._origins += origins[done : done + count]
            done += count
            if len(self._origins) == _AT_A_TIME:
                self.end()

    def end(self) -> None:
        """Compute what is there."""
        if self._images is not None and self._origins:
            self._answered(Answers(self._origins, self._probabilities(self._images[: len(self._origins)])))
            self._origins = []
