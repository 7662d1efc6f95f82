"""Parser of the lines of a CSV file: parts of them become pixels of the smallest type that holds them, and labels."""

import re
import warnings
from collections.abc import Iterator
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnpar.data.dataset import Pixels
from cnnpar.data.pixels import MOST_FLOAT, as_pixels
from cnnpar.data.readers.csv_columns import Columns
from cnnpar.data.readers.csv_dialect import cells_of, is_number
from cnnpar.data.readers.csv_lines import Line
from cnnpar.errors import InputError, reason
from cnnpar.text import is_plain, one_line

_PART = 4 << 20  # characters of lines that are parsed at a time to bytes, and fewer to larger numbers
_LONGEST_LABEL = 100  # characters
_MOST_CLASSES = 1 << 16  # that are text
_MOST_WHOLE = 1 << 24  # whole numbers up to it are exact in float32
_WHOLE = re.compile("[+-]?[0-9]{1,18}")
_MARK = "\x1a"  # around the code of a character that numpy is not to see
_UNSEEN, _CODE = re.compile(f"[^\x00-\x7f]|{_MARK}"), re.compile(f"{_MARK}([0-9a-f]+){_MARK}")
_DECIMAL_COMMA = re.compile("[+-]?[0-9]+,[0-9]+")
_NO_TEXT = {"\ufffd", "\ufeff"}  # bytes that are no text, and a byte order mark where two files were joined
# Types that pixels are read as, in turn, until one holds them; and whether labels may be more than plain digits.
_WAYS: tuple[tuple[type[np.generic], bool], ...] = (
    (np.uint8, False),
    (np.uint8, True),
    (np.int32, True),
    (np.float32, True),
)


class Parser:
    """Parser that keeps what it has found in earlier parts: the type of the pixels, and the labels that are text."""

    def __init__(self, path: Path, separator: str | None, columns: Columns, lines: Iterator[Line]) -> None:
        """Keep what the columns are, and the lines of the samples."""
        self._path, self._separator, self._columns, self._lines = path, separator, columns, lines
        self._way = int(columns.text)  # index into _WAYS
        self._codes: dict[str, int] = {}  # of labels that are text, as they came
        self._line = Line(0, "")  # the last that numpy was given
        self.lines: list[Line] = []  # those of the last part

    def next_part(self) -> tuple[Pixels, NDArray[np.int64]] | None:
        """Parse some lines to pixels (n, P) and labels (n,); None at the end. Raises InputError that names the fault.

        Labels that are text are codes, which `classes` replaces.
        """
        while part := self._take():
            table = self._parse(part)
            if table is None:  # other types are needed
                self._lines = chain(part, self._lines)
                self._way += 1
                continue
            if len(self._codes) > _MOST_CLASSES:
                column = self._columns.label
                what = f"more than {_MOST_CLASSES:,} different labels in column {1 + (column or 0)}"
                raise InputError(f"{self._path}: {what}; data.label says which column has the label")
            self.lines = part
            labels = np.zeros(len(table), np.int64) if self._columns.label is None else table["label"].copy()
            return self._pixels(part, table), labels
        return None

    def _take(self) -> list[Line]:
        """Return the next lines, as many as are parsed at a time; none at the end."""
        part: list[Line] = []
        rest = _PART // _WAYS[self._way][0]().itemsize
        while rest > 0 and (line := next(self._lines, None)):
            part.append(line)
            rest -= len(line.text)
        return part

    def classes(self, labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
        """Return the labels of all parts, and the sorted names of the classes that they index, if they are text."""
        if not self._columns.text:
            return labels, None
        numbers = [_whole(text) for text in self._codes]
        if None not in numbers:
            return np.array(numbers, np.int64)[labels], None
        names = tuple(sorted(self._codes))
        places = {name: place for place, name in enumerate(names)}
        return np.array([places[text] for text in self._codes], np.int64)[labels], names

    def _parse(self, part: list[Line]) -> NDArray[Any] | None:
        """Parse lines to a table; None where they need other types than those of this way. Raises InputError."""
        kind, any_label = _WAYS[self._way]
        label = self._columns.label
        quotes = [line for line in part if '"' in line.text]
        for line in quotes:
            if line.text.count('"') % 2:
                raise self._error(line, self._fault(line) or ": a quote is not closed in its line")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)  # older numpy reads "1.5" as 1, with this warning
                table: NDArray[Any] = np.loadtxt(
                    self._texts(part),
                    dtype=self._dtype(kind),
                    delimiter=self._separator,
                    comments=None,
                    quotechar='"' if quotes else None,
                    converters={label: self._label} if any_label and label is not None else None,
                    max_rows=len(part),
                    ndmin=1,
                )
        except (ValueError, DeprecationWarning) as error:
            # loadtxt takes one line at a time, so the last line read is the one that it refused.
            fault = self._fault(self._line)
            if fault or self._way + 1 == len(_WAYS):
                raise self._error(self._line, fault or f": {one_line(reason(error))}") from error
            return None
        if len(table) != len(part):
            lines = f"lines {part[0].number} to {part[-1].number}"
            raise InputError(f"{self._path}: {lines}: a quote is not closed in its line")
        return table

    def _texts(self, part: list[Line]) -> Iterator[str]:
        """Yield lines of ASCII: numpy takes other characters for indices into a table of 256, wherever they lead to."""
        for self._line in part:
            text = self._line.text
            yield text if text.isascii() and _MARK not in text else _UNSEEN.sub(self._ascii, text)

    def _ascii(self, found: re.Match[str]) -> str:
        """Return a character's code, which `_label` finds again; white space stays that, where no label is text."""
        return " " if found[0].isspace() and not self._columns.text else f"{_MARK}{ord(found[0]):x}{_MARK}"

    def _dtype(self, kind: type[np.generic]) -> np.dtype[Any]:
        """Return the type of a line: a field for each run of columns, of which only the first character is kept."""
        fields: list[Any] = []
        for begin, end in self._columns.runs():
            if begin == self._columns.label:
                fields.append(("label", np.int64))
            elif self._columns.is_pixel(begin):
                fields.append((f"pixels {begin}", kind, (end - begin,)))
            else:
                fields.append((f"left out {begin}", "U1"))  # a character of it is kept
        return np.dtype(fields)

    def _pixels(self, part: list[Line], table: NDArray[Any]) -> Pixels:
        """Return the pixels (n, P) of a table in the smallest type that holds them. Raises InputError."""
        runs = [table[name] for name in table.dtype.names or () if name.startswith("pixels")]
        pixels: NDArray[Any] = runs[0] if len(runs) == 1 else np.concatenate(runs, axis=1)
        if pixels.dtype != np.uint8:
            good = abs(pixels) <= (_MOST_WHOLE if pixels.dtype == np.int32 else MOST_FLOAT)  # false for NaN
            if not good.all():
                row = int(np.flatnonzero(~good.all(axis=1))[0])
                inexact = f": whole numbers beyond {_MOST_WHOLE:,} are not exact in float32"
                raise self._error(part[row], self._fault(part[row]) or inexact)
        return as_pixels(pixels, 1.0, str(self._path))

    def _label(self, cell: str) -> int:
        """Return a label that is a number, or a code for one that is text. Raises ValueError."""
        cell = _CODE.sub(lambda code: chr(int(code[1], 16)), cell).strip()
        if not self._is_label(cell):
            raise ValueError("no label")
        return self._codes.setdefault(cell, len(self._codes)) if self._columns.text else _whole(cell) or 0

    def _is_label(self, cell: str) -> bool:
        """Tell whether a cell is a whole number, or text where labels may be that, though no other number."""
        if _whole(cell) is not None:
            return True
        plain = 0 < len(cell) <= _LONGEST_LABEL and is_plain(cell) and not _NO_TEXT & set(cell)
        return self._columns.text and plain and not is_number(cell)

    def _error(self, line: Line, fault: str) -> InputError:
        return InputError(f"{self._path}: line {line.number}{fault}")

    def _fault(self, line: Line) -> str:
        """Describe the first fault of a line with its column, for a message; "" if none is found."""
        column = -1
        for column, cell in enumerate(cells_of(line.text, self._separator)):
            is_label = column == self._columns.label
            if (self._is_label if is_label else _is_pixel)(cell) or column in self._columns.left_out:
                continue
            shown = repr(cell if len(cell) <= 20 else cell[:20] + "...")
            wanted = self._wanted(cell) if is_label else f"is no pixel (a number, up to {MOST_FLOAT:g})"
            if _DECIMAL_COMMA.fullmatch(cell):
                wanted = "has a decimal comma; write decimals with a point"
            return f", column {column + 1}: {shown} {wanted}"
        if column + 1 != self._columns.count:
            return f": {column + 1} columns, but the first row has {self._columns.count}"
        return ""

    def _wanted(self, cell: str) -> str:
        """Say what a label would be instead of a cell, and which setting may help."""
        if self._columns.text:
            return f"is no label (a whole number, or text of up to {_LONGEST_LABEL} characters in UTF-8)"
        remedy = ""
        if self._columns.guessed:
            remedy = '; data.label says which column has it: "last", or its name'
        elif cell and not is_number(cell):
            remedy = '; data.labels = "as they are" takes text, too'
        return f"is no label (a whole number){remedy}"


def _whole(cell: str) -> int | None:
    """Return a whole number, which may be written 3.0; None for anything else."""
    if _WHOLE.fullmatch(cell):
        return int(cell)
    number = float(cell) if is_number(cell) else float("nan")
    return int(number) if abs(number) < 2**53 and number.is_integer() else None


def _is_pixel(cell: str) -> bool:
    """Tell whether a cell is a number that a pixel may be."""
    return is_number(cell) and isfinite(float(cell)) and abs(float(cell)) <= MOST_FLOAT
