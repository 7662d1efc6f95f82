"""The output of `cnnpar compare` for people: what two or more runs have in common, and which model is better."""

import textwrap
from collections.abc import Iterator
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from cnnpar.report.comparison import Comparison, Pair, Setting, Side
from cnnpar.report.intervals import CONFIDENCE, as_percent
from cnnpar.report.page import WIDTH, page
from cnnpar.report.verdicts import verdicts
from cnnpar.text import one_line

_LONGEST = 40  # characters of a setting's value
_MOST = 12  # settings of layers that are shown


def as_text(found: Comparison) -> str:
    """Return the comparison in 80 columns."""
    parts: list[Table | str] = [_wrapped(line) for line in map(_position, found.runs)]
    if not found.settings:
        parts += ["", "All settings are the same."]
    if not found.same_types:
        parts += ["", *map(_network, found.runs)]
    shown, left_out = _shown(found)
    if shown:
        parts += ["", _settings(found, shown)]
    if left_out:
        parts.append(f"and {left_out:,} more settings of layers; --json has all")
    parts += ["", *map(_wrapped, _origins(found))]
    parts += [_wrapped(one_line(note)) for note in found.notes]
    if found.samples is not None:
        parts += ["", _wrapped(one_line(f"{found.samples:,} images, {found.samples_of}")), _accuracies(found), ""]
        parts += [_wrapped(line) for line in verdicts(found)]
    return page(*parts)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _position(side: Side) -> str:
    exact = "" if side.exact else ", not exact"
    at = f"epoch {side.epoch} of {side.epochs}, step {side.step:,}, {side.seconds:,.1f} s{exact}"
    return f"{side.name}  {one_line(side.checkpoint)}: {at}"


def _network(side: Side) -> str:
    preset = f"{side.preset}, " if side.preset else ""
    return f"network of {side.name}: {preset}{side.layers:,} layers, {side.parameters:,} parameters"


def _shown(found: Comparison) -> tuple[list[Setting], int]:
    """Return the settings to show, and how many more there are: none of the layers of networks of other types."""
    of_layers = [row for row in found.settings if row.of_layers]
    others = [row for row in found.settings if not row.of_layers]
    if not found.same_types:
        return others, 0
    return [*of_layers[:_MOST], *others], len(of_layers[_MOST:])


def _settings(found: Comparison, rows: list[Setting]) -> Table:
    """Return the table of the settings that differ."""
    table = Table(box=None, header_style="", padding=(0, 2, 0, 0))
    table.add_column("setting", overflow="fold")
    for side in found.runs:
        table.add_column(side.name, overflow="fold")
    for row in rows:
        mark = "" if row.changes_weights else " *"
        table.add_row(Text(one_line(row.setting) + mark), *(Text(_value(value)) for value in row.values))
    if not all(row.changes_weights for row in rows):
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
        yield _weights(who, pair)


def _weights(who: str, pair: Pair) -> str:
    """Say where the weights of a pair part."""
    if not pair.same_shapes:
        return f"the weights of {who} have other shapes, and cannot be compared"
    if pair.same_weights:
        return f"{who} have the same weights, to the bit"
    if pair.unequal_step is not None:
        if pair.equal_step is None:
            return f"the weights of {who} differ after step {pair.unequal_step:,}, the first that both have recorded"
        before = f"are the same up to step {pair.equal_step:,}"
        return f"the weights of {who} {before}; step {pair.unequal_step:,} is the first recorded one that differs"
    if pair.unequal_epoch is not None:
        return f"the losses of {who} differ from epoch {pair.unequal_epoch} on; no weights of equal steps are there"
    if pair.equal_step is not None:
        return f"the weights of {who} are the same up to step {pair.equal_step:,}, the last that both have recorded"
    return f"no step or epoch of both {who} is recorded"


def _instead(fingerprint: str) -> str:
    return f", by other programs or machines: {one_line(fingerprint)}" if fingerprint else ""


def _accuracies(found: Comparison) -> Table:
    """Return the table of the accuracies."""
    table = Table(box=None, header_style="", padding=(0, 2, 0, 0))
    table.add_column("")
    for column in ("right", "accuracy", f"{CONFIDENCE:.0%} interval (Wilson)"):
        table.add_column(column, justify="right", no_wrap=True)
    for side in found.runs:
        if side.correct is not None and side.accuracy is not None and side.interval is not None:
            table.add_row(side.name, f"{side.correct:,}", f"{side.accuracy:.2%}", as_percent(side.interval))
    return table
