"""Columns of a CSV file: which holds the label, which are pixels, and which are neither."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt, prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.data import Data
from cnnpar.data.dataset import ImageShape, Pixels
from cnnpar.data.readers.csv_dialect import (
    INDEX_NAMES,
    LABEL_NAMES,
    SHORTEST_NUMBERED,
    Head,
    cells_of,
    counts,
    is_index_name,
    is_number,
)
from cnnpar.errors import InputError
from cnnpar.text import dimensions, listed, shown

_MOST_SHARE = 0.95  # largest part of the samples that one class has in a column that looks like labels
_FEW, _MANY = 100, 1000  # classes that a column of labels often has, and at most has, where it is guessed
_FEWEST = 10  # samples that show what looks like labels, or like numbers of samples
_MOST_OTHERS = 16  # columns that are neither pixels nor the label
_WHOLE_IMAGE = re.compile(r"[0-9]+( [0-9]+){3,}")
_DIGITS = re.compile("[0-9]+")
_WHOLE = re.compile("[0-9]{1,18}")


@dataclass(frozen=True)
class Columns:
    """What the columns of a file are, counted from 0."""

    count: int
    label: int | None  # None: the file has images alone
    left_out: tuple[int, ...]  # neither label nor pixels
    image_shape: ImageShape
    names: dict[int, str]  # of the columns that are no pixels; none without a header
    guessed: bool = False  # neither the settings nor the file say where the label is: the first column is taken
    text: bool = False  # labels may be text
    ids: int | None = None  # of those left out, the first that the header says numbers or names the samples

    def runs(self) -> Iterator[tuple[int, int]]:
        """Iterate over the runs of columns that are of one kind, as (begin, end)."""
        begin = 0
        for column in sorted([*self.left_out, *([] if self.label is None else [self.label])]):
            if begin < column:
                yield begin, column
            yield column, column + 1
            begin = column + 1
        if begin < self.count:
            yield begin, self.count

    def is_pixel(self, column: int) -> bool:
        """Tell whether a column holds a pixel."""
        return column != self.label and column not in self.left_out

    @property
    def understood(self) -> str:
        """What the columns were taken for, for people."""
        label = [] if self.label is None else [f"label in {self._titled(self.label)}"]
        return ", ".join([*label, *(f"{self._titled(column)} left out" for column in self.left_out[:2])])

    def _titled(self, column: int) -> str:
        name = self.names.get(column)
        return f"column {column + 1} {shown(name)}" if name else f"column {column + 1}"


def find_columns(path: Path, head: Head, shape: tuple[int, ...], settings: Data, *, labelled: bool) -> Columns:
    """Find out what the columns are. Raises InputError where that is not clear, or the images have another shape.

    `shape` is (height, width[, channels]), or () for square grey images. `labelled`: there must be a label.
    """
    line, count = head.lines[0].number, head.columns
    _refuse_whole_images(path, head)
    index = _index_columns(head, shape, settings.label)
    number = count - len(index)
    if number == 0 or (count == 1 and labelled):
        raise InputError(f"{path}: line {line}: no comma; expected label,pixel,pixel,...")
    others = _other_columns(head, index, shape)
    complete = _fits(number, shape) and (bool(shape) or number >= SHORTEST_NUMBERED or others == [])
    label, guessed = _label_by_name(path, head, index, others, settings.label, complete), False
    if label is None and complete and labelled:
        alike = dimensions(shape or [isqrt(number)] * 2)
        what = f"its {number} columns are as many as the pixels of {alike}"
        raise InputError(f"{path}: labels are missing: {what}; add a column with the label of each line")
    first, last = (next(column for column in way if column not in index) for way in (range(count), range(count)[::-1]))
    if label is None and not complete:
        label, guessed = _label_by_place(head, first, last, settings.label)
    left_out = {*index, *(others or [])} - {label}
    pixels = count - len(left_out) - (label is not None)
    place = "in a line" if label is None else "after the label" if label == first else "beside the label"
    cells = [] if label is None else head.cells(label)
    if not labelled and label is not None:
        left_out.add(label)
        label = None
    _refuse_other_order(path, head, {*left_out, label})
    named = [column for column in (*left_out, label) if head.names and column is not None]
    return Columns(
        count=count,
        label=label,
        left_out=tuple(sorted(left_out)),
        image_shape=_image_shape(path, line, pixels, shape, place, _said(settings.label, label, head)),
        names={column: head.names[column] for column in named},
        guessed=guessed,
        text=labelled and (2 * sum(map(_is_text, cells)) > len(cells) or settings.labels == "as they are"),
        ids=next((column for column in index if head.names and head.names[column].lower() in INDEX_NAMES), None),
    )


def check_guess(path: Path, labels: NDArray[np.int64], images: Pixels) -> None:
    """Raise InputError if the first column, taken for the label, looks less like labels than the last column does.

    `labels`: those of the first column, (N,), or (0,) where it was left out unread.
    """
    read = len(labels) > 0
    constant = not read or bool((labels == labels[0]).all())
    if len(images) < _FEWEST and not (read and constant):
        return
    first, unevenness = _classes(labels, 1) if read else (0, 0.0)
    last, unevenness_of_last = _classes(images.reshape(len(images), -1)[:, -1], 2)
    if 0 < last <= _MANY and (not first or last <= _FEW < first or unevenness_of_last <= unevenness):
        why = "does less" if not constant else "has one value" if read else "is left out"
        raise InputError(
            f"{path}: the last column looks like labels, of {last} classes, and the first {why}; "
            'data.label = "last" takes the last for the label, "first" the first'
        )


def _classes(column: NDArray[np.generic], fewest: int) -> tuple[int, float]:
    """Return the number of classes in a column that looks like labels, or 0; and the largest over the mean.

    Labels are whole numbers from 0 or 1 without gaps, of which each occurs a few times, and none nearly always.
    """
    values, times = np.unique(column, return_counts=True)
    largest = times.max() / len(column)
    gapless = len(values) > 1 and values[0] in (0, 1) and values[-1] - values[0] == len(values) - 1
    if not gapless or (values != np.rint(values)).any() or largest > _MOST_SHARE or times.min() < fewest:
        return 0, 0.0
    return len(values), float(largest * len(values))


def _index_columns(head: Head, shape: tuple[int, ...], label: str) -> list[int]:
    """Return the columns that number the samples or name their files: by the header, or as one is too many."""
    usual = [column for column, name in enumerate(head.names) if is_index_name(name)][: _MOST_OTHERS + 1]
    usual = [column for column in usual if not label or head.names[column].lower() != label.lower()]
    named = [column for column in usual if len(usual) <= _MOST_OTHERS and _distinct(head.cells(column))]
    first = head.cells(0)
    if named or not _fits(head.columns - 2, shape) or len(first) < 2:
        return named
    return [0] if counts(first) or _number_samples(first) or (_distinct(first) and all(map(_is_text, first))) else []


def _number_samples(cells: list[str]) -> bool:
    """Tell whether cells are whole numbers none of which occurs twice: those of samples that were shuffled or split."""
    return len(cells) >= _FEWEST and _distinct(cells) and all(map(_WHOLE.fullmatch, cells))


def _other_columns(head: Head, index: list[int], shape: tuple[int, ...]) -> list[int] | None:
    """Return the columns not named alike, if the others are as many as pixels; None if the header does not tell.

    Named alike are pixel0, pixel1, ...
    """
    stems = Counter(_DIGITS.sub("", name) for name in head.names)
    stem, number = stems.most_common(1)[0] if stems else ("", 0)
    if number < 2 or not _fits(number, shape) or len(head.names) - number > _MOST_OTHERS:
        return None
    return [c for c, name in enumerate(head.names) if c not in index and _DIGITS.sub("", name) != stem]


def _label_by_name(
    path: Path, head: Head, index: list[int], others: list[int] | None, wanted: str, complete: bool
) -> int | None:
    """Return the column that the header says is the label's; None if it does not say so. Raises InputError."""
    if wanted in ("first", "last"):
        return None
    if not wanted:
        usual = [c for c, name in enumerate(head.names) if name.lower() in LABEL_NAMES and c not in index]
        found = usual or others or []
        if len(found) > 1:
            several = _listed([head.names[column] for column in found])
            raise InputError(f"{path}: which column is the label, {several}? data.label = NAME says it")
        return found[0] if found else None
    found = [column for column, name in enumerate(head.names) if name == wanted]
    found = found or [column for column, name in enumerate(head.names) if name.lower() == wanted.lower()]
    if len(found) == 1:
        return found[0]
    if complete:
        return None
    what = f"{path}: data.label is {shown(wanted)}"
    if not head.names:
        raise InputError(f'{what}, but there is no header; without one it is "first" or "last"')
    have = f"the name of {len(found)} columns" if found else "the name of no column"
    raise InputError(f"{what}, which is {have}; the names are {_listed(head.names)}")


def _label_by_place(head: Head, first: int, last: int, wanted: str) -> tuple[int, bool]:
    """Return the column of the label where no name tells it, and whether that is guessed: the first, unless text."""
    if wanted:
        return (last if wanted == "last" else first), False
    at_first, at_last = (all(map(_is_text, head.cells(column))) for column in (first, last))
    return (last, False) if at_last and not at_first and len(head.lines) > 1 else (first, True)


def _as_number(digits: str) -> tuple[int, str]:
    """Return what sorts digits as the number that they are: Python converts a few thousand digits at most."""
    digits = digits.lstrip("0")
    return len(digits), digits


def _refuse_other_order(path: Path, head: Head, no_pixels: set[int | None]) -> None:
    """Raise InputError where the names of the pixels number them, and not in the order of the columns."""
    names = [name for column, name in enumerate(head.names) if column not in no_pixels]
    numbers = [list(map(_as_number, _DIGITS.findall(name))) for name in names]
    if len({_DIGITS.sub("", name) for name in names}) != 1 or any(len(found) != 1 for found in numbers):
        return
    for name, number, following, next_number in zip(names, numbers, names[1:], numbers[1:], strict=False):
        if number >= next_number:
            what = f"pixels are out of order: {shown(name)} stands before {shown(following)}"
            raise InputError(f"{path}: {what}; sort the columns (pandas: frame[sorted(NAMES, key=...)])")


def _refuse_whole_images(path: Path, head: Head) -> None:
    """Raise InputError for a cell that holds numbers between spaces, as FER2013 has its pixels."""
    for column, cell in enumerate(cells_of(head.lines[0].text, head.separator), start=1):
        if _WHOLE_IMAGE.match(cell):
            what = "holds a whole image; write each pixel into a column of its own"
            how = "pandas: frame[NAME].str.split(expand=True)"
            raise InputError(f"{path}: line {head.lines[0].number}, column {column} {what} ({how})")


def _image_shape(path: Path, line: int, pixels: int, shape: tuple[int, ...], place: str, said: str) -> ImageShape:
    """Return (height, width, channels) for `pixels` values a line. Raises InputError where `shape` does not fit.

    `place`, `said`: where they are, and which column the settings take for the label.
    """
    if not _fits(pixels, shape):
        if shape:
            expected = f"{dimensions(shape)} = {prod(shape)}"
            raise InputError(f"{path}: line {line}: {pixels} pixels {place}; expected {expected}")
        side = isqrt(pixels // 3)
        colour = f", such as [{side}, {side}, 3]" if pixels and 3 * side * side == pixels else ""
        raise InputError(
            f"{path}: line {line}: {pixels} pixels{said} are no square image; "
            f"set data.shape = [height, width] or [height, width, channels]{colour}"
        )
    height, width, channels = (*(shape or [isqrt(pixels)] * 2), 1)[:3]
    return height, width, channels


def _said(wanted: str, label: int | None, head: Head) -> str:
    """Say which column the settings take for the label, where they do."""
    if not wanted or label is None:
        return ""
    name = f" {shown(head.names[label])}" if head.names else ""
    return f" beside the label, which is column {label + 1}{name} by data.label = {wanted!r},"


def _fits(pixels: int, shape: tuple[int, ...]) -> bool:
    """Tell whether so many pixels make an image of the shape; () is any square."""
    return pixels == prod(shape) if shape else pixels > 0 and isqrt(pixels) ** 2 == pixels


def _distinct(cells: list[str]) -> bool:
    return len(set(cells)) == len(cells)


def _is_text(cell: str) -> bool:
    return cell != "" and not is_number(cell)


def _listed(names: list[str]) -> str:
    return listed([shown(name) for name in names[:9]])
