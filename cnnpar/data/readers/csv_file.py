"""CSV and CSV.GZ: one sample a line, the label first, its pixels (0..255) row by row after it.

A first line whose first cell is text, or whose cells count 0, 1, 2, ..., is a header. Blank lines, CRLF or CR, a byte
order mark and spaces around numbers do no harm. `numpy.loadtxt` reads MNIST's 60,000 lines in about a second, the first
time; only the line it refuses is looked at in Python.
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
from cnnpar.data.readers.files import Digest, Found, opened
from cnnpar.errors import InputError, reason
from cnnpar.text import dimensions

_LONGEST_LINE = 1 << 26  # characters: 16 million pixels; a longer line is not read to its end
_FEWEST_COUNTED = 16  # pixels; fewer may be 1, 2, 3, ... themselves, in an example
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")


def read(path: Path, shape: tuple[int, ...]) -> Found:
    """The samples of a CSV file; `shape` is (height, width[, channels]), or () for square grey images."""
    images, labels = cached(f"csv {shape}", [path], partial(_parsed, path, shape))
    return Found(images, labels, lambda row: f"line {_line(path, row)}, column 1")


def _parsed(path: Path, shape: tuple[int, ...], digest: Digest | None) -> Samples:
    with opened(path, digest) as file:
        rows = _Rows(path, file)
        lines = iter(rows)
        first = next(lines, "")
        if not first:
            raise InputError(f"{path}: no samples; expected lines of label,pixel,pixel,...")
        image_shape = _image_shape(path, rows.number, first.count(","), shape)
        pixels = prod(image_shape)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)  # older numpy takes "1.5" for 1
                table = np.loadtxt(
                    chain([first], lines),
                    dtype=np.dtype([("label", np.int64), ("pixels", np.uint8, (pixels,))]),
                    delimiter=",",
                    comments=None,
                    ndmin=1,
                )
        except (ValueError, DeprecationWarning) as error:
            # loadtxt pulls one line at a time, so the line it stopped at is the one it refused.
            fault = _fault(rows.text, pixels) or f": {reason(error)}"
            raise InputError(f"{path}: line {rows.number}{fault}") from error
    images = np.ascontiguousarray(table["pixels"]).reshape(-1, *image_shape)
    return Samples(images, np.ascontiguousarray(table["label"]))


def _line(path: Path, row: int) -> int:
    """Where in the file a sample is, from 1."""
    with opened(path) as file:
        rows = _Rows(path, file)
        for _ in islice(rows, row + 1):
            pass
        return rows.number


class _Rows:
    """The lines of a file that hold a sample: neither blank nor a header."""

    def __init__(self, path: Path, file: BufferedReader | GzipFile) -> None:
        self.number = 0  # of the line read last, from 1
        self.text = ""  # that line
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
    """Whether the first cell is text, or all cells count 0, 1, 2, ..., as some writers call what has no name."""
    cells = [cell.strip() for cell in line.split(",")]
    try:
        float(cells[0])
    except ValueError:
        return cells[0] != ""
    return len(cells) > _FEWEST_COUNTED and cells == [str(number) for number in range(len(cells))]


def _image_shape(path: Path, line: int, pixels: int, shape: tuple[int, ...]) -> ImageShape:
    """(height, width, channels) of a row of `pixels` pixels."""
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


def _fault(line: str, pixels: int) -> str:
    """What is wrong with a line, and in which column; "" if nothing is seen."""
    cells = line.rstrip("\n").split(",")
    for column, cell in enumerate(cells, start=1):
        if not _WHOLE.fullmatch(cell) or (column > 1 and not 0 <= int(cell) <= 255):
            shown = repr(cell if len(cell) <= 20 else cell[:20] + "...")
            wanted = "label (a whole number)" if column == 1 else "pixel (a whole number, 0 to 255)"
            return f", column {column}: {shown} is no {wanted}"
    if len(cells) != pixels + 1:
        return f": {len(cells)} columns, but the first row has {pixels + 1}"
    return ""
