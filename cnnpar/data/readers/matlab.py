"""Reader of MATLAB's .mat files, versions 5 to 7, with plain arrays, as SVHN's: `X` (32, 32, 3, N) and `y` (N, 1).

A file is a header of 128 bytes and a list of elements, each an array, packed by zlib or not; within it are elements for
its class, its shape, its name and its numbers, in Fortran's order. What it says of itself is checked before it is read.
`scipy.io.loadmat` is not used: of scipy 1.17, it ends the process by a signal for 5 of the first 1,000 damaged files of
scripts/fuzz/damaged_mat.py.
Source: The MathWorks, "MAT-File Format".
"""

import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.data import Data
from cnnpar.data.pixels import as_pixels
from cnnpar.data.readers.array_labels import as_labels
from cnnpar.data.readers.arrays import image_fault, other_parts, pair_of, taken
from cnnpar.data.readers.files import (
    MOST_DEFLATED,
    CheckLabels,
    HashedFile,
    Part,
    RawSamples,
    numbered,
    read_into,
    require_memory,
)
from cnnpar.errors import InputError
from cnnpar.text import dimensions, one_line

if TYPE_CHECKING:
    from _typeshed import SupportsRead

_Order = Literal["little", "big"]
_ORDERS: dict[bytes, _Order] = {b"IM": "little", b"MI": "big"}
_HEADER = 128  # bytes; the last four are the version and the order of bytes
_MATRIX, _PACKED = 14, 15  # types of elements in the list
_FLAGS, _SHAPE, _NAME = 6, 5, 1  # types of the first elements of an array
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # of its last
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_OTHER_CLASSES = {1: "cell array", 2: "struct", 3: "object", 4: "text", 5: "sparse array"}
_COMPLEX = 0x800  # bit of an array's flags
_PIECE = 1 << 16  # bytes read at a time
_LONGEST_NAME, _MOST_AXES = 256, 32
_SVHN = (32, 32, 3)  # its images; their digit 0 has the label 10


class _Array(NamedTuple):
    """An array as the file describes it."""

    name: str
    place: int  # where its element begins in the file
    shape: tuple[int, ...]
    kind: str  # type of its numbers, as numpy names it, or what it is otherwise
    plain: bool = False  # it holds numbers of that type
    stored: np.dtype[Any] = np.dtype(np.uint8)  # type that they are stored in
    inline: bytes | None = None  # they, where they are so few that they stand within their tag


def read(path: Path, part: Part, settings: Data, check: CheckLabels) -> RawSamples:
    """Read the images and labels of a .mat file; where it holds several parts, those of `part`. Raises InputError.

    Labels are checked before images are unpacked.
    """
    try:
        with HashedFile(path, None) as file:
            order = _order(path, file)
            arrays = {array.name: array for array in _arrays(file, order, path.stat().st_size)}
            names = pair_of(str(path), part, arrays)
            images, labels = (arrays[name] for name in names)
            _check_plain(path, images, labels)
            numbers, class_names, understood = _labels(path, file, order, labels, images)
            if class_names is None:
                check(numbers, numbered)
            found = _samples_first(path, _read(file, order, images), images.name, len(numbers))
    except (ValueError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as a .mat file: {one_line(str(error))}") from error
    pixels = as_pixels(found, settings.scale, f"{path}: `{images.name}`")
    whole = np.ascontiguousarray(pixels.reshape(*pixels.shape[:3], -1))  # (N, H, W, C)
    understood = ", ".join(filter(None, (taken(part, arrays), understood)))
    return RawSamples(whole, numbers, numbered, class_names, other_parts(arrays), understood)


def _order(path: Path, file: HashedFile) -> _Order:
    """Return the order of bytes in a file by its header. Raises InputError for another version."""
    head = file.read(_HEADER)
    if head.startswith(b"MATLAB 7.3") or head[124:126] in (b"\0\2", b"\2\0"):
        how = "save it by save(FILE, '-v7'), or its arrays as .npz by h5py and numpy.savez"
        raise InputError(f"{path}: of MATLAB 7.3 (HDF5), which is not read; {how}")
    if head[126:] not in _ORDERS:
        raise InputError(f"{path}: no .mat file of versions 5 to 7; save it by save(FILE, '-v7')")
    return _ORDERS[head[126:]]


def _arrays(file: HashedFile, order: _Order, end: int) -> Iterator[_Array]:
    """Yield what the list of elements says of each array. Raises ValueError, EOFError or zlib.error."""
    place = _HEADER
    while place + 8 <= end:
        stream, size = _opened(file, order, place)
        place_of_next = place + 8 + size
        if place_of_next > end:
            raise EOFError("it ends within an array")
        yield _described(stream, order, place, size)
        place = place_of_next


def _opened(file: HashedFile, order: _Order, place: int) -> tuple["SupportsRead[bytes]", int]:
    """Return an element of the list, unpacked, and its size in the file; `place`: where it begins."""
    file.seek(place)
    kind, size, _ = _tag(file, order)
    if kind == _PACKED:
        stream: SupportsRead[bytes] = _Unpacked(file, size)
        if _tag(stream, order)[0] != _MATRIX:
            raise ValueError("a packed element that is no array")
    elif kind == _MATRIX:
        stream = file
    else:
        raise ValueError(f"an element of type {kind} that is no array")
    return stream, size


def _described(stream: "SupportsRead[bytes]", order: _Order, place: int, size: int) -> _Array:
    """Read what an array says of itself. Raises ValueError unless its numbers are as many as its shape says."""
    flags = _whole_numbers(stream, order, _FLAGS, 2)[0]
    shape = _whole_numbers(stream, order, _SHAPE, _MOST_AXES)
    name = _element(stream, order, _NAME, _LONGEST_NAME).decode("latin-1")
    kind = _CLASSES.get(flags & 0xFF)
    if kind is None or flags & _COMPLEX:
        what = "complex array" if kind else _OTHER_CLASSES.get(flags & 0xFF, "thing of another class")
        return _Array(name, place, shape, what)
    number, length, inline = _tag(stream, order)
    if number not in _NUMBERS:
        raise ValueError(f"`{name}` holds elements of type {number}, which are no numbers")
    stored = np.dtype(_NUMBERS[number]).newbyteorder("<" if order == "little" else ">")
    if length != prod(shape) * stored.itemsize:
        raise ValueError(f"`{name}` is of {dimensions(shape)}, and holds {length:,} bytes of {stored.name}")
    if length > size * MOST_DEFLATED:
        raise ValueError(f"{size:,} bytes cannot be unpacked to {length:,}")
    return _Array(name, place, shape, np.dtype(kind).name, True, stored, inline)


def _read(file: HashedFile, order: _Order, array: _Array) -> NDArray[Any]:
    """Read the numbers of a plain array. Raises EOFError or zlib.error."""
    numbers = np.empty(array.shape[::-1], array.kind)
    if array.inline is not None:
        numbers.reshape(-1)[:] = np.frombuffer(array.inline, array.stored)
        return numbers.T
    stream, size = _opened(file, order, array.place)
    _described(stream, order, array.place, size)
    if read_into(stream, numbers.reshape(-1), numbers.size, array.stored) < numbers.size:
        raise EOFError(f"`{array.name}` ends too early")
    stream.read(8)  # to the end of what is packed, where its checksum is compared
    return numbers.T


def _check_plain(path: Path, images: _Array, labels: _Array) -> None:
    """Raise InputError for arrays that are not plain, or do not fit into memory."""
    for array in (images, labels):
        if not array.plain:
            what = f"`{array.name}` is a {array.kind} of {dimensions(array.shape)}"
            raise InputError(f"{path}: {what}; expected a plain array of numbers")
    size = sum(prod(array.shape) * np.dtype(array.kind).itemsize for array in (images, images, labels))
    require_memory(path, size + 8 * prod(labels.shape))


def _labels(
    path: Path, file: HashedFile, order: _Order, labels: _Array, images: _Array
) -> tuple[NDArray[np.int64], tuple[str, ...] | None, str]:
    """Read labels, with the names of their classes, and what was made of them. Raises InputError."""
    found = _read(file, order, labels)
    numbers, names = as_labels(found.reshape(-1) if len(found) == 1 else found, f"{path}: `{labels.name}`")
    if names is None and images.shape[:3] == _SVHN and numbers.min() >= 1 and numbers.max() == 10:
        return numbers % 10, names, "label 10 is the digit 0, as in SVHN"
    return numbers, names, ""


def _samples_first(path: Path, images: NDArray[Any], name: str, count: int) -> NDArray[Any]:
    """Return images with the samples first; MATLAB has them last. Raises InputError."""
    if images.ndim in (3, 4) and images.shape[-1] == count:
        images = np.moveaxis(images, -1, 0)
    if images.ndim in (3, 4) and images.shape[0] != count:
        what = f"`{name}` is of {dimensions(images.shape)}, and there are {count} labels"
        raise InputError(f"{path}: {what}; expected as many images, on the first or the last axis")
    if fault := image_fault(images.shape, images.dtype.kind):
        raise InputError(f"{path}: `{name}` is {images.dtype} of {dimensions(images.shape)}; {fault}")
    return images


def _tag(stream: "SupportsRead[bytes]", order: _Order) -> tuple[int, int, bytes | None]:
    """Read the type and the size of an element, and its bytes if they are part of the tag. Raises EOFError."""
    first = int.from_bytes(_exactly(stream, 4), order)
    rest = _exactly(stream, 4)
    if small := first >> 16:  # up to four bytes, within the tag
        return first & 0xFFFF, small, rest[:small]
    return first, int.from_bytes(rest, order), None


def _element(stream: "SupportsRead[bytes]", order: _Order, wanted: int, most: int) -> bytes:
    """Read an element of a type, and what fills it up to eight bytes. Raises ValueError for others and longer ones."""
    kind, size, content = _tag(stream, order)
    if kind != wanted or size > most:
        raise ValueError(f"an element of type {kind} and {size} bytes, where one of type {wanted} is expected")
    return _exactly(stream, size + -size % 8)[:size] if content is None else content


def _whole_numbers(stream: "SupportsRead[bytes]", order: _Order, wanted: int, most: int) -> tuple[int, ...]:
    """Read an element of one to `most` whole numbers of four bytes, none below 0. Raises ValueError."""
    content = _element(stream, order, wanted, 4 * most)
    if not content or len(content) % 4:
        raise ValueError(f"an element of type {wanted} and {len(content)} bytes")
    numbers = tuple(int.from_bytes(content[at : at + 4], order, signed=True) for at in range(0, len(content), 4))
    if min(numbers) < 0:
        raise ValueError(f"an element of type {wanted} with numbers below 0")
    return numbers


def _exactly(stream: "SupportsRead[bytes]", size: int) -> bytes:
    """Read so many bytes. Raises EOFError where there are fewer."""
    found = stream.read(size)
    if len(found) < size:
        raise EOFError("it ends within an array")
    return found


class _Unpacked:
    """What zlib makes of the next bytes of a file; no more is unpacked than is asked for."""

    def __init__(self, file: HashedFile, size: int) -> None:
        self._file, self._left = file, size
        self._unpacker, self._pending = zlib.decompressobj(), b""

    def read(self, size: int = _PIECE, /) -> bytes:
        """Return up to so many bytes; fewer only at the end. Raises zlib.error."""
        pieces: list[bytes] = []
        while size and not self._unpacker.eof:
            if not self._pending:
                self._pending = self._file.read(min(self._left, _PIECE))
                self._left -= len(self._pending)
                if not self._pending:
                    break
            pieces.append(self._unpacker.decompress(self._pending, size))
            self._pending = self._unpacker.unconsumed_tail
            size -= len(pieces[-1])
        return b"".join(pieces)
