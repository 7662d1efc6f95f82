"""Parts that all readers share: opening of files, gzipped or not, and their result."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnpar.errors import InputError, reason

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_CHUNK = 1 << 17  # bytes read at a time

Part = Literal["train", "test"]  # the samples to take from a source that holds both


@dataclass(frozen=True, eq=False)
class RawSamples:
    """Result of a reader; the labels are not checked yet."""

    images: NDArray[np.uint8]  # (N, H, W, C), N > 0
    labels: NDArray[np.int64]  # (N,)
    place_of: Callable[[int], str]  # names sample i in error messages: "line 17"
    class_names: tuple[str, ...] | None = None  # None: labels serve as names
    has_test: bool = False  # True if the source has test samples of its own


def numbered(index: int) -> str:
    """Name a sample by its index, in a file that has no lines."""
    return f"sample {index} (counted from 0)"


class Digest(Protocol):
    """Interface of hashlib's digests."""

    def update(self, data: "ReadableBuffer", /) -> None:
        """Append bytes to the digested content."""


class HashedFile(io.FileIO):
    """Binary file that updates a digest, if there is one, with all bytes read."""

    def __init__(self, path: Path, digest: Digest | None) -> None:
        super().__init__(path)
        self._digest = digest

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read into the buffer and return the number of bytes; 0 at the end of the file."""
        count = super().readinto(buffer)
        if self._digest is not None:
            self._digest.update(memoryview(buffer)[:count])
        return count

    def readall(self) -> bytes:
        """Return all bytes up to the end of the file."""
        data = super().readall()
        if self._digest is not None:
            self._digest.update(data)
        return data


@contextmanager
def open_unpacked(path: Path, digest: Digest | None = None) -> Iterator[BufferedReader | gzip.GzipFile]:
    """Open a file for reading bytes, unpacked if it is gzipped. Raises InputError where it cannot be read or unpacked.

    Gzip is recognised by the first two bytes, not by the name, since browsers unpack downloads and leave the `.gz`.
    `digest` is updated with the bytes of the file as stored.
    """
    try:
        buffered: BufferedReader = BufferedReader(HashedFile(path, digest), _CHUNK)
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
