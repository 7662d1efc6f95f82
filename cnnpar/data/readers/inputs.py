"""Inputs of a prediction: which kind each is, by its name; standard input by its first bytes."""

import gzip
import os
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from shutil import copyfileobj
from typing import Literal, NamedTuple

from cnnpar.data.readers import csv_file, idx
from cnnpar.data.readers.pictures import SUFFIXES
from cnnpar.errors import InputError, reason
from cnnpar.files import STANDARD_INPUT

Kind = Literal["pictures", "csv", "npz", "npy", "idx"]
_START = 16  # bytes that tell what standard input holds
_PICTURES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*")
_IDX = (b"\0\0\x08\x03", b"\0\0\x08\x04")


class Input(NamedTuple):
    """One thing to predict: a picture, a folder of them, or a file of many samples."""

    path: Path  # where it is read
    name: str  # as the user gave it; `-` is standard input
    kind: Kind

    @property
    def is_standard_input(self) -> bool:
        """Tell whether it was piped into the command."""
        return self.name == "-"

    def told(self, fault: str) -> str:
        """Return what is wrong with it, in words that the user knows it by."""
        return fault if not self.is_standard_input else fault.replace(str(self.path), "standard input")


@contextmanager
def opened(places: Sequence[Path]) -> Iterator[list[Input]]:
    """Yield the inputs of these names; standard input is kept in a file meanwhile, as some kinds are read twice.

    Raises InputError where one is named twice, and for a standard input that cannot be read.
    """
    seen = dict[str, Path]()
    for place in places:
        same = seen.setdefault(os.path.realpath(place), place)
        if same is not place:
            names = ["-" if str(each) == STANDARD_INPUT else str(each) for each in (place, same)]
            raise InputError(f"{names[0]}: given twice" + f", as {names[1]} too" * (names[0] != names[1]))
    with ExitStack() as stack:
        yield [
            _kept(stack.enter_context(tempfile.NamedTemporaryFile(prefix="cnnpar-")))
            if str(place) == STANDARD_INPUT
            else Input(place, str(place), _by_name(place))
            for place in places
        ]


def _kept(file: "tempfile._TemporaryFileWrapper[bytes]") -> Input:
    """Return standard input, copied to a file. Raises InputError."""
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        what = "is closed" if sys.stdin is None or sys.stdin.closed else "is a terminal"
        raise InputError(f"standard input {what}; pipe a CSV, an .npz or a picture into it")
    try:
        copyfileobj(sys.stdin.buffer, file)
        file.flush()
    except OSError as error:
        raise InputError(f"standard input cannot be read, or be kept in {file.name}: {reason(error)}") from error
    if not file.tell():
        raise InputError("standard input is empty; expected a CSV, an .npz or a picture")
    return Input(Path(file.name), "-", _by_content(Path(file.name)))


def _by_name(path: Path) -> Kind:
    """Tell what a file or folder is for, by its name; what is not known may be a picture."""
    name = path.name.lower()
    if path.is_dir() and not idx.looks_like(path):
        return "pictures"
    if name.endswith(SUFFIXES):
        return "pictures"
    if csv_file.NAMES.search(name) or path.is_fifo():
        return "csv"
    if name.endswith(".npz"):
        return "npz"
    if name.endswith(".npy"):
        return "npy"
    return "idx" if idx.looks_like(path) else "pictures"


def _by_content(path: Path) -> Kind:
    """Tell what a file is by its first bytes."""
    with path.open("rb") as file:
        start = file.read(_START)
        if start.startswith(b"\x1f\x8b"):
            file.seek(0)
            with suppress(OSError, EOFError, zlib.error):  # its reader will tell
                start = gzip.GzipFile(fileobj=file).read(_START)
    if start.startswith(b"PK\x03\x04"):
        with suppress(zipfile.BadZipFile, ValueError, NotImplementedError), zipfile.ZipFile(path) as archive:
            return "npz" if all(name.endswith(".npy") for name in archive.namelist()) else "csv"
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if start.startswith(_IDX):
        return "idx"
    bitmap = start.startswith(b"BM") and start[6:10] == bytes(4)
    webp = start.startswith(b"RIFF") and start[8:12] == b"WEBP"
    return "pictures" if start.startswith(_PICTURES) or bitmap or webp else "csv"
