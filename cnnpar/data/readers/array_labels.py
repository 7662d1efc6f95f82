"""Labels of any kind in arrays and lists: whole numbers, or names of classes."""

import math
from collections.abc import Hashable, Iterable, Mapping, Set
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnpar.data.readers.files import numbered
from cnnpar.errors import InputError
from cnnpar.text import is_plain, shown

_INT64 = np.iinfo(np.int64)
_MISSING = ("NAType", "NaTType")  # types of pandas for what is not there
_LONGEST_NUMBER = 18  # digits of a name that is sorted as a number
_LABELS_ARE = "a label is a whole number or a name"
ONE_HOT = "one-hot rows become labels by y.argmax(axis=1)"


def as_labels(values: object, source: str) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """Return labels (N,), and the names of the classes unless the labels are whole numbers, which serve as names then.

    `values`: (N,) or (N, 1), an array of numpy or of others, or anything else that gives labels of any hashable kind.
    Names are in the order of their numbers if all are numbers or members of an `IntEnum`, else in that of text.
    Raises InputError for what is no label, such as None and NaN, and for different labels that have the same name.
    """
    if hasattr(values, "__array__"):
        whole = np.asarray(values)
        if whole.ndim == 2 and whole.shape[1] == 1:
            whole = whole[:, 0]
        if whole.ndim != 1:
            hint = f"; {ONE_HOT}" if whole.ndim == 2 else ""
            raise InputError(f"{source}: labels are of shape {whole.shape}; expected one for each image{hint}")
        if whole.dtype.kind in "iu":
            if whole.size and whole.max() > _INT64.max:
                raise _too_large(int(whole.max()), int(whole.argmax()), source)
            return whole.astype(np.int64), None
        values = whole.tolist() if whole.dtype.kind in "biufUSO" else [str(value) for value in whole]
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping | Set):
        raise InputError(f"{source}: labels are {shown(values)}; expected one for each image")
    labels = [_plain(value, index, source) for index, value in enumerate(values)]
    if all(type(label) is int for label in labels):
        return np.array(labels, np.int64), None
    return _named(labels, source)


def _plain(value: object, index: int, source: str) -> Hashable:
    """Return a label as a plain value of Python. Raises InputError for what is no label."""
    if type(value) in (str, int) and value != "":
        found: Hashable = value  # as nearly always
    elif isinstance(value, Enum):
        return value
    elif callable(item := getattr(value, "item", None)):  # of numpy, torch and others: a number, or an array of one
        if math.prod(getattr(value, "shape", ())) != 1:
            raise _no_label(value, index, source, ONE_HOT)
        return _plain(item(), index, source)
    elif isinstance(value, list | tuple):
        if len(value) != 1:
            raise _no_label(value, index, source, ONE_HOT)
        return _plain(value[0], index, source)
    elif isinstance(value, float):
        if not value.is_integer():
            raise _no_label(value, index, source)
        found = int(value)
    elif isinstance(value, bytes):
        found = value.decode(errors="replace")
    elif value is None or type(value).__name__ in _MISSING or not isinstance(value, Hashable):
        raise _no_label(value, index, source)
    else:
        found = value
    if isinstance(found, int) and not _INT64.min <= found <= _INT64.max:
        raise _too_large(found, index, source)
    if not str(found).strip() or not is_plain(str(found)):
        raise _no_label(value, index, source)
    return found


def _no_label(value: object, index: int, source: str, hint: str = _LABELS_ARE) -> InputError:
    return InputError(f"{source}: {numbered(index)}: {shown(value)} is no label; {hint}")


def _too_large(label: int, index: int, source: str) -> InputError:
    where = "2^63 - 1" if label > 0 else "-2^63"
    hint = "np.unique(y, return_inverse=True)[1] numbers the classes from 0"
    return InputError(f"{source}: {numbered(index)}: label {shown(label)} is beyond {where}; {hint}")


def _named(labels: list[Hashable], source: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return labels as indices into the sorted names of those that occur. Raises InputError for names of two."""
    known: dict[str, Hashable] = {}
    names = [label.name if isinstance(label, Enum) else str(label) for label in labels]
    for name, label in zip(names, labels, strict=True):
        other = known.setdefault(name, label)
        if other is not label and (other != label or type(other) is not type(label)):
            raise InputError(f"{source}: labels {shown(other)} and {shown(label)} have one name, {name}; give them two")
    classes = sorted(known)
    numbers = [_number(known[name]) for name in classes]
    if None not in numbers:
        classes = [name for _, name in sorted(zip(numbers, classes, strict=True))]
    order = {name: index for index, name in enumerate(classes)}
    return np.array([order[name] for name in names], np.int64), tuple(classes)


def _number(label: Any) -> int | None:
    """Return the number that a label is sorted by; None for one that is sorted as text."""
    if isinstance(label, str):
        digits = label.removeprefix("-")
        return int(label) if digits.isascii() and digits.isdecimal() and len(digits) <= _LONGEST_NUMBER else None
    return int(label) if isinstance(label, int) and not isinstance(label, bool) else None
