"""Predict the classes of pictures by the model of a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnpar.blas import use_one_thread
from cnnpar.config.data import Data
from cnnpar.data.readers import unlabelled
from cnnpar.errors import RunError
from cnnpar.storage.checkpoint import Payload
from cnnpar.storage.packing import unpack

_AT_A_TIME = 64  # images in one pass


@dataclass(frozen=True)
class Prediction:
    """What the model makes of one picture."""

    file: str
    probabilities: dict[str, float]  # by class; see `cnnpar.run.model.Model.probabilities`

    @property
    def most_likely(self) -> str:
        """Name of the class with the largest probability; of equal ones the first."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    def __str__(self) -> str:
        """Return the line for people."""
        return f"{self.file}: {self.most_likely} {self.probabilities[self.most_likely]:.2%}"

    def facts(self) -> dict[str, Any]:
        """Return the JSON object for the picture."""
        best = self.most_likely
        chance = self.probabilities[best]
        return {"file": self.file, "class": best, "probability": chance, "probabilities": self.probabilities}


class Unreadable(NamedTuple):
    """A file that is no picture, or none like those of the training."""

    file: str
    error: str  # a line for people, which names the file


def predict(
    payload: Payload, path: str, files: Sequence[Path], settings: Data
) -> tuple[list[Prediction], list[Unreadable]]:
    """Return the predictions for pictures, in the order of the files, and the files that are none.

    `settings`: how they are read. Raises RunError where the model's outputs are not finite.
    """
    use_one_thread()
    network, state = unpack(payload, path)
    known = payload.preprocessing
    pixels, kept, faults = unlabelled.read(files, settings, known.traits)
    with state.evaluation_weights() as weights:
        found = [
            network.probabilities(weights, known.normalise(pixels[start : start + _AT_A_TIME]))
            for start in range(0, len(pixels), _AT_A_TIME)
        ]
    rows = np.concatenate(found) if found else np.zeros((0, len(known.class_names)))
    if not np.isfinite(rows).all():
        raise RunError(f"{path}: its outputs are not finite; its weights are too large")
    predictions = [
        Prediction(str(files[index]), dict(zip(known.class_names, row, strict=True)))
        for index, row in zip(kept.tolist(), rows.tolist(), strict=True)
    ]
    return predictions, [Unreadable(str(files[index]), fault) for index, fault in faults.items()]
