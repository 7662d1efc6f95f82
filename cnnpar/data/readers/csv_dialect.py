"""Dialect of a CSV file, found from its first lines: what separates cells, and whether the first line is a header."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from cnnpar.data.readers.csv_lines import Line
from cnnpar.errors import InputError

LABEL_NAMES = frozenset(
    (
        *("label", "labels", "class", "classes", "class_id", "class_label", "target", "targets", "y", "digit"),
        *("category", "categories", "species", "emotion", "letter", "character", "diagnosis", "dx"),
    )
)
INDEX_NAMES = frozenset(
    (
        *("id", "ids", "index", "idx", "image_id", "imageid", "img_id", "sample_id", "row", "row_id", "filename"),
        *("file_name", "file", "image_name", "image_path", "img_name", "path"),
    )
)
_USUAL = LABEL_NAMES | INDEX_NAMES
SHORTEST_NUMBERED = 16  # cells; only a longer line of 0, 1, 2, ... is a header: a short one may be a toy sample
_MOST_LINES, _MOST_CHARACTERS = 100, 1 << 18  # of the first lines, of which there are two at least
_RENAMED = {"0", *(f"0.{number}" for number in range(1, SHORTEST_NUMBERED))}  # what pandas makes of many names of "0"
_QUOTED = re.compile(r'"[^"]*"')
_HINT = re.compile("sep=.?", re.IGNORECASE)  # a first line for Excel
_NUMBER = re.compile(r"[+-]?([0-9]++(\.[0-9]*+)?|\.[0-9]++)(e[+-]?[0-9]++)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)


class Head(NamedTuple):
    """First lines of a file, and what they show."""

    separator: str | None  # None: white space
    names: list[str]  # cells of the header; none without one
    lines: list[Line]  # the first ones that hold a sample
    columns: int  # how many the first of them has

    def cells(self, column: int) -> list[str]:
        """Return the cells of a column in the first lines, without lines that do not reach so far."""
        place = -1 if column == self.columns - 1 else column
        if place in (0, -1):
            return [ends(line.text, self.separator)[place] for line in self.lines]
        found = (next(islice(cells_of(line.text, self.separator), place, None), None) for line in self.lines)
        return [cell for cell in found if cell is not None]


def is_number(cell: str) -> bool:
    """Tell whether a cell is a number, as `numpy.loadtxt` reads them; NaN and infinity are."""
    return _NUMBER.fullmatch(cell) is not None


def counts(cells: Iterable[str]) -> bool:
    """Tell whether cells, if there are any, are 0, 1, 2, ... or 1, 2, 3, ..."""
    rest = iter(cells)
    first = next(rest, "0")
    return first in ("0", "1") and all(cell == str(number) for number, cell in enumerate(rest, int(first) + 1))


def is_index_name(name: str) -> bool:
    """Tell whether a column's name is one of those that numbers of lines and names of files usually have."""
    return name.lower() in INDEX_NAMES or not name or name.lower().startswith("unnamed:")


def cells_of(text: str, separator: str | None) -> Iterator[str]:
    """Iterate over the cells of a line, without quotes and the white space around them; a line may have millions."""
    if separator is None:
        yield from (cell.strip('"') for cell in text.split())
        return
    if '"' in text and text.count('"') % 2 == 0:
        try:
            yield from map(str.strip, next(csv.reader([text], delimiter=separator)))
            return
        except csv.Error:  # a cell of more than 131,072 characters
            pass
    begin = 0
    while (end := text.find(separator, begin)) >= 0:
        yield text[begin:end].strip()
        begin = end + 1
    yield text[begin:].strip()


def ends(text: str, separator: str | None) -> list[str]:
    """Return the first and the last cell of a line."""
    if '"' in text:
        cells = list(cells_of(text, separator))
    else:
        cells = [text.split(separator, 1)[0].strip(), text.strip("\n").rsplit(separator, 1)[-1].strip()]
    return [cells[0], cells[-1]]


def read_head(path: Path, lines: Iterator[Line], label: str) -> Head:
    """Read the first lines; `label` is the name that the label's column may have. Raises InputError without samples."""
    taken = list(islice(lines, 2))
    if taken and _HINT.fullmatch(taken[0].text.strip()):
        taken = [*taken[1:], *islice(lines, 1)]
    size = sum(len(line.text) for line in taken)
    while len(taken) > 1 and len(taken) < _MOST_LINES and size < _MOST_CHARACTERS and (line := next(lines, None)):
        taken.append(line)
        size += len(line.text)
    if not taken:
        raise InputError(f"{path}: no samples; expected lines of label,pixel,pixel,...")
    separator = _separator(taken[min(1, len(taken) - 1)].text)
    if not _is_header(taken, separator, label):
        return Head(separator, [], taken, sum(1 for _ in cells_of(taken[0].text, separator)))
    if len(taken) == 1:
        raise InputError(f"{path}: no samples, only a header; expected lines of label,pixel,pixel,... below it")
    first = list(cells_of(taken[0].text, separator))
    columns = sum(1 for _ in cells_of(taken[1].text, separator))
    if len(first) != columns and not first[0].startswith("#"):
        what = f"{columns} columns, but the header has {len(first)}"
        raise InputError(f"{path}: line {taken[1].number}: {what}")
    first[0] = first[0].lstrip("#").strip()  # numpy.savetxt writes a header as a comment
    return Head(separator, first if len(first) == columns else [], taken[1:], columns)


def _separator(text: str) -> str | None:
    """Return what separates the cells of a line: `;`, a tabulator, a comma, or white space (None).

    Commas within cells may belong to decimals (0,5;0,7), and tabulators to the space beside commas (1,<tab>2).
    """
    text = _QUOTED.sub("", text)
    for separator in ";\t":
        cells = text.split(separator)
        if len(cells) > 1 and all(cell.count(",") <= 1 and not cell.rstrip().endswith(",") for cell in cells):
            return separator
    return "," if "," in text or len(text.split()) == 1 else None


def _is_header(lines: list[Line], separator: str | None, label: str) -> bool:
    """Tell whether the first of the lines is a header, by its cells and those of the second.

    A header's cells are text, but for numbers that count from 0 or 1, as pandas names columns. A sample may have text
    in it, too; so a column must be numbers below its name, or a name be a usual one.
    """

    def cells(line: int = 0) -> Iterator[str]:
        return cells_of(lines[line].text, separator)

    kinds = Counter("" if not cell else "number" if is_number(cell) else "text" for cell in cells())
    if not kinds["text"] and not kinds[""]:
        last = kinds["number"] - 1
        counted = counts(cells()) or counts(islice(cells(), 1, None)) or counts(islice(cells(), last))
        return last >= SHORTEST_NUMBERED and (counted or set(islice(cells(), _MOST_CHARACTERS)) >= _RENAMED)
    if not counts(filter(is_number, cells())):
        return False
    if kinds["number"] > SHORTEST_NUMBERED or any(name == label or name.lower() in _USUAL for name in cells() if name):
        return True
    if kinds["number"] and is_number(next(cells())):  # a sample with a fault in it
        return False
    if len(lines) == 1:
        return kinds["text"] > 1
    return any(
        is_number(below) and name and not is_number(name) for name, below in zip(cells(), cells(1), strict=False)
    )
