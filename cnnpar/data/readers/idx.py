"""Reader of IDX, the format of MNIST: an images file, and a labels file beside it, each gzipped or not.

A file holds, big-endian: two zero bytes, the type (8 = uint8), the number of dimensions, each dimension as uint32, then
the elements.
Source: Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits", file formats.
"""

import struct
from gzip import GzipFile
from io import BufferedReader
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnpar.data.readers.files import RawSamples, numbered, open_unpacked
from cnnpar.errors import InputError
from cnnpar.text import dimensions

_IMAGES = 0x0803  # magic number: uint8, 3 dimensions
_LABELS = 0x0801  # magic number: uint8, 1 dimension
_CHUNK = 1 << 20  # bytes read at a time


def looks_like(path: Path) -> bool:
    """Tell whether a file is named as IDX files are: train-images-idx3-ubyte, images.idx3-ubyte.gz, ..."""
    return "idx" in path.name.lower() or "ubyte" in path.name.lower()


def read(path: Path) -> RawSamples:
    """Read an images file, and the labels file that goes with it by name. Raises InputError."""
    images = _read_array(path, _IMAGES)  # (N, H, W)
    labels_path = _labels_beside(path)
    labels = _read_array(labels_path, _LABELS)  # (N,)
    if len(images) != len(labels):
        raise InputError(f"{labels_path}: {len(labels)} labels, but {path.name} has {len(images)} images")
    return RawSamples(images[..., np.newaxis], labels.astype(np.int64), numbered)


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


def _read_array(path: Path, magic: int) -> NDArray[np.uint8]:
    """Read an IDX file. Raises InputError. Allocates no more than the file holds, whatever its header says."""
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
        size = prod(shape)
        if not size:
            raise InputError(f"{path}: no {kind}: the header says {dimensions(shape)}")
        data = _read_up_to(file, size + 1)
    if len(data) != size:
        there = "more" if len(data) > size else f"only {len(data)}"
        raise InputError(f"{path}: the header says {dimensions(shape)} = {size} bytes, but there are {there}")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _read_up_to(file: BufferedReader | GzipFile, size: int) -> bytearray:
    """Read at most `size` bytes, in pieces: `read(size)` would allocate all of a size that the header may make up."""
    data = bytearray()
    while len(data) < size and (piece := file.read(min(_CHUNK, size - len(data)))):
        data += piece
    return data
