"""Reader of CSV, also gzipped: one sample a line, the label first, then its pixels (0..255) row by row.

A first line whose first cell is text, or whose cells are 0, 1, 2, ..., is skipped as a header. Blank lines, line ends
CRLF and CR, a byte order mark and spaces around numbers are accepted. `numpy.loadtxt` parses (MNIST's 60,000 lines take
about a second), part by part, into arrays that grow in place; only a line that it refuses is parsed in Python, for the
error message. The file may be a pipe.
"""

import re
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from gzip import GzipFile
from io import BufferedReader, TextIOWrapper
from itertools import chain, islice
from math import isqrt, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.data import Data
from cnnpar.data.dataset import ImageShape
from cnnpar.data.readers.cache import Samples, cached
from cnnpar.data.readers.files import Digest, RawSamples, numbered, open_unpacked, require_memory
from cnnpar.errors import InputError, reason
from cnnpar.text import dimensions, one_line

_LONGEST_LINE = 3_200_000  # characters, enough for 512 x 512 x 3 pixels; numpy takes up to 24 bytes of memory for each
_MOST_BLANK = 1 << 20  # characters of blank lines, besides as many as the samples have
_PART = 4 << 20  # bytes of samples that are parsed at a time
_SHORTEST_NUMBERED = 16  # cells; only a longer line of 0, 1, 2, ... is a header: a short one may be a toy sample
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")


def read(path: Path, shape: tuple[int, ...], settings: Data) -> RawSamples:  # noqa: ARG001
    """Read a CSV file; `shape` is (height, width[, channels]), or () for square grey images. Raises InputError."""
    pipe = path.is_fifo()  # cannot be read again to find a line's number
    images, labels, _ = cached(f"csv {shape}", [path], partial(_parse, path, shape))
    return RawSamples(images, labels, numbered if pipe else lambda row: f"line {_line_number(path, row)}, column 1")


def _parse(path: Path, shape: tuple[int, ...], digest: Digest | None) -> Samples:
    """Parse the file, and update the digest with its bytes. Raises InputError with line and column of the fault."""
    with open_unpacked(path, digest, pipe=True) as file:
        rows = _SampleLines(path, file)
        lines = iter(rows)
        first = next(lines, "")
        if not first:
            raise InputError(f"{path}: no samples; expected lines of label,pixel,pixel,...")
        image_shape = _image_shape(path, rows.number, first.count(","), shape)
        pixels = prod(image_shape)
        dtype = np.dtype([("label", np.int64), ("pixels", np.uint8, (pixels,))])
        images, labels = np.empty((0, pixels), np.uint8), np.empty(0, np.int64)
        while first:
            part = _parse_part(path, rows, chain([first], islice(lines, _PART // dtype.itemsize)), dtype)
            require_memory(path, part.nbytes)
            done = len(labels)
            # Growing asks the system for more pages after the old ones, so that nothing is there twice.
            images.resize((done + len(part), pixels), refcheck=False)
            labels.resize(done + len(part), refcheck=False)
            images[done:], labels[done:] = part["pixels"], part["label"]
            first = next(lines, "")
    return Samples(images.reshape(-1, *image_shape), labels)  # (N, H, W, C), (N,)


def _parse_part(path: Path, rows: "_SampleLines", lines: Iterable[str], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Parse lines to a table of labels and pixels. Raises InputError with line and column of the fault."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # older numpy reads "1.5" as 1, with this warning
            table: NDArray[Any] = np.loadtxt(lines, dtype=dtype, delimiter=",", comments=None, ndmin=1)
    except (ValueError, DeprecationWarning) as error:
        # loadtxt takes one line at a time, so the last line read is the one that it refused.
        fault = _describe_fault(rows.text, dtype["pixels"].shape[0]) or f": {one_line(reason(error))}"
        raise InputError(f"{path}: line {rows.number}{fault}") from error
    return table


def _line_number(path: Path, row: int) -> int:
    """Return the line of a sample in the file, counted from 1."""
    with open_unpacked(path) as file:
        rows = _SampleLines(path, file)
        for _ in islice(rows, row + 1):
            pass
        return rows.number


class _SampleLines:
    """Iterator over the lines of a file that hold a sample: neither blank nor the header. Raises InputError."""

    def __init__(self, path: Path, file: BufferedReader | GzipFile) -> None:
        self.number = 0  # of the last line read, counted from 1
        self.text = ""  # the last line read
        self._path = path
        self._file = TextIOWrapper(file, encoding="utf-8-sig", errors="replace")

    def __iter__(self) -> Iterator[str]:
        begun, blank = False, -_MOST_BLANK  # characters of blank lines less those of others
        while text := self._file.readline(_LONGEST_LINE):
            self.number += 1
            self.text = text
            if len(text) == _LONGEST_LINE:
                raise InputError(f"{self._path}: line {self.number} is too long to be a sample")
            if text.isspace():
                blank += len(text)
                if blank > 0:
                    raise InputError(f"{self._path}: most of its {self.number} lines up to here are blank; remove them")
                continue
            blank -= len(text)
            if begun or not _is_header(text):
                yield text
            begun = True


def _is_header(line: str) -> bool:
    """Tell whether a first line is a header: its first cell is text, or its cells are 0, 1, 2, ..."""
    cells = [cell.strip() for cell in line.split(",")]
    try:
        float(cells[0])
    except ValueError:
        return cells[0] != ""
    return len(cells) > _SHORTEST_NUMBERED and all(cell == str(number) for number, cell in enumerate(cells))


def _image_shape(path: Path, line: int, pixels: int, shape: tuple[int, ...]) -> ImageShape:
    """Return (height, width, channels) for `pixels` values a line. Raises InputError where `shape` does not fit."""
    if pixels == 0:
        raise InputError(f"{path}: line {line}: no comma; expected label,pixel,pixel,...")
    if not shape:
        side = isqrt(pixels)
        if side * side != pixels:
            raise InputError(
                f"{path}: line {line}: {pixels} pixels are no square image; "
                "set data.shape = [height, width] or [height, width, channels]"
            )
        return side, side, 1
    if pixels != prod(shape):
        expected = f"{dimensions(shape)} = {prod(shape)}"
        raise InputError(f"{path}: line {line}: {pixels} pixels after the label; expected {expected}")
    height, width, channels = (*shape, 1)[:3]
    return height, width, channels


def _describe_fault(line: str, pixels: int) -> str:
    """Describe the first fault of a line with its column, for a message; "" if none is found."""
    cells = line.rstrip("\n").split(",")
    for column, cell in enumerate(cells, start=1):
        if not _WHOLE.fullmatch(cell) or (column > 1 and not 0 <= int(cell.strip()) <= 255):
            shown = repr(cell if len(cell) <= 20 else cell[:20] + "...")
            wanted = "label (a whole number)" if column == 1 else "pixel (a whole number, 0 to 255)"
            return f", column {column}: {shown} is no {wanted}"
    if len(cells) != pixels + 1:
        return f": {len(cells)} columns, but the first row has {pixels + 1}"
    return ""
