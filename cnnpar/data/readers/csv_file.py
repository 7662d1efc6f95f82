"""Reader of CSV, also packed: one sample a line, its label in one column, its pixels in the others, row by row.

The first lines tell what separates cells, whether there is a header, and what its columns are (csv_dialect.py,
csv_columns.py). Blank lines, line ends CRLF and CR, a byte order mark, quotes, and spaces around numbers are accepted.
`numpy.loadtxt` parses (MNIST's 60,000 lines take about a second), part by part (csv_table.py), into arrays that grow in
place. The file may be a pipe.
"""

import re
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnpar.config.data import Data
from cnnpar.data.dataset import Pixels
from cnnpar.data.pixels import as_pixels
from cnnpar.data.readers.cache import Facts, Samples, cached
from cnnpar.data.readers.csv_columns import check_guess, find_columns
from cnnpar.data.readers.csv_dialect import Head, read_head
from cnnpar.data.readers.csv_lines import Line, lines_of
from cnnpar.data.readers.csv_table import Parser
from cnnpar.data.readers.files import Digest, RawSamples, numbered, require_memory
from cnnpar.data.readers.packed import TextBytes, open_text

NAMES = re.compile(r"\.(csv|tsv|txt)(\.(gz|zip|bz2|xz))?$")  # of such files, in lower case
_NO_LABELS = np.empty(0, np.int64)
_WIDENED = 1 << 20  # pixels that are made a larger type at a time


def read(path: Path, shape: tuple[int, ...], settings: Data) -> RawSamples:
    """Read a CSV file; `shape` is (height, width[, channels]), or () for square grey images. Raises InputError."""
    pipe = path.is_fifo()  # cannot be read again to find a line's number
    kind = f"csv {shape} {settings.label!r} {settings.labels} {settings.scale!r} True"
    images, labels, facts = cached(kind, [path], partial(_parse, path, shape, settings))
    return RawSamples(
        images,
        labels,
        numbered if pipe else partial(_place, path, shape, settings),
        facts.class_names,
        understood=facts.understood,
    )


class ImagePart(NamedTuple):
    """Images of some lines, and what the file calls them."""

    images: Pixels  # (n, H, W, C), not scaled
    id_name: str = ""  # the column that numbers or names the samples, where a header says so
    ids: list[str] | None = None


def image_parts(path: Path, shape: tuple[int, ...], settings: Data) -> Iterator[ImagePart]:
    """Yield the images of a CSV file that may have no labels, some lines at a time; labels that it has are left out.

    Raises InputError.
    """
    with open_text(path, pipe=True) as file:
        head, lines = _begin(path, file, settings)
        columns = find_columns(path, head, shape, settings, labelled=False)
        parser = Parser(path, head.separator, columns, lines)
        unsure = columns.guessed
        while (part := parser.next_part()) is not None:
            if unsure:
                check_guess(path, _NO_LABELS, part[0])
            unsure = False
            images = part[0].reshape(-1, *columns.image_shape)
            if columns.ids is None:
                yield ImagePart(images)
            else:
                cells = head._replace(lines=parser.lines).cells(columns.ids)
                yield ImagePart(images, columns.names[columns.ids], cells)


def _parse(path: Path, shape: tuple[int, ...], settings: Data, digest: Digest | None) -> Samples:
    """Parse the file, and update the digest with its bytes. Raises InputError with line and column of the fault."""
    with open_text(path, digest, pipe=True) as file:
        head, lines = _begin(path, file, settings)
        columns = find_columns(path, head, shape, settings, labelled=True)
        parser = Parser(path, head.separator, columns, lines)
        grown, labels = _GrowingPixels(), np.empty(0, np.int64)
        while (part := parser.next_part()) is not None:
            pixels, numbers = part
            require_memory(path, grown.bytes_for(pixels) + numbers.nbytes)
            grown.append(pixels)
            labels.resize(len(labels) + len(numbers), refcheck=False)
            labels[len(labels) - len(numbers) :] = numbers
            del pixels, part
    images = grown.array(prod(columns.image_shape))
    labels, class_names = parser.classes(labels)
    if columns.guessed and class_names is None:
        check_guess(path, labels, images)
    if settings.scale != 1:
        images = as_pixels(images, settings.scale, str(path))
    return Samples(images.reshape(-1, *columns.image_shape), labels, Facts(class_names, columns.understood))


def _begin(path: Path, file: TextBytes, settings: Data) -> tuple[Head, Iterator[Line]]:
    """Read the first lines; return what they show, and all lines that hold a sample. Raises InputError."""
    lines = lines_of(path, file)
    head = read_head(path, lines, settings.label)
    return head, chain(head.lines, lines)


class _GrowingPixels:
    """Pixels that grow in place, part by part, in the smallest type that holds those of all parts."""

    def __init__(self) -> None:
        """Begin with none."""
        self._type, self._bytes = np.dtype(np.uint8), np.empty(0, np.uint8)

    def bytes_for(self, part: Pixels) -> int:
        """Return the bytes of memory that `append` needs besides those that there are."""
        kind = np.promote_types(self._type, part.dtype)
        return (self._bytes.size // self._type.itemsize + part.size) * kind.itemsize - self._bytes.size

    def append(self, part: Pixels) -> None:
        """Append pixels of any shape."""
        old, done = self._type, self._bytes.size // self._type.itemsize
        size = self._bytes.size + self.bytes_for(part)
        # Growing asks the system for more pages after the old ones, so that nothing is there twice.
        self._bytes.resize(size, refcheck=False)
        self._type = np.promote_types(old, part.dtype)
        pixels = self._bytes.view(self._type)
        if old != self._type:
            before = self._bytes[: done * old.itemsize].view(old)
            for end in range(done, 0, -_WIDENED):  # from the end, as each goes to a place after those not yet moved
                begin = max(0, end - _WIDENED)
                pixels[begin:end] = before[begin:end].copy()
        pixels[done:].reshape(part.shape)[:] = part

    def array(self, width: int) -> Pixels:
        """Return the pixels as an array (N, width)."""
        return self._bytes.view(self._type).reshape(-1, width)


def _place(path: Path, shape: tuple[int, ...], settings: Data, row: int) -> str:
    """Name the line of a sample in the file, counted from 1, and the column of its label."""
    with open_text(path) as file:
        head, lines = _begin(path, file, settings)
        label = find_columns(path, head, shape, settings, labelled=True).label or 0
        return f"line {next(islice(lines, row, None)).number}, column {label + 1}"
