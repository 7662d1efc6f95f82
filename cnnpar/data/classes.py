"""Labels and class names: what the labels of a source stand for, and how those of test data match the training's."""

import re
from collections.abc import Callable
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from cnnpar.data.readers.files import PlaceOf, RawSamples
from cnnpar.errors import InputError
from cnnpar.text import listed, shown

_NUMBER = re.compile("0|-?[1-9][0-9]*")
Labels = NDArray[np.int64]  # (N,)


def check_training_labels(source: str, as_they_are: bool, labels: Labels, place_of: PlaceOf) -> None:
    """Raise InputError unless labels are 0..K-1 and each of them occurs, or numbers are taken as they are."""
    if as_they_are:
        return
    remedy = 'data.labels = "as they are" takes the numbers that occur as classes'
    if labels.min() < 0:
        first = int(np.flatnonzero(labels < 0)[0])
        raise InputError(f"{source}: {place_of(first)}: label {labels[first]} is below 0; {remedy}")
    present = np.unique(labels)
    highest = int(present[-1])
    if highest != len(present) - 1:
        missing = int(np.flatnonzero(present != np.arange(len(present)))[0])
        gap = f"label {missing} never occurs, but {highest} does"
        raise InputError(f"{source}: {gap}; number the classes from 0 without gaps, or {remedy}")


def training_classes(source: str, found: RawSamples, as_they_are: bool) -> tuple[Labels, tuple[str, ...]]:
    """Return labels 0..K-1 and the names of the classes. Raises InputError for names that look the same."""
    names = found.class_names
    if names is None:
        if not as_they_are:
            return found.labels, tuple(map(str, range(int(found.labels.max()) + 1)))
        present, labels = np.unique(found.labels, return_inverse=True)
        return labels.astype(np.int64).reshape(-1), tuple(map(str, present.tolist()))
    alike: dict[str, str] = {}
    for name in names:
        other = alike.setdefault(_composed(name), name)
        if other != name:
            what = f"classes {other!a} and {name!a} look the same, with accents composed in one of them"
            raise InputError(f"{source}: {what}; give them one name")
    return found.labels, names


def match_labels(source: str, found: RawSamples, class_names: tuple[str, ...], note: Callable[[str], None]) -> Labels:
    """Return the labels of test data as indices into the training's classes. Raises InputError for unknown classes.

    Numbers are matched with classes that have numbers for names; with others by their position, of which `note` is
    told.
    """
    if found.class_names is None:
        return _numbers(source, found.labels, found.place_of, class_names, note)
    known = {_composed(name): index for index, name in enumerate(class_names)}
    unknown = [label for label, name in enumerate(found.class_names) if _composed(name) not in known]
    if unknown:
        samples = np.flatnonzero(np.isin(found.labels, unknown))
        first = int(samples[0])
        name = shown(found.class_names[found.labels[first]])
        what = f"class {name} was not in training, which had {listed(class_names)}"
        more = f"; {len(samples)} of {len(found.labels)} samples are of such classes" if len(samples) > 1 else ""
        raise InputError(f"{source}: {found.place_of(first)}: {what}{more}")
    return np.array([known[_composed(name)] for name in found.class_names], np.int64)[found.labels]


def check_test_labels(source: str, class_names: tuple[str, ...], labels: Labels, place_of: PlaceOf) -> None:
    """Raise InputError unless training had all labels, which are numbers."""
    _numbers(source, labels, place_of, class_names, None)


def _numbers(
    source: str,
    labels: Labels,
    place_of: PlaceOf,
    class_names: tuple[str, ...],
    note: Callable[[str], None] | None,
) -> Labels:
    """Return numbers as indices into the training's classes. Raises InputError for others."""
    named = not all(map(_NUMBER.fullmatch, class_names))
    known = {number if named else int(name): number for number, name in enumerate(class_names)}
    present, inverse = np.unique(labels, return_inverse=True)
    for value in present.tolist():
        if value not in known:
            first = int(np.flatnonzero(labels == value)[0])
            had = (
                f"0 to {len(class_names) - 1}" if list(known) == list(range(len(class_names))) else listed(class_names)
            )
            raise InputError(f"{source}: {place_of(first)}: label {value} was not in training, which had {had}")
    if named and note:
        pairs = listed([f"{number} for {name}" for number, name in enumerate(class_names)])
        note(f"{source}: its labels are numbers, taken by position: {pairs}")
    return np.array([known[value] for value in present.tolist()], np.int64)[inverse.reshape(-1)]


def _composed(name: str) -> str:
    """Return a name with accents composed; file systems keep them either way."""
    return normalize("NFC", name)
