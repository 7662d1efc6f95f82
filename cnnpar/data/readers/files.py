"""What all readers share: how a file is opened, and what it gives."""

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

Part = Literal["train", "test"]  # which samples are wanted of a file that holds both


@dataclass(frozen=True, eq=False)
class Found:
    """Samples as a reader found them; the labels are not checked yet."""

    images: NDArray[np.uint8]  # (N, H, W, C), N > 0
    labels: NDArray[np.int64]  # (N,)
    place: Callable[[int], str]  # where in the file sample i is, for messages: "line 17"
    class_names: tuple[str, ...] | None = None  # None: a label is its own name
    has_test: bool = False  # whether the same source has test samples of its own


def sample(index: int) -> str:
    """The place of a sample in a file that has no lines."""
    return f"sample {index} (counted from 0)"


class Digest(Protocol):
    """One of hashlib's."""

    def update(self, data: "ReadableBuffer", /) -> None:
        """Go on with these bytes."""


class Tap(io.FileIO):
    """A file; all that is read of it goes into a digest too, if there is one."""

    def __init__(self, path: Path, digest: Digest | None) -> None:
        super().__init__(path)
        self._digest = digest

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read up to as many bytes as the buffer has."""
        count = super().readinto(buffer)
        if self._digest is not None:
            self._digest.update(memoryview(buffer)[:count])
        return count

    def readall(self) -> bytes:
        """Read to the end."""
        data = super().readall()
        if self._digest is not None:
            self._digest.update(data)
        return data


@contextmanager
def opened(path: Path, digest: Digest | None = None) -> Iterator[BufferedReader | gzip.GzipFile]:
    """The bytes of a file, unpacked where they are gzip; failing to read them is an InputError.

    The first bytes tell, not the name: browsers unpack downloads and leave the `.gz`. Into `digest` goes the file as
    it is.
    """
    try:
        buffered: BufferedReader = BufferedReader(Tap(path, digest), _CHUNK)
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
