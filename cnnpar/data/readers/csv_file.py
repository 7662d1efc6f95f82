"""Reader of CSV, also gzipped: one sample a line, the label first, then its pixels (0..255) row by row.

A first line whose first cell is text, or whose cells are 0, 1, 2, ..., is skipped as a header. Blank lines, line ends
CRLF and CR, a byte order mark and spaces around numbers are accepted. `numpy.loadtxt` parses (MNIST's 60,000 lines take
about a second); only a line that it refuses is parsed in Python, for the error message.
"""

import re
import warnings
from collections.abc import Iterator
from functools import partial
from gzip import GzipFile
from io import BufferedReader, TextIOWrapper
from itertools import chain, islice
from math import isqrt, prod
from pathlib import Path

import numpy as np

from cnnpar.data.dataset import ImageShape
from cnnpar.data.readers.cache import Samples, cached
from cnnpar.data.readers.files import Digest, RawSamples, open_unpacked
from cnnpar.errors import InputError, reason
from cnnpar.text import dimensions

_LONGEST_LINE = 1 << 26  # characters, enough for 16 million pixels; bounds the memory for a file without line ends
_SHORTEST_NUMBERED = 16  # cells; only a longer line of 0, 1, 2, ... is a header: a short one may be a toy sample
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")


def read(path: Path, shape: tuple[int, ...]) -> RawSamples:
    """Read a CSV file; `shape` is (height, width[, channels]), or () for square grey images. Raises InputError."""
    images, labels = cached(f"csv {shape}", [path], partial(_parse, path, shape))
    return RawSamples(images, labels, lambda row: f"line {_line_number(path, row)}, column 1")


def _parse(path: Path, shape: tuple[int, ...], digest: Digest | None) -> Samples:
    """Parse the file, and update the digest with its bytes. Raises InputError with line and column of the fault."""
    with open_unpacked(path, digest) as file:
        rows = _SampleLines(path, file)
        lines = iter(rows)
        first = next(lines, "")
        if not first:
            raise InputError(f"{path}: no samples; expected lines of label,pixel,pixel,...")
        image_shape = _image_shape(path, rows.number, first.count(","), shape)
        pixels = prod(image_shape)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)  # older numpy reads "1.5" as 1, with this warning
                table = np.loadtxt(
                    chain([first], lines),
                    dtype=np.dtype([("label", np.int64), ("pixels", np.uint8, (pixels,))]),
                    delimiter=",",
                    comments=None,
                    ndmin=1,
                )
        except (ValueError, DeprecationWarning) as error:
            # loadtxt takes one line at a time, so the last line read is the one that it refused.
            fault = _describe_fault(rows.text, pixels) or f": {reason(error)}"
            raise InputError(f"{path}: line {rows.number}{fault}") from error
    images = np.ascontiguousarray(table["pixels"]).reshape(-1, *image_shape)  # (N, H, W, C)
    return Samples(images, np.ascontiguousarray(table["label"]))


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
        begun = False
        while text := self._file.readline(_LONGEST_LINE):
            self.number += 1
            self.text = text
            if len(text) == _LONGEST_LINE:
                raise InputError(f"{self._path}: line {self.number} is too long to be a sample")
            if not text.isspace():
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
    return len(cells) > _SHORTEST_NUMBERED and cells == [str(number) for number in range(len(cells))]


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
        if not _WHOLE.fullmatch(cell) or (column > 1 and not 0 <= int(cell) <= 255):
            shown = repr(cell if len(cell) <= 20 else cell[:20] + "...")
            wanted = "label (a whole number)" if column == 1 else "pixel (a whole number, 0 to 255)"
            return f", column {column}: {shown} is no {wanted}"
    if len(cells) != pixels + 1:
        return f": {len(cells)} columns, but the first row has {pixels + 1}"
    return ""
