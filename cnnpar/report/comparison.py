"""The result of `cnnpar compare`, as it is in --json: what runs have in common, and which model is better."""

from typing import Any

import msgspec

from cnnpar.report.intervals import CONFIDENCE


class Side(msgspec.Struct, frozen=True):
    """One of the runs that are compared."""

    name: str  # A, B, C, ...
    checkpoint: str
    epoch: int
    epochs: int
    step: int
    seconds: float
    weights_sha256: str
    exact: bool
    preset: str | None  # that has its layers
    layers: int  # with those within layers
    parameters: int
    trained_on_images: bool | None = False  # on those that it answers: known, not known (None), or no sign of it
    correct: int | None = None  # of the samples; None, as what follows, where it did not answer
    accuracy: float | None = None
    interval: tuple[float, float] | None = None  # Wilson's


class Setting(msgspec.Struct, frozen=True):
    """A setting that is not the same in all runs."""

    setting: str
    values: list[Any]  # by run; None where it is not set
    changes_weights: bool

    @property
    def of_layers(self) -> bool:
        """Whether it is a setting of a layer."""
        return self.setting.startswith("model.layers")


class Pair(msgspec.Struct, frozen=True):
    """The first run and another one: where their weights part, and the images that only one of them gets right."""

    other: str
    same_data: bool
    fingerprint: str  # how machine and versions of the other differ from those of the first; empty if they do not
    same_shapes: bool  # of parameters; others cannot be compared
    same_weights: bool
    equal_step: int | None  # the last one before which no recorded weights differ
    unequal_step: int | None  # the first one whose recorded weights differ
    unequal_epoch: int | None  # the first one whose losses differ, where no weights are recorded
    only_first_right: int | None = None  # images; None, as what follows, where their answers are not compared
    only_other_right: int | None = None
    chance: float | None = None  # of such a difference between equally good models: McNemar's exact test
    adjusted_chance: float | None = None  # for the number of pairs, by Holm
    difference: float | None = None  # of the accuracies, that of the other less that of the first
    interval: tuple[float, float] | None = None  # of the difference, by Bonett and Price


class Seeds(msgspec.Struct, frozen=True):
    """Accuracy of runs that differ in nothing but the seed."""

    mean: float
    standard_deviation: float
    interval: tuple[float, float]  # Student's, of the mean


class Comparison(msgspec.Struct, frozen=True):
    """Result of a comparison; accuracies and intervals are in 0..1."""

    runs: list[Side]
    same_types: bool  # of layers, in the same order
    settings: list[Setting]
    pairs: list[Pair]
    samples: int | None  # None where no answers are compared
    samples_of: str | None
    seeds: Seeds | None  # None unless three runs or more differ only in the seed, each in its own
    notes: list[str]
    confidence: float = CONFIDENCE  # of all intervals
