"""CSV and CSV.GZ: one sample a line, the label first, its pixels (0..255) row by row after it.

A first line whose first cell is text is a header. Blank lines, CRLF, a byte order mark and spaces around numbers
do no harm. `numpy.loadtxt` reads MNIST's 60,000 lines in about a second; only a line it refuses is looked at here.
"""

import io
import re
import warnings
from array import array
from collections.abc import Iterator
from itertools import chain
from math import isqrt, prod
from pathlib import Path
from typing import IO

import numpy as np

from cnnpar.data.dataset import ImageShape
from cnnpar.data.files import Found, by, opened
from cnnpar.errors import InputError

_LONGEST_LINE = (
    1 << 26
)  # characters; 16 million pixels. A longer one is no sample, and is not read to its end
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")


def read(path: Path, shape: tuple[int, ...]) -> Found:
    """The samples of a CSV file; `shape` is (height, width[, channels]), or () for square grey images."""
    with opened(path) as file:
        rows = _Rows(path, file)
        lines = iter(rows)
        first = next(lines, "")
        if _is_header(first):
            rows.lines.clear()
            first = next(lines, "")
        if not first:
            raise InputError(f"{path}: no samples; expected lines of label,pixel,pixel,...")
        image_shape = _image_shape(path, rows.number, first.count(","), shape)
        pixels = prod(image_shape)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)  # "1.5" as an integer, before numpy 2.3
                table = np.loadtxt(
                    chain([first], lines),
                    dtype=np.dtype([("label", np.int64), ("pixels", np.uint8, (pixels,))]),
                    delimiter=",",
                    comments=None,
                    ndmin=1,
                )
        except (ValueError, DeprecationWarning) as error:
            # loadtxt pulls one line at a time, so the line it stopped at is the one it refused.
            raise InputError(f"{path}: line {rows.number}{_fault(rows.text, pixels, str(error))}") from error
    images = np.ascontiguousarray(table["pixels"]).reshape(-1, *image_shape)
    return Found(images, np.ascontiguousarray(table["label"]), lambda i: f"line {rows.lines[i]}, column 1")


class _Rows:
    """The lines of a text file that are not blank; remembers where each one was."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.number = 0  # of the line read last, from 1
        self.text = ""  # that line
        self.lines = array("q")  # line number of each row
        self._path = path
        self._file = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace")

    def __iter__(self) -> Iterator[str]:
        while text := self._file.readline(_LONGEST_LINE):
            self.number += 1
            self.text = text
            if len(text) == _LONGEST_LINE:
                raise InputError(f"{self._path}: line {self.number} is too long to be a sample")
            if not text.isspace():
                self.lines.append(self.number)
                yield text


def _is_header(line: str) -> bool:
    """Whether the first cell is text. What follows does not count: some writers call the pixels 0, 1, 2, ..."""
    cell = line.partition(",")[0].strip()
    try:
        float(cell)
    except ValueError:
        return cell != ""
    return False


def _image_shape(path: Path, line: int, pixels: int, shape: tuple[int, ...]) -> ImageShape:
    """(height, width, channels) of a row of `pixels` pixels."""
    if pixels == 0:
        raise InputError(f"{path}: line {line}: no comma; expected label,pixel,pixel,... separated by commas")
    if not shape:
        side = isqrt(pixels)
        if side * side != pixels:
            raise InputError(
                f"{path}: line {line}: {pixels} pixels are no square image; "
                "set data.shape = [height, width] or [height, width, channels]"
            )
        return side, side, 1
    if pixels != prod(shape):
        raise InputError(
            f"{path}: line {line}: {pixels} pixels after the label; expected {by(shape)} = {prod(shape)}"
        )
    height, width, channels = (*shape, 1)[:3]
    return height, width, channels


def _fault(line: str, pixels: int, reason: str) -> str:
    """What is wrong with a line that loadtxt refused for `reason`, and in which column."""
    cells = line.rstrip("\n").split(",")
    for column, cell in enumerate(cells, start=1):
        if _WHOLE.fullmatch(cell) and (column == 1 or 0 <= int(cell) <= 255):
            continue
        shown = repr(cell if len(cell) <= 20 else cell[:20] + "...")
        wanted = "label (a whole number)" if column == 1 else "pixel (a whole number, 0 to 255)"
        return f", column {column}: {shown} is no {wanted}"
    if len(cells) != pixels + 1:
        return f": {len(cells)} columns, but the first row has {pixels + 1}"
    return f": {reason}"
