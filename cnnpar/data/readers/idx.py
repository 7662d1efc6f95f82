"""Reader of IDX, the format of MNIST: an images file, and a labels file beside it, each gzipped or not.

A file holds, big-endian: two zero bytes, the type (8 = uint8, 12 = int32), the number of dimensions, each dimension as
uint32, then the elements. Images have three dimensions, or four with channels; labels one, or two in QMNIST's files
idx2-int, whose first column they are.
Source: Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits", file formats.
"""

import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from gzip import GzipFile
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnpar.data.dataset import ImageShape
from cnnpar.data.readers.arrays import as_whole, channels_hint
from cnnpar.data.readers.files import (
    MOST_DEFLATED,
    CheckLabels,
    RawSamples,
    numbered,
    open_unpacked,
    read_into,
    require_memory,
)
from cnnpar.errors import InputError
from cnnpar.text import dimensions

_Kind = Literal["images", "labels"]
_MAGIC: dict[_Kind, dict[int, np.dtype[Any]]] = {  # magic numbers; the type of the elements
    "images": {0x0803: np.dtype(np.uint8), 0x0804: np.dtype(np.uint8)},
    "labels": {0x0801: np.dtype(np.uint8), 0x0C02: np.dtype(">i4")},
}


def looks_like(path: Path) -> bool:
    """Tell whether a file is named as IDX files are: train-images-idx3-ubyte, images.idx3-ubyte.gz, ...

    So is a folder of such a name with such a file in it, as archives are unpacked.
    """
    named = "idx" in path.name.lower() or "ubyte" in path.name.lower()
    return named and (not path.is_dir() or _inside(path) is not None)


def read(path: Path, check: CheckLabels) -> RawSamples:
    """Read an images file, and the labels file that goes with it by name. Raises InputError.

    Both headers are checked before anything is unpacked, and the labels before the images are.
    """
    path = _inside(path) or path
    with _open(path, "images") as (images_file, shape, _):
        if len(shape) == 4 and (hint := channels_hint(shape)):
            raise InputError(f"{path}: images are {dimensions(shape)}{hint}")
        labels_path = _labels_beside(path)
        with _open(labels_path, "labels") as (labels_file, (count, *columns), dtype):
            if shape[0] != count:
                raise InputError(f"{labels_path}: {count} labels, but {path.name} has {shape[0]} images")
            require_memory(path, prod(shape) + 8 * count * prod(columns))
            table = np.empty((count, *columns), dtype=np.int64)
            _fill(labels_path, labels_file, table, dtype)
        labels = table.reshape(count, -1)[:, 0].copy()
        check(labels, numbered)
        images = np.empty(shape, dtype=np.uint8)
        _fill(path, images_file, images, images.dtype)
    return RawSamples(images.reshape(*shape[:3], -1), labels, numbered)  # (N, H, W, C)


def image_parts(path: Path, wanted: ImageShape, most: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the images (n, H, W, C) of an images file, some at a time, of up to `most` bytes; labels are not needed.

    Raises InputError where images are of another shape.
    """
    path = _inside(path) or path
    with _open(path, "images") as (file, found, dtype):
        shape = as_whole(found, dtype.kind, wanted, f"{path}: the array")
        rows = max(1, most // prod(wanted))
        for begin in range(0, shape[0], rows):
            part = np.empty((min(rows, shape[0] - begin), *wanted), dtype)
            if read_into(file, part.reshape(-1), part.size, dtype) < part.size:
                raise InputError(f"{path}: ends early: the header says {dimensions(found)}")
            yield part
        if file.read(1):
            raise InputError(f"{path}: the header says {dimensions(found)}, but there are more bytes")


def _inside(folder: Path) -> Path | None:
    """Return the file of a folder's own name in it; None where there is none."""
    return next((folder / name for name in _spellings(folder.name) if (folder / name).is_file()), None)


def _spellings(name: str) -> tuple[str, str]:
    """Return a name as it is, and with the other sign before its idx: images-idx3-ubyte, images.idx3-ubyte."""
    return name, name.replace(".idx", "-idx") if ".idx" in name else name.replace("-idx", ".idx")


def _labels_beside(path: Path) -> Path:
    """Return the labels file for an images file: train-labels-idx1-ubyte for train-images-idx3-ubyte, gzipped or not.

    It is beside it, or in a folder of its own name beside the images' folder. Raises InputError if the name cannot be
    derived or there is no such file.
    """
    images = path.name.removesuffix(".gz")
    labels = re.sub("idx[34]", "idx1", images.replace("images", "labels"))
    if images == labels:
        raise InputError(f"{path}: its labels file cannot be told; name them *images-idx3* and *labels-idx1*")
    names = [*_spellings(labels), *_spellings(labels.replace("idx1-ubyte", "idx2-int"))]
    names = [found for name in names for found in (name, name + ".gz")]
    above = path.parent.parent
    beside = [path.with_name(name) for name in names]
    apart = [above / folder / name for folder in names for name in _spellings(folder)] + [
        above / name for name in names
    ]
    for place in beside + (apart if path.parent.name in _spellings(path.name) else []):
        if place.is_file():
            return place
    raise InputError(f"{path}: its labels file is not beside it; expected {labels} or {labels}.gz")


@contextmanager
def _open(path: Path, kind: _Kind) -> Iterator[tuple[BufferedReader | GzipFile, tuple[int, ...], np.dtype[Any]]]:
    """Open an IDX file and read its header; yield the file, the shape and the type of the elements.

    Raises InputError unless they fit.
    """
    known = _MAGIC[kind]
    with open_unpacked(path) as file:
        found = int.from_bytes(file.read(4), "big")
        if kind == "images" and found in _MAGIC["labels"]:
            raise InputError(f"{path}: an IDX labels file; give the images file, its labels are found by name")
        if found not in known:
            raise InputError(f"{path}: no IDX {kind}: starts with 0x{found:08x}, expected 0x{next(iter(known)):08x}")
        axes, dtype = found & 0xFF, known[found]
        header = file.read(4 * axes)
        if len(header) < 4 * axes:
            raise InputError(f"{path}: ends within the IDX header")
        shape = struct.unpack(f">{axes}I", header)
        size, stored = prod(shape) * dtype.itemsize, os.fstat(file.fileno()).st_size
        if not size:
            raise InputError(f"{path}: no {kind}: the header says {dimensions(shape)}")
        there = stored - 4 - len(header)
        if not isinstance(file, GzipFile) and there != size:
            raise _other_size(path, shape, size, there)
        if size > MOST_DEFLATED * stored:  # no gzipped file of this length unpacks to as much
            raise _other_size(path, shape, size, MOST_DEFLATED * stored)
        yield file, shape, dtype


def _fill(path: Path, file: BufferedReader | GzipFile, array: NDArray[Any], dtype: np.dtype[Any]) -> None:
    """Read the elements of an array, and the end of the file. Raises InputError where there are fewer or more."""
    there = read_into(file, array.reshape(-1), array.size, dtype) * dtype.itemsize
    there += len(file.read(1))  # at its end, gzip's checksum is compared
    if there != array.size * dtype.itemsize:
        raise _other_size(path, array.shape, array.size * dtype.itemsize, there)


def _other_size(path: Path, shape: tuple[int, ...], size: int, there: int) -> InputError:
    """Return the error of a file that holds (at most) so many bytes, other than its header says."""
    what = "more" if there > size else f"only {there}"
    return InputError(f"{path}: the header says {dimensions(shape)} = {size} bytes, but there are {what}")
