"""Reader of NPZ: images (N, H, W) or (N, H, W, C) and labels (N,) or (N, 1), whole numbers or text, by usual names.

An NPZ file is a zip archive with a member in NPY format for each array. The archive's directory and the headers of both
arrays are checked before anything is unpacked; no more is unpacked than they say, and nothing is unpickled.
"""

import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cnnpar.config.data import Data
from cnnpar.data.dataset import ImageShape
from cnnpar.data.pixels import as_pixels
from cnnpar.data.readers.array_labels import ONE_HOT, as_labels
from cnnpar.data.readers.arrays import as_whole, image_fault, images_among, other_parts, pair_of, taken
from cnnpar.data.readers.files import (
    MOST_DEFLATED,
    CheckLabels,
    HashedFile,
    InPieces,
    Part,
    RawSamples,
    numbered,
    read_into,
    require_memory,
)
from cnnpar.errors import InputError, reason
from cnnpar.text import harmless, one_line

_LONGEST_HEADER = 12_000  # bytes; numpy's own limit is 10,000
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_FAULTS = (
    *(EOFError, ValueError, TypeError, OverflowError, RuntimeError, SyntaxError, TokenError),
    *(zipfile.BadZipFile, zlib.error),
)


def read(path: Path, part: Part, settings: Data, check: CheckLabels) -> RawSamples:
    """Read an .npz file; where it holds training, validation and test data, those of `part`. Raises InputError.

    Labels are checked before images are unpacked.
    """
    with _opened(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        names = pair_of(str(path), part, members)
        images, labels = (_Array(archive, members[name]) for name in names)
        _check(path, names, images, labels)
        kept = 1 if images.dtype.kind == "u" and settings.scale == 1 else 2  # arrays, where pixels are converted
        require_memory(path, kept * images.size * images.dtype.itemsize + labels.size * (8 + labels.dtype.itemsize))
        numbers, class_names = _read_labels(labels, f"{path}: `{names[1]}`")
        if class_names is None:
            check(numbers, numbered)
        found = images.read(np.empty(images.shape, images.dtype.newbyteorder("=")))
    pixels = as_pixels(found, settings.scale, f"{path}: `{names[0]}`")
    whole = np.ascontiguousarray(pixels.reshape(*pixels.shape[:3], -1))  # (N, H, W, C)
    understood = taken(part, members)
    return RawSamples(whole, numbers, numbered, class_names, other_parts(members), understood)


def image_parts(path: Path, wanted: ImageShape, most: int) -> Iterator[NDArray[Any]]:
    """Yield the images (n, H, W, C) of an .npz file that may have no labels, some at a time, of up to `most` bytes.

    Those of an array in Fortran's order come at once. Raises InputError where there are no images of that shape.
    """
    with _opened(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}

        def shape_of(name: str) -> tuple[int, ...]:
            with suppress(*_FAULTS):  # others may be no plain arrays
                return _Array(archive, members[name]).shape
            return ()

        name = images_among(str(path), members, shape_of, wanted)
        array = _Array(archive, members[name])
        shape = as_whole(array.shape, array.dtype.kind, wanted, f"{path}: `{name}`")
        array.check_size()
        yield from array.parts(shape, path, most)


def npy_parts(path: Path, wanted: ImageShape, most: int) -> Iterator[NDArray[Any]]:
    """Yield the images of an .npy file as `image_parts` does. Raises InputError."""
    try:
        with HashedFile(path, None) as file:  # a regular file, which a map may be made of
            if not file.read(1):
                raise EOFError("it is empty")
        array = npy.open_memmap(path, mode="r")
    except _FAULTS as error:
        raise InputError(f"{path}: cannot be read as a plain .npy array: {one_line(reason(error))}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error
    whole = array.reshape(as_whole(array.shape, array.dtype.kind, wanted, f"{path}: the array"))
    rows = max(1, most // (whole[0].size * whole.itemsize))
    for begin in range(0, len(whole), rows):
        yield np.array(whole[begin : begin + rows])


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive, and raise InputError for what is wrong with it while the block runs."""
    try:
        with InPieces(HashedFile(path, None)) as file, zipfile.ZipFile(file) as archive:
            yield archive
    except _FAULTS as error:
        raise InputError(f"{path}: cannot be read as an .npz of plain arrays: {one_line(reason(error))}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error


def _read_labels(labels: "_Array", source: str) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """Read labels of whole numbers, or of text, with the names of their classes then. Raises InputError."""
    if labels.dtype.kind in "iu" and np.can_cast(labels.dtype, np.int64):
        return labels.read(np.empty(labels.size, np.int64)), None
    found = labels.read(np.empty(labels.size, labels.dtype))
    if found.dtype.kind == "U" and found.dtype.itemsize:  # numpy takes any number for a character, and fails with it
        characters = found.view(np.dtype(np.uint32).newbyteorder(found.dtype.byteorder))
        if characters.max() > sys.maxunicode:
            raise ValueError(f"{labels.kind} has characters that there are not")
    return as_labels(found, source)


class _Array:
    """A member of an archive that holds an array, of which only the header was read. Raises an error of `_FAULTS`."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        """Read the header, and compare the size that it says with that of the member."""
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("packed in another way than numpy packs")
        self._archive, self._info = archive, info
        with archive.open(info) as member:
            start = BytesIO(member.read(_LONGEST_HEADER))
        read_header = _HEADERS.get(npy.read_magic(start))
        if read_header is None:
            raise ValueError("a version of the NPY format for other data")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python 2 and of odd escapes; what is wrong raises an error
            self.shape, self._transposed, self.dtype = read_header(start)
        if self.dtype.hasobject:
            how = "np.savez(file, x=np.stack(list(x)), y=np.array(list(y)))"
            raise ValueError(f"Object arrays cannot be loaded, as they are pickles; save plain ones: {how}")
        self.size, self._begin = prod(self.shape), start.tell()

    @property
    def kind(self) -> str:
        """The type and shape, for messages."""
        return harmless(f"{self.dtype} of shape {self.shape}")

    def check_size(self) -> None:
        """Raise ValueError unless the member holds what its header says, and the archive can hold the member."""
        held, packed = self._info.file_size, self._info.compress_size
        expected = self._begin + self.size * self.dtype.itemsize
        if held != expected:
            raise ValueError(f"{self.kind} takes {expected:,} bytes, but {self._info.filename} has {held:,}")
        if held > packed * (MOST_DEFLATED if self._info.compress_type == zipfile.ZIP_DEFLATED else 1):
            raise ValueError(f"{packed:,} bytes cannot be unpacked to {held:,}")

    def parts(self, shape: tuple[int, ...], path: Path, most: int) -> Iterator[NDArray[Any]]:
        """Yield the elements as arrays of that shape but for the first axis, of up to `most` bytes. Raises as `read`.

        What is in Fortran's order comes at once; InputError is raised where there is no memory for it.
        """
        native = self.dtype.newbyteorder("=")
        if self._transposed:
            require_memory(path, self.size * self.dtype.itemsize)
            yield self.read(np.empty(self.shape, native)).reshape(shape)
            return
        count, *image = shape
        rows = max(1, most // (prod(image) * self.dtype.itemsize))
        with self._archive.open(self._info) as member:
            member.read(self._begin)
            for begin in range(0, count, rows):
                part = np.empty((min(rows, count - begin), *image), native)
                if read_into(member, part.reshape(-1), part.size, self.dtype) < part.size:
                    raise EOFError(f"{self._info.filename} ends too early")
                yield part
            member.read(1)  # the checksum is compared at the end

    def read(self, array: NDArray[Any]) -> NDArray[Any]:
        """Read the elements into an array of the same size, whose type may differ, and return it."""
        with self._archive.open(self._info) as member:
            member.read(self._begin)
            target = array.T.flat if self._transposed else array.reshape(-1)
            if read_into(member, target, self.size, self.dtype) < self.size:
                raise EOFError(f"{self._info.filename} ends too early")
            member.read(1)  # the checksum is compared at the end
        return array


def _check(path: Path, names: tuple[str, str], images: _Array, labels: _Array) -> None:
    """Raise InputError for types and shapes that are not of images and labels, or ValueError for other sizes."""
    if fault := image_fault(images.shape, images.dtype.kind):
        raise InputError(f"{path}: `{names[0]}` is {images.kind}; {fault}")
    count = images.shape[0]
    if labels.dtype.kind not in "iubUS" or labels.shape not in ((count,), (count, 1)):
        hint = f"; {ONE_HOT}" if len(labels.shape) == 2 else ""
        if labels.dtype.kind == "f" and len(labels.shape) == 1:
            hint = "; y.astype(int) makes whole numbers of 1.0, 2.0"
        if labels.dtype.kind in "iubUS" and len(labels.shape) == 1:
            raise InputError(f"{path}: {labels.size} labels in `{names[1]}`, but {count} images in `{names[0]}`")
        what = f"`{names[1]}` is {labels.kind}; expected a whole number for each of {count} images, or a name"
        raise InputError(f"{path}: {what}{hint}")
    for array in (labels, images):
        array.check_size()
