"""Parts that all readers share: opening of files, gzipped or not, reading them in pieces, and their result."""

import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EFBIG
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnpar.data.dataset import FileOf, Pixels
from cnnpar.errors import InputError, reason
from cnnpar.files import open_input
from cnnpar.machine import available_memory

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, SupportsRead, WriteableBuffer

_CHUNK = 1 << 17  # bytes read at a time
_PIECE = 1 << 20  # bytes unpacked at a time
_LONGEST_DIRECTORY = 1 << 20  # bytes of a zip archive, some 10,000 members
MOST_DEFLATED = 1032  # bytes that one byte in the deflate format stands for at most; source: zlib, technical details

Part = Literal["train", "validation", "test"]  # the samples to take from a source that holds several


PlaceOf = Callable[[int], str]  # names sample i in error messages: "line 17"
# Raises InputError for labels that cannot be used; called before images are unpacked, where labels come first.
CheckLabels = Callable[[NDArray[np.int64], PlaceOf], None]


@dataclass(frozen=True, eq=False)
class RawSamples:
    """Result of a reader."""

    images: Pixels  # (N, H, W, C), N > 0
    labels: NDArray[np.int64]  # (N,)
    place_of: PlaceOf
    class_names: tuple[str, ...] | None = None  # those that occur, by label; None: labels serve as names
    other_parts: frozenset[Part] = frozenset()  # the source has samples of its own for these, besides those read
    understood: str = ""  # what was made of the source that could have been something else, for people
    notes: tuple[str, ...] = ()  # what is odd about it, a line each
    file_of: FileOf | None = None  # where each sample is a file


def numbered(index: int) -> str:
    """Name a sample by its index, in a file that has no lines."""
    return f"sample {index} (counted from 0)"


class Digest(Protocol):
    """Interface of hashlib's digests."""

    def update(self, data: "ReadableBuffer", /) -> None:
        """Append bytes to the digested content."""


class HashedFile(io.FileIO):
    """Binary file that updates a digest, if there is one, with all bytes read. `pipe`: it may be a pipe."""

    def __init__(self, path: Path, digest: Digest | None, *, pipe: bool = False) -> None:
        """Open the file. Raises OSError, for anything but a regular file or such a pipe too."""
        super().__init__(open_input(path, pipe=pipe))
        self._digest = digest

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read into the buffer and return the number of bytes; 0 at the end of the file."""
        count = super().readinto(buffer)
        if self._digest is not None:
            self._digest.update(memoryview(buffer)[:count])
        return count

    def content(self, most: int) -> bytes:
        """Return all bytes. Raises OSError if there are more than `most`."""
        size = os.fstat(self.fileno()).st_size
        if size > most:
            raise OSError(EFBIG, f"larger than {most:,} bytes")
        pieces = []
        while size and (piece := self.read(size)):
            pieces.append(piece)
            size -= len(piece)
        data = b"".join(pieces)
        if self._digest is not None:
            self._digest.update(data)
        return data


class InPieces(BufferedReader):
    """Binary file that is read in pieces: `zipfile` reads only the directory at once, however long it says it is."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes, or all. Raises ValueError for more than a directory may have."""
        wanted = _LONGEST_DIRECTORY if size is None or size < 0 else size  # all that is asked for is a comment
        if wanted > _LONGEST_DIRECTORY:
            raise ValueError("its directory is too long")
        return super().read(wanted)


def read_into(
    file: "SupportsRead[bytes]", target: "NDArray[Any] | np.flatiter[Any]", count: int, dtype: np.dtype[Any]
) -> int:
    """Read up to `count` elements of a type, in pieces, into the same places of a flat target; return how many."""
    done = 0
    while done < count:
        wanted = min(_PIECE // dtype.itemsize, count - done)
        data = file.read(wanted * dtype.itemsize)
        piece = np.frombuffer(data, dtype, len(data) // dtype.itemsize)
        target[done : done + len(piece)] = piece
        done += len(piece)
        if len(piece) < wanted:
            break
    return done


def require_memory(path: Path, size: int) -> None:
    """Raise InputError if arrays of `size` bytes do not fit: a system may promise memory that it does not have."""
    available = available_memory()
    if size > available:
        raise InputError(
            f"{path}: does not fit into memory: {size:,} bytes of images and labels, and {available:,} are available"
        )


@contextmanager
def open_unpacked(
    path: Path, digest: Digest | None = None, *, pipe: bool = False
) -> Iterator[BufferedReader | gzip.GzipFile]:
    """Open a file for reading bytes, unpacked if it is gzipped. Raises InputError where it cannot be read or unpacked.

    Gzip is recognised by the first two bytes, not by the name, since browsers unpack downloads and leave the `.gz`.
    `digest` is updated with the bytes of the file as stored. `pipe`: it may be a pipe.
    """
    try:
        buffered: BufferedReader = BufferedReader(HashedFile(path, digest, pipe=pipe), _CHUNK)
        with buffered as file:
            if file.peek(2).startswith(b"\x1f\x8b"):
                with gzip.open(file) as unpacked:
                    yield unpacked
            else:
                yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: damaged or truncated gzip file: {reason(error)}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error
