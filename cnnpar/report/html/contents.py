"""What a report shows, in numbers: measured by `cnnpar/run/report.py`, drawn and written by the files beside this."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnpar.report.intervals import CONFIDENCE, Interval
from cnnpar.report.measurements import Measurement
from cnnpar.report.scores import ClassScore
from cnnpar.training.state import EpochRecord

Image = NDArray[np.uint8]  # (H, W) grey, (H, W, 3) colour, or (H, W, 4) with opacity


class Mistake(NamedTuple):
    """One image that got a wrong answer."""

    row: int  # among the images of the source, from 1
    label: str
    answer: str
    probability: float  # of the answer
    of_label: float  # of the label
    image: Image
    file: str | None = None  # of the image, where it has one of its own


class Bin(NamedTuple):
    """The answers whose probability is within a range: above `low`, and `high` at most."""

    low: float
    high: float
    images: int
    probability: float  # their mean; NaN, as the share, where there are none
    right: float  # share of them that is right


class Calibration(NamedTuple):
    """How the probabilities of answers compare with the shares of right ones."""

    bins: list[Bin]
    error: float  # expected calibration error
    are_probabilities: bool  # False for losses that only rank the classes


class Maps(NamedTuple):
    """Arrays of one layer to be shown as small pictures side by side."""

    title: str
    maps: NDArray[Any]  # (number, h, w) or (number, h, w, 3)
    of: int  # number of maps that there are


@dataclass(frozen=True, eq=False)
class Judged:
    """What the model made of labelled images."""

    what: str  # which images
    total: int
    correct: int
    interval: Interval  # of the accuracy
    classes: list[ClassScore]
    matrix: NDArray[np.int64] | None  # rows are labels, columns answers; None where there are too many classes
    mistakes: list[Mistake]  # the worst ones, the worst one first
    calibration: Calibration

    def facts(self) -> dict[str, Any]:
        """Return the JSON object of what the model made of the images."""
        return {
            "samples": self.total,
            "samples_of": self.what,
            "correct": self.correct,
            "accuracy": self.correct / self.total,
            "interval": self.interval,
            "confidence": CONFIDENCE,
            "calibration_error": self.calibration.error,
            "classes": [one._asdict() for one in self.classes],
            "mistakes": [
                {name: value for name, value in one._asdict().items() if name != "image"} for one in self.mistakes
            ],
        }


@dataclass(frozen=True, eq=False)
class Course:
    """How the training went."""

    history: Sequence[EpochRecord]
    steps: Sequence[Measurement]  # recorded ones
    rates: Sequence[tuple[float, float]]  # epochs (and parts of one) and learning rates, as the settings have them
    steps_per_epoch: int


@dataclass(frozen=True, eq=False)
class Contents:
    """All that a report shows."""

    title: str
    facts: list[tuple[str, str]]  # what the run was
    machine: list[tuple[str, str]]  # its fingerprint
    settings: str  # TOML
    course: Course
    judged: Judged | None
    filters: Maps | None
    activations: list[Maps]  # by layer, the image first
    notes: list[str]
