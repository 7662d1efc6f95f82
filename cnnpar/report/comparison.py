"""The output of `cnnpar compare`: what two or more runs have in common, and which model is better."""

import math
import textwrap
from collections.abc import Iterator
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from cnnpar.report.intervals import CONFIDENCE, as_percent
from cnnpar.report.page import WIDTH, page
from cnnpar.text import one_line

_UNLIKELY = 0.05  # probability below which a difference is hardly chance
_LONGEST = 40  # characters of a setting's value


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
    correct: int | None = None  # of the samples; None, as what follows, where it did not answer
    accuracy: float | None = None
    interval: tuple[float, float] | None = None  # Wilson's


class Setting(msgspec.Struct, frozen=True):
    """A setting that is not the same in all runs."""

    setting: str
    values: list[Any]  # by run; None where it is not set
    changes_weights: bool


class Pair(msgspec.Struct, frozen=True):
    """The first run and another one: where their weights part, and the images that only one of them gets right."""

    other: str
    same_data: bool
    fingerprint: str  # how machine and versions of the other differ from those of the first; empty if they do not
    same_weights: bool
    equal_step: int | None  # the last one before which no recorded weights differ
    unequal_step: int | None  # the first one whose recorded weights differ
    unequal_epoch: int | None  # the first one whose losses differ, where no weights are recorded
    only_first_right: int | None = None  # images; None, as what follows, where their answers are not compared
    only_other_right: int | None = None
    chance: float | None = None  # of such a difference between equally good models: McNemar's exact test
    difference: float | None = None  # of the accuracies, that of the other less that of the first
    interval: tuple[float, float] | None = None  # of the difference, by a bootstrap of the images


class Seeds(msgspec.Struct, frozen=True):
    """Accuracy of runs that differ in nothing but the seed."""

    mean: float
    standard_deviation: float
    interval: tuple[float, float]  # Student's, of the mean


class Comparison(msgspec.Struct, frozen=True):
    """Result of a comparison; accuracies and intervals are in 0..1."""

    runs: list[Side]
    settings: list[Setting]
    pairs: list[Pair]
    samples: int | None  # None where no answers are compared
    samples_of: str | None
    seeds: Seeds | None  # None unless there are three runs or more that differ only in the seed
    notes: list[str]
    confidence: float = CONFIDENCE  # of all intervals


def as_text(found: Comparison) -> str:
    """Return the comparison for people, in 80 columns."""
    parts: list[Table | str] = [_wrapped(line) for line in map(_position, found.runs)]
    parts += ["", _settings(found)] if found.settings else ["", "All settings are the same."]
    parts += ["", *map(_wrapped, _origins(found))]
    if found.samples is not None:
        parts += ["", _accuracies(found), ""]
        parts += [_wrapped(line) for line in _verdicts(found)]
    parts += [_wrapped(one_line(note)) for note in found.notes]
    return page(*parts)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _position(side: Side) -> str:
    exact = "" if side.exact else ", not exact"
    at = f"epoch {side.epoch} of {side.epochs}, step {side.step:,}, {side.seconds:,.1f} s{exact}"
    return f"{side.name}  {one_line(side.checkpoint)}: {at}"


def _settings(found: Comparison) -> Table:
    """Return the table of the settings that differ."""
    table = Table(box=None, header_style="", padding=(0, 2, 0, 0))
    table.add_column("setting", overflow="fold")
    for side in found.runs:
        table.add_column(side.name, overflow="fold")
    for row in found.settings:
        mark = "" if row.changes_weights else " *"
        table.add_row(Text(one_line(row.setting) + mark), *(Text(_value(value)) for value in row.values))
    if not all(row.changes_weights for row in found.settings):
        table.caption, table.caption_justify, table.caption_style = "* does not change the weights", "left", ""
    return table


def _value(value: Any) -> str:
    text = "-" if value is None else one_line(value if isinstance(value, str) else msgspec.json.encode(value).decode())
    return f"{text[: _LONGEST - 3]}..." if len(text) > _LONGEST else text


def _origins(found: Comparison) -> Iterator[str]:
    """Yield a line for the data, the machine and the weights of each pair."""
    first, alike = found.runs[0].name, {(pair.same_data, pair.fingerprint) for pair in found.pairs}
    if alike == {(True, "")}:
        yield "all were trained on the same data, by the same program on like machines"
    for pair in found.pairs:
        who = f"{first} and {pair.other}"
        if alike != {(True, "")}:
            yield f"{who} were trained on {'the same' if pair.same_data else 'other'} data{_instead(pair.fingerprint)}"
        if pair.same_weights:
            yield f"{who} have the same weights, to the bit"
        elif pair.unequal_step is not None:
            before = f"are the same up to step {pair.equal_step:,}" if pair.equal_step else "differ from the beginning"
            yield f"the weights of {who} {before}; step {pair.unequal_step:,} is the first recorded one that differs"
        elif pair.unequal_epoch is not None:
            yield f"the losses of {who} differ from epoch {pair.unequal_epoch} on; no weights of equal steps are there"
        elif pair.equal_step is not None:
            yield f"the weights of {who} are the same up to step {pair.equal_step:,}, the last that both have recorded"
        else:
            yield f"no step or epoch of both {who} is recorded"


def _instead(fingerprint: str) -> str:
    return f", by other programs or machines: {one_line(fingerprint)}" if fingerprint else ""


def _accuracies(found: Comparison) -> Table:
    """Return the table of the accuracies."""
    table = Table(box=None, header_style="", padding=(0, 2, 0, 0))
    table.title, table.title_justify, table.title_style = f"{found.samples:,} images, {found.samples_of}", "left", ""
    table.add_column("")
    for column in ("right", "accuracy", f"{CONFIDENCE:.0%} interval"):
        table.add_column(column, justify="right", no_wrap=True)
    for side in found.runs:
        if side.correct is not None and side.accuracy is not None and side.interval is not None:
            table.add_row(side.name, f"{side.correct:,}", f"{side.accuracy:.2%}", as_percent(side.interval))
    return table


def _verdicts(found: Comparison) -> Iterator[str]:
    """Yield a line for the answers of each pair, and one for runs of several seeds."""
    first = found.runs[0].name
    for pair in found.pairs:
        if pair.only_first_right is None or pair.only_other_right is None or pair.chance is None:
            continue
        if pair.only_first_right + pair.only_other_right == 0:
            yield f"{first} and {pair.other} are right on the same images"
            continue
        yield (
            f"{pair.other} is right on {_images(pair.only_other_right)} that {first} gets wrong, and wrong on "
            f"{pair.only_first_right:,} that {first} gets right; such a difference or a larger one is expected in "
            f"{_of_hundred(pair.chance)} comparisons of equally good models: "
            f"{'it is hardly chance' if pair.chance < _UNLIKELY else 'it may be chance'}"
        )
        if pair.difference is not None and pair.interval is not None:
            yield (
                f"accuracy of {pair.other} less that of {first}: {100 * pair.difference:+.2f} points "
                f"({CONFIDENCE:.0%} interval {as_percent(pair.interval)})"
            )
    if found.seeds is not None:
        seeds = found.seeds
        yield (
            f"{len(found.runs)} runs that differ only in the seed: accuracy {seeds.mean:.2%} on average (standard "
            f"deviation {seeds.standard_deviation:.2%}; {CONFIDENCE:.0%} interval of the mean "
            f"{as_percent(seeds.interval)}, by Student's t)"
        )


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def _of_hundred(chance: float) -> str:
    """Return a probability as "34 of 100", or "3 of 10,000", or as an upper bound where it is smaller than that."""
    for whole in (100, 1000, 10_000):
        if chance >= 1 / whole:
            return f"{math.floor(chance * whole + 0.5)} of {whole:,}"
    return "fewer than 1 of 10,000"
