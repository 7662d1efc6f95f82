"""What all readers share: how a file is opened, and what it gives."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cnnpar.errors import InputError

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


def reason(error: BaseException) -> str:
    """What an error of a library says, in one line."""
    return str(error).partition("\n")[0] or type(error).__name__


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader | gzip.GzipFile]:
    """The bytes of a file, unpacked where they are gzip; failing to read them is an InputError.

    The first bytes tell, not the name: browsers unpack downloads and leave the `.gz`.
    """
    try:
        with path.open("rb") as file:
            if file.peek(2).startswith(b"\x1f\x8b"):
                with gzip.open(file) as unpacked:
                    yield unpacked
            else:
                yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: damaged or truncated gzip file: {reason(error)}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def by(sizes: tuple[int, ...]) -> str:
    """Sizes as people write them: 28 x 28 x 1."""
    return " x ".join(map(str, sizes))
