"""Reader of CIFAR's binary version: `data_batch_*.bin`, `test_batch.bin`; of 100 classes `train.bin`, `test.bin`.

A record is a byte for the label (CIFAR-100: two, of the coarse and of the fine class), and 32 x 32 pixels of red, then
of green, then of blue. Names of the classes are read from the text files beside, where they are.
Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", the page of the data sets.
"""

import os
import re
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.data import Data
from cnnpar.data.readers.files import CheckLabels, HashedFile, Part, RawSamples, numbered, require_memory
from cnnpar.errors import InputError
from cnnpar.text import is_plain, shown

_BATCH = re.compile(r"(data_batch_[1-9][0-9]?|test_batch|train|test)\.bin")
_PLANES = (3, 32, 32)  # channels, height, width
_LONGEST_NAMES = 1 << 16  # bytes of a text file of class names
_RECORDS = 1024  # read at a time


def looks_like(path: Path) -> bool:
    """Tell whether a path is a file of CIFAR's, or a folder that holds its training files, by their names."""
    if path.is_dir():
        return bool(_batches(path, "train"))
    return _BATCH.fullmatch(path.name) is not None


def read(path: Path, part: Part, settings: Data, check: CheckLabels) -> RawSamples:
    """Read the training or test files of a folder, or one file. Raises InputError."""
    whole = path.is_dir()
    files = _batches(path, part) if whole else [path]
    if not files:
        raise InputError(f"{path}: has no {part} files of CIFAR; expected test_batch.bin or test.bin")
    fine = files[0].name in ("train.bin", "test.bin")  # of CIFAR-100
    coarse = fine and settings.label.startswith("coarse")
    counts = [_count(file, 2 if fine else 1) for file in files]
    require_memory(path, sum(counts) * (prod(_PLANES) + 8))
    images = np.empty((sum(counts), *_PLANES[1:], _PLANES[0]), np.uint8)  # (N, H, W, C)
    labels = np.empty(len(images), np.int64)
    done = 0
    for file, count in zip(files, counts, strict=True):
        part_of = slice(done, done + count)
        _fill(file, images[part_of], labels[part_of], 2 if fine else 1, 0 if coarse or not fine else 1)
        done += count
    kind = f"{'coarse' if coarse else 'fine'}_label_names.txt" if fine else "batches.meta.txt"
    names = _names(files[0].with_name(kind))
    if names is None:
        check(labels, numbered)
    elif labels.max() >= len(names):
        raise InputError(f"{path}: has label {labels.max()}, and {kind} only {len(names)} names")
    classes = f"CIFAR-100's {'coarse' if coarse else 'fine'} classes" if fine else "CIFAR-10's binary files"
    tested: frozenset[Part] = frozenset(["test"] if whole and _batches(path, "test") else [])
    return RawSamples(images, labels, numbered, names, tested, classes)


def _batches(folder: Path, part: Part) -> list[Path]:
    """Return the files of a part that are in a folder, in the order of their numbers; of CIFAR-10, if it has both."""
    if part == "test":
        wanted = [["test_batch.bin"], ["test.bin"]]
    else:
        wanted = [[f"data_batch_{number}.bin" for number in range(1, 100)], ["train.bin"]]
    there = [[folder / name for name in names if (folder / name).is_file()] for names in wanted]
    return next((files for files in there if files), [])


def _count(file: Path, labels: int) -> int:
    """Return the number of records in a file by its size. Raises InputError where it holds no whole ones."""
    size, record = file.stat().st_size, labels + prod(_PLANES)
    if not size or size % record:
        raise InputError(f"{file}: {size:,} bytes are no records of CIFAR, of {record:,} bytes each")
    return size // record


def _fill(file: Path, images: NDArray[np.uint8], labels: NDArray[np.int64], width: int, column: int) -> None:
    """Read the records of a file into (n, H, W, C) and (n,). Raises InputError where the file gets shorter."""
    record = width + prod(_PLANES)
    with HashedFile(file, None) as opened:
        for start in range(0, len(images), _RECORDS):
            count = min(_RECORDS, len(images) - start)
            records = np.frombuffer(_exactly(file, opened, count * record), np.uint8).reshape(count, record)
            labels[start : start + count] = records[:, column]
            images[start : start + count] = records[:, width:].reshape(count, *_PLANES).transpose(0, 2, 3, 1)


def _exactly(file: Path, opened: HashedFile, size: int) -> bytes:
    """Read so many bytes. Raises InputError where there are fewer."""
    pieces: list[bytes] = []
    while size and (piece := opened.read(size)):
        pieces.append(piece)
        size -= len(piece)
    if size:
        raise InputError(f"{file}: ends too early, as if it were changed while it was read")
    return b"".join(pieces)


def _names(file: Path) -> tuple[str, ...] | None:
    """Return the class names of a text file, one a line; None where there is none. Raises InputError for odd ones."""
    if not os.path.lexists(file):
        return None
    with HashedFile(file, None) as opened:
        text = opened.content(_LONGEST_NAMES).decode(errors="replace")
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    for name in names:
        if not is_plain(name):
            raise InputError(f"{file}: {shown(name)} is no name of a class")
    if len(set(names)) < len(names):
        raise InputError(f"{file}: has a name twice; give each class its own")
    return names
