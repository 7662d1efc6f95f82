"""Compare runs: settings, data, the step at which their weights part, and their answers to the same images."""

import statistics
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from cnnpar.config.presets import preset_of
from cnnpar.config.resolve import to_tables
from cnnpar.errors import InputError
from cnnpar.fingerprint import Fingerprint, differences, fingerprint
from cnnpar.nn.network import Network
from cnnpar.report import intervals, measurements
from cnnpar.report.comparison import Comparison, Pair, Seeds, Setting, Side
from cnnpar.report.measurements import Measurement
from cnnpar.run.answers import Answers, answer
from cnnpar.run.samples import held_out_samples, same_samples
from cnnpar.storage.checkpoint import Payload, read
from cnnpar.storage.find import newest_in
from cnnpar.storage.packing import unpack
from cnnpar.training.state import TrainState

MOST = len(string.ascii_uppercase)  # runs, which have letters for names
_WITHOUT_EFFECT = ("engine", "checkpoint", "report")  # sections that change no weight; but for the setting
_PORTABLE = "engine.portable"
_SEED = "train.seed"
_KNOWN = {
    True: "{0} was trained on these images: they are its training data",
    None: "{0} may have been trained on these images: its data are not those of {1}",
}


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

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the parameters and buffers, in the order of the vector."""
        return [entry.shape for entry in (*self.network.layout.parameters, *self.network.layout.buffers)]

    @property
    def types(self) -> dict[str, str]:
        """Types of the layers, and of those within layers, by their places."""
        places = _flat("", self.payload.config.model.layers)
        return {place: value for place, value in places if place.endswith("].type")}

    def side(self) -> Side:
        """Return the facts of the run itself."""
        state, layers = self.state, self.payload.config.model.layers
        return Side(
            name=self.name,
            checkpoint=str(self.path),
            epoch=state.epoch,
            epochs=self.payload.config.train.epochs,
            step=state.step,
            seconds=state.seconds,
            weights_sha256=state.digest,
            exact=state.exact,
            preset=preset_of(layers),
            layers=len(self.types),
            parameters=self.network.layout.trained,
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
        known = _trained_on(models[place], models[0], source, samples_of)
        if known is not False:
            notes.append(_KNOWN[known].format(models[place].name, models[0].name))
        correct, total = int(found.right.sum()), len(found.data)
        interval = intervals.of_share(correct, total)
        sides[place] = replace(
            sides[place], trained_on_images=known, correct=correct, accuracy=correct / total, interval=interval
        )
        if place:
            pairs[place - 1] = _with_answers(pairs[place - 1], answers[0], found)
    seeds, why_none = _of_seeds(models, settings, pairs, answers)
    return Comparison(
        runs=sides,
        same_types=all(model.types == models[0].types for model in models),
        settings=settings,
        pairs=_adjusted(pairs),
        samples=len(answers[0].data) if answers else None,
        samples_of=samples_of or None,
        seeds=seeds,
        notes=[*notes, *why_none],
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
    return found, what, notes


def _trained_on(model: _Model, first: _Model, source: str | None, samples_of: str) -> bool | None:
    """Tell whether a model was trained on the images that are answered; None: it may have been."""
    tested = source or first.payload.config.data.test
    if tested and same_samples(tested, model.payload.config.data.train):
        return True
    others = model.payload.data_fingerprint != first.payload.data_fingerprint
    return None if samples_of.startswith("validation") and others else False


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
    comparable = first.shapes == other.shapes
    one, two = first.digests, other.digests
    steps = sorted(one.keys() & two.keys()) if comparable else []
    unequal = next((step for step in steps if one[step] != two[step]), None)
    equal = [step for step in steps if unequal is None or step < unequal]
    losses = [[record.train_loss for record in model.payload.history] for model in (first, other)]
    epochs = (number for number, (own, its) in enumerate(zip(*losses, strict=False), 1) if own != its)
    return Pair(
        other=other.name,
        same_data=first.payload.data_fingerprint == other.payload.data_fingerprint,
        fingerprint=_fingerprint_differences(first.payload.fingerprint, other.payload.fingerprint),
        same_shapes=comparable,
        same_weights=first.state.digest == other.state.digest,
        equal_step=equal[-1] if equal else None,
        unequal_step=unequal,
        unequal_epoch=next(epochs, None) if comparable else None,
    )


def _fingerprint_differences(first: Fingerprint, other: Fingerprint) -> str:
    """Return what differs between machines and programs.

    A library, or a layer of the user's, that only one of the runs has follows from its settings.
    """
    everyones = fingerprint()
    both = (first.keys() & other.keys()) | everyones.keys()
    return differences(*({key: text for key, text in one.items() if key in both} for one in (first, other)))


def _with_answers(pair: Pair, first: Answers, other: Answers) -> Pair:
    """Add to a pair how the answers of its models differ."""
    lost, won = int((first.right & ~other.right).sum()), int((other.right & ~first.right).sum())
    total = len(first.data)
    return replace(
        pair,
        only_first_right=lost,
        only_other_right=won,
        chance=intervals.chance_of_split(lost, won),
        difference=(won - lost) / total,
        interval=intervals.of_difference(lost, won, total),
    )


def _adjusted(pairs: list[Pair]) -> list[Pair]:
    """Add to the pairs whose answers are compared the probability that is adjusted for their number."""
    adjusted = iter(intervals.adjusted_by_holm([pair.chance for pair in pairs if pair.chance is not None]))
    return [pair if pair.chance is None else replace(pair, adjusted_chance=next(adjusted)) for pair in pairs]


def _of_seeds(
    models: Sequence[_Model], settings: Sequence[Setting], pairs: Sequence[Pair], answers: dict[int, Answers]
) -> tuple[Seeds | None, list[str]]:
    """Summarise three or more runs that differ only in the seed, or say why they are no independent measurements."""
    only_seeds = {row.setting for row in settings if row.changes_weights} == {_SEED}
    if not (only_seeds and all(pair.same_data for pair in pairs) and len(answers) == len(models) > 2):
        return None, []
    seeds, steps = [one.payload.config.train.seed for one in models], [one.state.step for one in models]
    if len(set(seeds)) < len(seeds):
        return None, [f"no mean over the seeds: they are {_listed(seeds)}, and each may occur once"]
    if len(set(steps)) > 1:
        return None, [f"no mean over the seeds: the checkpoints are of steps {_listed(steps)}, not of the same one"]
    accuracies = [float(found.right.mean()) for found in answers.values()]
    mean, deviation = statistics.fmean(accuracies), statistics.stdev(accuracies)
    return Seeds(mean, deviation, intervals.of_mean(accuracies)), []


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(f"{number:,}" for number in numbers)
