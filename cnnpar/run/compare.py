"""Compare runs: settings, data, the step at which their weights part, and their answers to the same images."""

import statistics
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from cnnpar.config.resolve import to_tables
from cnnpar.errors import InputError
from cnnpar.fingerprint import differences
from cnnpar.nn.network import Network
from cnnpar.report import intervals, measurements
from cnnpar.report.comparison import Comparison, Pair, Seeds, Setting, Side
from cnnpar.report.measurements import Measurement
from cnnpar.run.answers import Answers, answer
from cnnpar.run.samples import held_out_samples
from cnnpar.storage.checkpoint import Payload, read
from cnnpar.storage.find import newest_in
from cnnpar.storage.packing import unpack
from cnnpar.training.state import TrainState

MOST = len(string.ascii_uppercase)  # runs, which have letters for names
_WITHOUT_EFFECT = ("engine", "checkpoint", "report")  # sections that change no weight; but for the setting
_PORTABLE = "engine.portable"
_SEED = "train.seed"


@dataclass(frozen=True, eq=False)
class _Model:
    """A run that is compared."""

    name: str
    path: Path  # of the checkpoint
    payload: Payload
    network: Network
    state: TrainState
    measured: list[Measurement]

    @classmethod
    def of(cls, name: str, place: Path) -> "_Model":
        """Read a checkpoint, or that of a run's directory, with the metrics beside it. Raises InputError."""
        path = newest_in(place)
        payload = read(path)
        network, state = unpack(payload, str(path))
        return cls(name, path, payload, network, state, measurements.beside(path, payload))

    @property
    def digests(self) -> dict[int, str]:
        """Digests of the weights up to the checkpoint's, by the step after which they are recorded."""
        last = self.state.step
        recorded = {one.step: one.weights_sha256 for one in self.measured if one.weights_sha256 and one.step < last}
        return {**recorded, last: self.state.digest}

    def side(self) -> Side:
        """Return the facts of the run itself."""
        state = self.state
        return Side(
            name=self.name,
            checkpoint=str(self.path),
            epoch=state.epoch,
            epochs=self.payload.config.train.epochs,
            step=state.step,
            seconds=state.seconds,
            weights_sha256=state.digest,
            exact=state.exact,
        )


def compare(places: Sequence[Path], source: str | None, warn: Callable[[str], None]) -> Comparison:
    """Compare the first of two or more runs with the others; `places`: directories or checkpoints.

    Their models answer the images of `source`, or else those that the first run held out of its training. Raises
    InputError for what cannot be read, and for more runs than letters.
    """
    if not 2 <= len(places) <= MOST:
        raise InputError(f"compare takes 2 to {MOST} runs, and these are {len(places)}")
    models = [_Model.of(name, place) for name, place in zip(string.ascii_uppercase, places, strict=False)]
    settings = list(_differing([to_tables(model.payload.config) for model in models]))
    answers, samples_of, notes = _answers(models, source, warn)
    sides, pairs = [model.side() for model in models], [_pair(models[0], other) for other in models[1:]]
    for place, found in answers.items():
        correct, total = int(found.right.sum()), len(found.data)
        interval = intervals.of_share(correct, total)
        sides[place] = replace(sides[place], correct=correct, accuracy=correct / total, interval=interval)
        if place and 0 in answers:
            pairs[place - 1] = _with_answers(pairs[place - 1], answers[0], found)
    deciding = {row.setting for row in settings if row.changes_weights}
    only_seeds = deciding == {_SEED} and all(pair.same_data for pair in pairs) and len(answers) == len(models) > 2
    return Comparison(
        runs=sides,
        settings=settings,
        pairs=pairs,
        samples=len(answers[0].data) if answers else None,
        samples_of=samples_of or None,
        seeds=_seeds([side.accuracy for side in sides if side.accuracy is not None]) if only_seeds else None,
        notes=notes,
    )


def _answers(
    models: Sequence[_Model], source: str | None, warn: Callable[[str], None]
) -> tuple[dict[int, Answers], str, list[str]]:
    """Return the answers of the models, by their places, what they answered, and notes on those that did not."""
    first = models[0]
    try:
        data, what = held_out_samples(first.payload, source, str(first.path), warn)
    except InputError as error:
        if source is not None:
            raise
        return {}, "", [f"no answers are compared: {error}"]
    found, notes = {}, []
    for place, model in enumerate(models):
        if model.payload.preprocessing.traits != data.traits:
            notes.append(f"{model.name} does not answer: its images or classes are not those of {first.name}")
            continue
        found[place] = answer(model.payload, model.network, model.state, data, str(model.path))
        if "validation" in what and model.payload.data_fingerprint != first.payload.data_fingerprint:
            notes.append(f"{model.name} may have been trained on these images: its data are not those of {first.name}")
    return found, what, notes


def _differing(tables: Sequence[dict[str, Any]]) -> Iterator[Setting]:
    """Yield the settings that differ between configurations."""
    flat = [dict(_flat("", table)) for table in tables]
    for name in dict.fromkeys(name for one in flat for name in one):
        values = [one.get(name) for one in flat]
        if any(value != values[0] for value in values):
            free = name.partition(".")[0] in _WITHOUT_EFFECT and name != _PORTABLE
            yield Setting(name, values, changes_weights=not free)


def _flat(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the settings of nested tables, by their places: model.layers[2].channels."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{place}.{key}" if place else key, item)
    elif isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            yield from _flat(f"{place}[{number}]", item)
    else:
        yield place, value


def _pair(first: _Model, other: _Model) -> Pair:
    """Compare data, fingerprints, and the recorded weights of two runs."""
    one, two = first.digests, other.digests
    steps = sorted(one.keys() & two.keys())
    unequal = next((step for step in steps if one[step] != two[step]), None)
    equal = [step for step in steps if unequal is None or step < unequal]
    losses = [[record.train_loss for record in model.payload.history] for model in (first, other)]
    epochs = (number for number, (own, its) in enumerate(zip(*losses, strict=False), 1) if own != its)
    return Pair(
        other=other.name,
        same_data=first.payload.data_fingerprint == other.payload.data_fingerprint,
        fingerprint=differences(first.payload.fingerprint, other.payload.fingerprint),
        same_weights=first.state.digest == other.state.digest,
        equal_step=equal[-1] if equal else None,
        unequal_step=unequal,
        unequal_epoch=next(epochs, None),
    )


def _with_answers(pair: Pair, first: Answers, other: Answers) -> Pair:
    """Add to a pair how the answers of its models differ."""
    differences = other.right.astype(np.int64) - first.right  # (N,)
    lost, won = int((differences < 0).sum()), int((differences > 0).sum())
    return replace(
        pair,
        only_first_right=lost,
        only_other_right=won,
        chance=intervals.chance_of_split(lost, won),
        difference=float(differences.mean()),
        interval=intervals.of_mean_difference(differences),
    )


def _seeds(accuracies: list[float]) -> Seeds:
    """Summarise runs of several seeds."""
    mean, deviation = statistics.fmean(accuracies), statistics.stdev(accuracies)
    return Seeds(mean, deviation, intervals.of_mean(accuracies))
