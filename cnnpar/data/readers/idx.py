"""Reader of IDX, the format of MNIST: an images file, and a labels file beside it, each gzipped or not.

A file holds, big-endian: two zero bytes, the type (8 = uint8), the number of dimensions, each dimension as uint32, then
the elements.
Source: Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits", file formats.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from gzip import GzipFile
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

_IMAGES = 0x0803  # magic number: uint8, 3 dimensions
_LABELS = 0x0801  # magic number: uint8, 1 dimension


def looks_like(path: Path) -> bool:
    """Tell whether a file is named as IDX files are: train-images-idx3-ubyte, images.idx3-ubyte.gz, ..."""
    return "idx" in path.name.lower() or "ubyte" in path.name.lower()


def read(path: Path, check: CheckLabels) -> RawSamples:
    """Read an images file, and the labels file that goes with it by name. Raises InputError.

    Both headers are checked before anything is unpacked, and the labels before the images are.
    """
    with _open(path, _IMAGES) as (images_file, shape):
        labels_path = _labels_beside(path)
        with _open(labels_path, _LABELS) as (labels_file, (count,)):
            if shape[0] != count:
                raise InputError(f"{labels_path}: {count} labels, but {path.name} has {shape[0]} images")
            require_memory(path, prod(shape) + 8 * count)
            labels = np.empty(count, dtype=np.int64)
            _fill(labels_path, labels_file, labels)
        check(labels, numbered)
        images = np.empty((*shape, 1), dtype=np.uint8)  # (N, H, W, C)
        _fill(path, images_file, images)
    return RawSamples(images, labels, numbered)


def _labels_beside(path: Path) -> Path:
    """Return the labels file for an images file: train-labels-idx1-ubyte for train-images-idx3-ubyte, gzipped or not.

    Raises InputError if the name cannot be derived or there is no such file.
    """
    images = path.name.removesuffix(".gz")
    labels = images.replace("images", "labels").replace("idx3", "idx1")
    if images == labels:
        raise InputError(f"{path}: its labels file cannot be told; name them *images-idx3* and *labels-idx1*")
    for name in (labels, labels + ".gz"):
        if path.with_name(name).is_file():
            return path.with_name(name)
    raise InputError(f"{path}: its labels file is not beside it; expected {labels} or {labels}.gz")


@contextmanager
def _open(path: Path, magic: int) -> Iterator[tuple[BufferedReader | GzipFile, tuple[int, ...]]]:
    """Open an IDX file and read its header; yield the file and the shape. Raises InputError unless they fit."""
    kind = "images" if magic == _IMAGES else "labels"
    with open_unpacked(path) as file:
        found = int.from_bytes(file.read(4), "big")
        if magic == _IMAGES and found == _LABELS:
            raise InputError(f"{path}: an IDX labels file; give the images file, its labels are found by name")
        if found != magic:
            raise InputError(f"{path}: no IDX {kind}: starts with 0x{found:08x}, expected 0x{magic:08x}")
        axes = magic & 0xFF
        header = file.read(4 * axes)
        if len(header) < 4 * axes:
            raise InputError(f"{path}: ends within the IDX header")
        shape = struct.unpack(f">{axes}I", header)
        size, stored = prod(shape), os.fstat(file.fileno()).st_size
        if not size:
            raise InputError(f"{path}: no {kind}: the header says {dimensions(shape)}")
        there = stored - 4 - len(header)
        if not isinstance(file, GzipFile) and there != size:
            raise _other_size(path, shape, there)
        if size > MOST_DEFLATED * stored:  # no gzipped file of this length unpacks to as much
            raise _other_size(path, shape, MOST_DEFLATED * stored)
        yield file, shape


def _fill(path: Path, file: BufferedReader | GzipFile, array: NDArray[Any]) -> None:
    """Read the elements of an array, and the end of the file. Raises InputError where there are fewer or more."""
    there = read_into(file, array.reshape(-1), array.size, np.dtype(np.uint8))
    there += len(file.read(1))  # at its end, gzip's checksum is compared
    if there != array.size:
        raise _other_size(path, array.shape[:3], there)


def _other_size(path: Path, shape: tuple[int, ...], there: int) -> InputError:
    """Return the error of a file that holds (at most) so many bytes, other than its header says."""
    size = prod(shape)
    what = "more" if there > size else f"only {there}"
    return InputError(f"{path}: the header says {dimensions(shape)} = {size} bytes, but there are {what}")
