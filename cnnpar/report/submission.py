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


def read_sample(path: Path, class_names: Sequence[str]) -> Sample:
    """Read a sample, whose columns are an id and a label, or an id and classes. Raises InputError."""
    try:
        with open_text(path) as file, TextIOWrapper(file, "utf-8-sig", newline="") as text:
            rows = csv.reader(text)
            header = next(rows, [])
            ids = [row[0] for row in rows if row]
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
    return Sample(path, header, ids)


class SampledSubmission:
    """A submission with the header, the ids and the order of a sample."""

    def __init__(self, class_names: Sequence[str], file: TextIO, sample: Sample) -> None:
        """Begin without answers, which are kept until all are there."""
        self._names, self._file, self._sample = class_names, file, sample
        self._asked = [class_names.index(name) for name in sample.header[1:] if name in class_names]
        self._by_id: dict[str, list[object]] = {}
        self._in_order: list[list[object]] = []  # of rows without ids

    def add(self, answers: Answers) -> None:
        """Keep the next answers. Raises InputError for an id that there is already."""
        best = answers.likeliest(1)[:, 0].tolist()
        for origin, number, row in zip(answers.origins, best, answers.probabilities, strict=True):
            cells: list[object] = [*row[self._asked].tolist()] if self._asked else [self._names[number]]
            own = _id_of(origin)
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
        found_by_id = dict(zip(ids, self._in_order, strict=True)) if self._in_order else self._matched()
        missing = [own for own in ids if own not in found_by_id]
        if missing:
            what = f"asks for {len(missing):,} ids that no answer has, such as {shown(missing[0])}"
            raise InputError(f"{path}: {what}; nothing was written")
        writer = csv.writer(self._file, lineterminator="\n")
        writer.writerow(self._sample.header)
        writer.writerows([own, *found_by_id[own]] for own in ids)

    def _matched(self) -> dict[str, list[object]]:
        """Return the answers by the sample's ids, which may name pictures without their endings."""
        stems: dict[str, list[str]] = {}
        for name in self._by_id:
            stems.setdefault(PurePath(name).stem, []).append(name)
        found = {}
        for own in self._sample.ids:
            names = [own] if own in self._by_id else stems.get(own, [])
            if len(names) == 1:
                found[own] = self._by_id[names[0]]
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
