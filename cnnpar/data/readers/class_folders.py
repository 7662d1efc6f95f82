"""Files of a folder with a folder of pictures for each class: its parts, classes and pictures, without leftovers."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnpar.data.readers.files import Part
from cnnpar.data.readers.pictures import KINDS, SUFFIXES
from cnnpar.errors import InputError, reason
from cnnpar.text import is_plain, listed, shown

# Usual names of the folders of parts, in lower case.
_PARTS: dict[str, Part] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# What systems leave in folders, in lower case; what begins with a dot is passed over anyway.
_LEFTOVERS = frozenset(
    {
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),  # Windows
        *("__macosx", "icon\r"),  # macOS
        *("lost+found", "@eadir", "#recycle"),  # file systems, and servers of files
    }
)


class PartFolder(NamedTuple):
    """Folder of a part's classes, and what else is beside it."""

    path: Path
    others: frozenset[Part] = frozenset()  # parts beside it that have classes, too
    understood: str = ""
    notes: tuple[str, ...] = ()


class Pictures:
    """Paths of all pictures, sorted by class and name; only their names are kept, as there may be millions."""

    def __init__(self, path: Path, skip: bool) -> None:
        """List the pictures of the class folders in a folder; if `skip`, without other files.

        Raises InputError if there are none, if one is empty or holds anything else, or has a name that is no line of
        text, which no checkpoint could hold.
        """
        self.others: list[Path] = []  # files that are left out
        self.classes = [path / name for name in _list_folders(path)]
        for folder in self.classes:
            if not is_plain(folder.name):
                what = f"class folder {shown(folder.name)}: control characters, or no UTF-8"
                raise InputError(f"{path}: {what}; no checkpoint can hold that name, rename it")
        self._names = [
            _list_pictures(folder, len(self.classes) == 1, self.others if skip else None) for folder in self.classes
        ]
        counts = [len(names) for names in self._names]
        self._begins = np.cumsum([0, *counts])
        self.labels: NDArray[np.int64] = np.repeat(np.arange(len(counts), dtype=np.int64), counts)  # (N,)
        if not self.classes:
            raise InputError(f"{path}: no class folders in it; expected one for each class, with {KINDS} pictures")

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[str]:
        return (
            f"{folder}{os.sep}{name}"
            for folder, names in zip(map(str, self.classes), self._names, strict=True)
            for name in names
        )

    def path(self, index: int) -> Path:
        """Return the path of a picture."""
        label = int(np.searchsorted(self._begins, index, side="right")) - 1
        return self.classes[label] / self._names[label][index - int(self._begins[label])]


def find_part(path: Path, part: Part) -> PartFolder:
    """Return the folder of a part's classes: `path` itself, or, if it holds train/, val/ and the like, one of those.

    Raises InputError if the part is missing there.
    """
    folders = _list_folders(path)
    named = [(name, _PARTS[name.lower()]) for name in folders if name.lower() in _PARTS]
    with_classes = [(name, of) for name, of in named if _list_folders(path / name)]
    parts = {of: name for name, of in with_classes}
    if not parts or ("train" not in parts and len(named) < len(folders)):  # such a name may be a class's, too
        return PartFolder(path)
    if len(parts) < len(with_classes):
        raise InputError(f"{path}: holds {listed([name for name, _ in with_classes])}; give one of them")
    if part not in parts:
        raise InputError(f"{path}: holds {listed(list(parts.values()))}, and no folder `{part}`; give one of them")
    notes, classes = [], set(_list_folders(path / parts["train"])) if "train" in parts else set()
    for name, of in named:
        known = classes & set(_list_folders(path / name))
        if part == "train" and not known:  # such as pictures without labels, for a contest
            notes.append(f"{path / name}: none of the class folders of {parts['train']} in it; it is left out")
            parts.pop(of, None)
    others = frozenset(parts) - {part}
    beside = f" beside {listed(sorted(parts[of] for of in others))}" if part == "train" and others else ""
    return PartFolder(path / parts[part], others, f"folder {parts[part]}{beside}", tuple(notes))


def _list_folders(path: Path) -> list[str]:
    """List the visible folders in a folder, sorted. Raises InputError."""
    return [name for name in list_visible(path) if (path / name).is_dir()]


def list_visible(folder: Path) -> list[str]:
    """List the names in a folder, sorted, without hidden ones and leftovers. Raises InputError."""
    try:
        names = os.listdir(folder)  # noqa: PTH208  # there may be a million
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {reason(error)}") from error
    return sorted(name for name in names if not name.startswith(".") and name.lower() not in _LEFTOVERS)


def _list_pictures(folder: Path, only: bool, others: list[Path] | None) -> list[str]:
    """List the names of pictures in a class folder. Raises InputError if it is empty or holds anything else.

    `only`: it is the only one. `others`: gets the other files; None: there may be none.
    """
    names = list_visible(folder)
    if not names:
        raise InputError(f"{folder}: this class folder is empty; fill or remove it")
    pictures = [name for name in names if name.lower().endswith(SUFFIXES)]
    if len(pictures) < len(names):
        for name in sorted({*names} - {*pictures}):
            if only and all((folder / other).is_dir() for other in names):
                raise InputError(
                    f"{folder.parent}: one level too high: all in it is one folder of folders; give {folder}"
                )
            if (folder / name).is_dir():
                raise InputError(f"{folder / name}: is a folder; {folder.parent} is to hold one folder for each class")
            if others is None:
                what = f"not a {KINDS} picture; a class folder holds nothing else"
                raise InputError(f'{folder / name}: {what}, but for data.on_bad = "skip", which leaves it out')
            others.append(folder / name)
    return pictures
