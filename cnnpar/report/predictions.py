"""The output of `cnnpar predict`: a table for people, CSV and JSON, written as the answers come.

CSV has the columns `input`, `class` and `probability`; for further answers `class_2`, `probability_2` and so on; for
all classes `probability_NAME`. JSON is one object of `predictions` and of `failed` inputs.
"""

import csv
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TextIO

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len, set_cell_size

from cnnpar.data.readers.unlabelled import Origin
from cnnpar.errors import InputError
from cnnpar.report.page import WIDTH
from cnnpar.text import harmless

CSV_MARK, JSON_MARK = "input,class,probability", '{"predictions":['  # beginnings of files, by which they are known
_BLOCK = 1000  # rows of the table that are aligned together
_LONGEST_CLASS, _LEAST_INPUT = 24, 12  # columns on a terminal
_GAP, _CUT = "  ", "..."

Failed = tuple[str, str]  # an input that was left out, and why


class Shown(NamedTuple):
    """What is shown of each sample."""

    class_names: tuple[str, ...]
    top: int = 1  # so many of the likeliest classes
    all: bool = False  # the probability of every class


class Answers(NamedTuple):
    """What the model makes of some samples."""

    origins: Sequence[Origin]
    probabilities: NDArray[np.float64]  # (n, classes); see `cnnpar.api.Model.probabilities`

    def likeliest(self, count: int) -> NDArray[np.int64]:
        """Return the likeliest classes of each sample, (n, count); of equal ones the first comes first."""
        if count == 1:
            best: NDArray[np.int64] = self.probabilities.argmax(axis=1)
            return best[:, np.newaxis]
        return np.argsort(-self.probabilities, axis=1, kind="stable")[:, :count]


class Output(Protocol):
    """One way to write answers."""

    def add(self, answers: Answers) -> None:
        """Write the next answers."""

    def end(self, failed: Sequence[Failed]) -> None:
        """Write what comes last."""


class Table:
    """A table for people: on a terminal in 80 columns, by shortening names; else names are whole."""

    def __init__(self, shown: Shown, write: Callable[[str], None], terminal: bool) -> None:
        """Begin. Raises InputError where the columns of all classes do not fit a terminal."""
        self._shown, self._write, self._terminal = shown, write, terminal
        self._names = [_one_line(name) for name in shown.class_names]
        if terminal:
            self._names = [_cut_end(name, _LONGEST_CLASS) for name in self._names]
        if shown.all:
            self._heads = ["input", "class", *self._names]
            self._widths = [max(4, cell_len(name)) for name in self._heads]
            self._widths[1] = max(map(cell_len, ["class", *self._names]))
        else:
            self._heads = ["input", "class", "probability"]
            self._widths = [5, max(map(cell_len, self._heads[1:2] + self._names)), len("probability")]
        rest = sum(self._widths[1:]) + len(_GAP) * (len(self._widths) - 1)
        self._most = WIDTH - rest if terminal else None  # columns of the input's name
        if terminal and WIDTH - rest < _LEAST_INPUT:
            what = f"--proba: {len(self._names)} classes do not fit into {WIDTH} columns"
            raise InputError(f"{what}; --out FILE.csv holds them, and --top 5 shows the likeliest")
        self._rows: list[list[str]] = []
        self._headed = False

    def add(self, answers: Answers) -> None:
        """Take the next answers, and print those that make up a block."""
        best = answers.likeliest(self._shown.top)
        shares = np.take_along_axis(answers.probabilities, best, axis=1)
        everything = answers.probabilities if self._shown.all else [()] * len(best)
        for origin, classes, chances, every in zip(answers.origins, best.tolist(), shares, everything, strict=True):
            name = _one_line(str(origin))
            if self._shown.all:
                self._rows.append([name, self._names[classes[0]], *(f"{chance:.2f}" for chance in every)])
                continue
            for rank, (number, chance) in enumerate(zip(classes, chances.tolist(), strict=True)):
                self._rows.append(["" if rank and self._terminal else name, self._names[number], f"{chance:.2%}"])
        if len(self._rows) >= _BLOCK:
            self._print()

    def end(self, failed: Sequence[Failed]) -> None:  # noqa: ARG002  # they were lines of their own
        """Print what is left."""
        if self._rows:
            self._print()

    def _print(self) -> None:
        """Print the rows that are there, as wide as they need."""
        if self._most is not None:
            for row in self._rows:
                row[0] = _cut_start(row[0], self._most)
        self._widths[0] = max(self._widths[0], *(cell_len(row[0]) for row in self._rows))
        rows = self._rows if self._headed else [self._heads, *self._rows]
        self._write("\n".join(map(self._line, rows)))
        self._rows, self._headed = [], True

    def _line(self, row: list[str]) -> str:
        """Align a row: names to the left, numbers to the right."""
        spaces = [" " * (width - cell_len(cell)) for width, cell in zip(self._widths, row, strict=True)]
        left = [cell + space for cell, space in zip(row[:2], spaces, strict=False)]
        return _GAP.join([*left, *(space + cell for cell, space in zip(row[2:], spaces[2:], strict=True))])


class Csv:
    """A CSV file with a line for each sample."""

    def __init__(self, shown: Shown, file: TextIO) -> None:
        """Write the header."""
        self._shown = shown
        self._writer = csv.writer(file, lineterminator="\n")
        header = CSV_MARK.split(",")
        for rank in range(2, shown.top + 1):
            header += [f"class_{rank}", f"probability_{rank}"]
        if shown.all:
            header += [f"probability_{name}" for name in shown.class_names]
        self._writer.writerow(header)

    def add(self, answers: Answers) -> None:
        """Write the next answers."""
        names, best = self._shown.class_names, answers.likeliest(self._shown.top)
        for origin, classes, row in zip(answers.origins, best.tolist(), answers.probabilities.tolist(), strict=True):
            pairs = [cell for number in classes for cell in (names[number], row[number])]
            self._writer.writerow([origin, *pairs, *(row if self._shown.all else ())])

    def end(self, failed: Sequence[Failed]) -> None:
        """Write nothing."""


class Json:
    """One JSON object on one line; nothing where there are no answers."""

    def __init__(self, shown: Shown, write: Callable[[str], object]) -> None:
        """Begin without answers."""
        self._shown, self._write, self._begun = shown, write, False

    def add(self, answers: Answers) -> None:
        """Write the next answers."""
        best = answers.likeliest(self._shown.top).tolist()
        rows = zip(answers.origins, best, answers.probabilities.tolist(), strict=True)
        self._write("," if self._begun else JSON_MARK)
        self._write(",".join(_encoded(self._facts(*row)) for row in rows))
        self._begun = True

    def end(self, failed: Sequence[Failed]) -> None:
        """Write what failed, and close the object."""
        if self._begun:
            failures = [{"file": file, "error": error} for file, error in failed]
            self._write(f'],"failed":{_encoded(failures)}}}\n')

    def _facts(self, origin: Origin, best: list[int], probabilities: list[float]) -> dict[str, Any]:
        """Return the object of a sample."""
        names = self._shown.class_names
        facts: dict[str, Any] = {"file": origin.file}
        if origin.row is not None:
            facts["row"] = origin.row
        if origin.id_name:
            facts["id"] = origin.id
        facts |= {"class": names[best[0]], "probability": probabilities[best[0]]}
        if self._shown.top > 1:
            facts["top"] = [{"class": names[number], "probability": probabilities[number]} for number in best]
        return facts | {"probabilities": dict(zip(names, probabilities, strict=True))}


def _encoded(facts: object) -> str:
    """Return JSON; what is no UTF-8, such as a file's name, is escaped."""
    try:
        return msgspec.json.encode(facts).decode()
    except UnicodeEncodeError:
        return json.dumps(facts)


def _one_line(name: str) -> str:
    """Return a name as one line without control characters."""
    return harmless(name).replace("\n", "\\n").replace("\t", "\\t")


def _cut_end(name: str, most: int) -> str:
    return name if cell_len(name) <= most else set_cell_size(name, most - len(_CUT)).rstrip() + _CUT


def _cut_start(name: str, most: int) -> str:
    """Shorten a path or the like at its start: its end tells more."""
    if cell_len(name) <= most:
        return name
    while cell_len(name) > most - len(_CUT):
        name = name[1 + max(0, (len(name) - most) // 2) :] if len(name) > 2 * most else name[1:]
    return _CUT + name
