"""The output of `cnnpar predict --submission`: a CSV of ids and answers, as Kaggle's contests take it."""

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path, PurePath
from typing import NamedTuple, TextIO

from cnnpar.data.readers.packed import open_text
from cnnpar.data.readers.unlabelled import Origin
from cnnpar.errors import InputError
from cnnpar.report.predictions import Answers, Failed
from cnnpar.text import listed, shown

_NUMBERED = ("ImageId", "Label")  # of Kaggle's "Digit Recognizer"
_NAMED = 3  # classes or files that are named in a message
_LONGEST_NUMBER = 18  # digits of an id that is a number


def header_line(header: Sequence[str]) -> str:
    """Return the first line of a submission with plain names of columns, by which the file is known."""
    return ",".join(header) + "\n"


class Submission:
    """Ids and classes: the id column of a CSV, names of pictures, or numbers from 1 for other rows."""

    def __init__(self, class_names: Sequence[str], file: TextIO, check: Callable[[str], None]) -> None:
        """Begin; `check` gets the file's first line, and raises InputError where it may not be written."""
        self._names, self._check = class_names, check
        self._writer = csv.writer(file, lineterminator="\n")
        self._header: tuple[str, str] | None = None
        self._ids = set[str]()

    def add(self, answers: Answers) -> None:
        """Write the next answers. Raises InputError for ids of another kind, and for one that there is already."""
        for origin, (best,) in zip(answers.origins, answers.likeliest(1).tolist(), strict=True):
            header = _header_of(origin)
            if self._header is None:
                self._check(header_line(header))
                self._header = header
                self._writer.writerow(header)
            if header != self._header:
                what = f"{origin} goes by {header[0]}, and inputs before by {self._header[0]}"
                raise InputError(f"--submission: {what}; predict them apart")
            own = _id_of(origin) or str(len(self._ids) + 1)
            if own in self._ids:
                raise InputError(f"--submission: {origin} has the id {shown(own)}, and so has an input before")
            self._ids.add(own)
            self._writer.writerow([own, self._names[best]])

    def end(self, failed: Sequence[Failed]) -> None:
        """Write nothing."""


class Sample(NamedTuple):
    """A contest's sample of a submission."""

    path: Path
    header: list[str]
    ids: list[str]  # in order


def read_sample(path: Path, class_names: Sequence[str], note: Callable[[str], None]) -> Sample:
    """Read a sample, whose columns are an id and a label, or an id and classes. Raises InputError.

    `note` is told of labels that are no class of the model.
    """
    others: str | None = None
    try:
        with open_text(path) as file, TextIOWrapper(file, "utf-8-sig", newline="") as text:
            rows = csv.reader(text)
            header, ids = next(rows, []), list[str]()
            for row in filter(None, rows):
                ids.append(row[0])
                if len(row) == 2 and row[1] not in class_names:
                    others = others or row[1]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a CSV: {error}") from error
    if len(header) != 2 and not (len(header) > 2 and set(header[1:]) <= {*class_names}):
        what = listed([shown(name) for name in header]) or "nothing"
        raise InputError(
            f"{path}: its columns are {what}; expected an id and a label, or an id and classes of the model"
        )
    if not ids:
        raise InputError(f"{path}: only a header; expected the ids that are asked for")
    (often, times), *_ = Counter(ids).most_common(1)
    if times > 1:
        raise InputError(f"{path}: the id {shown(often)} is there {'twice' if times == 2 else f'{times:,} times'}")
    if others and len(header) == 2:
        had = listed([shown(name) for name in class_names], _NAMED)
        note(f"{path}: {shown(others)} is no class of the model, whose classes are {had}")
    return Sample(path, header, ids)


class SampledSubmission:
    """A submission with the header, the ids and the order of a sample."""

    def __init__(self, class_names: Sequence[str], file: TextIO, sample: Sample, note: Callable[[str], None]) -> None:
        """Begin without answers, which are kept until all are there. `note` is told how ids were understood."""
        self._names, self._file, self._sample, self._note = class_names, file, sample, note
        self._asked = [class_names.index(name) for name in sample.header[1:] if name in class_names]
        self._by_id: dict[str, list[object]] = {}
        self._in_order: list[list[object]] = []  # of rows without ids

    def add(self, answers: Answers) -> None:
        """Keep the next answers. Raises InputError for an id that there is already."""
        best = answers.likeliest(1)[:, 0].tolist()
        for origin, number, row in zip(answers.origins, best, answers.probabilities, strict=True):
            cells: list[object] = [*row[self._asked].tolist()] if self._asked else [self._names[number]]
            own = origin.file if origin.row is None else origin.id
            if not own:
                self._in_order.append(cells)
            elif self._by_id.setdefault(own, cells) is not cells:
                raise InputError(f"--like: {origin} has the id {shown(own)}, and so has an input before")

    def end(self, failed: Sequence[Failed]) -> None:  # noqa: ARG002  # those that are asked for are missing
        """Write all that the sample asks for. Raises InputError where answers are missing."""
        path, ids = self._sample.path, self._sample.ids
        if self._in_order and (self._by_id or len(self._in_order) != len(ids)):
            found = f"{len(self._in_order):,} rows without ids" + " beside others with them" * bool(self._by_id)
            raise InputError(f"{path}: asks for {len(ids):,} answers, and there are {found}; nothing was written")
        found_by_id = self._by_rows() if self._in_order else self._matched()
        missing = [own for own in ids if own not in found_by_id]
        if missing:
            what = f"asks for {len(missing):,} ids that no answer has, such as {shown(missing[0])}"
            raise InputError(f"{path}: {what}; nothing was written; --submission writes what there is")
        more = len(self._by_id) - len(ids)
        if self._by_id and more > 0:
            self._note(f"{path}: asks for {len(ids):,} ids; {more:,} answers are left out")
        writer = csv.writer(self._file, lineterminator="\n")
        writer.writerow(self._sample.header)
        writer.writerows([own, *found_by_id[own]] for own in ids)

    def _by_rows(self) -> dict[str, list[object]]:
        """Return the answers of rows by the sample's ids: numbers of rows, in any order, or else ids in their order."""
        ids = self._sample.ids
        numbers = [int(own) for own in ids if own.isascii() and own.isdecimal() and len(own) <= _LONGEST_NUMBER]
        if sorted(numbers) == [*range(min(numbers, default=0), min(numbers, default=0) + len(ids))]:
            return {own: self._in_order[number - min(numbers)] for own, number in zip(ids, numbers, strict=True)}
        what = f"the rows have no ids, and {shown(ids[0])} is no number of a row"
        self._note(f"{self._sample.path}: {what}: the first id gets the answer to the first row, and so on")
        return dict(zip(ids, self._in_order, strict=True))

    def _matched(self) -> dict[str, list[object]]:
        """Return the answers by the sample's ids: those of rows, or paths of pictures, or ends of them.

        Names may lack their endings. Raises InputError for an id that stands for several pictures.
        """
        depths = {own.count("/") + 1 for own in self._sample.ids}
        known: dict[str, set[str]] = {}
        for name in self._by_id:
            parts = PurePath(name).parts
            for end in (PurePath(*parts[-depth:]) for depth in depths):
                for way in (str(end), str(end.parent / end.stem)):
                    known.setdefault(way, set()).add(name)
        found = {}
        for own in self._sample.ids:
            names = {own} if own in self._by_id else known.get(own, set())
            if len(names) > 1:
                several = listed([shown(name) for name in sorted(names)], _NAMED)
                raise InputError(f"{self._sample.path}: the id {shown(own)} may be {several}; nothing was written")
            for name in names:
                found[own] = self._by_id[name]
        return found


def _header_of(origin: Origin) -> tuple[str, str]:
    """Return the columns of a submission for a sample of this kind."""
    if origin.row is None:
        return "id", "label"
    if not origin.id_name or origin.id_name == _NUMBERED[0]:
        return _NUMBERED
    return origin.id_name, "label"


def _id_of(origin: Origin) -> str:
    """Return what a sample is known by: its id, or the picture's name; "" for a row without an id."""
    return PurePath(origin.file).name if origin.row is None else origin.id
