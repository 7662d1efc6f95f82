"""Lines of a CSV file: decoded, numbered, without blank ones, and none longer than a sample can be."""

from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple

from cnnpar.data.readers.packed import TextBytes
from cnnpar.errors import InputError

_LONGEST_LINE = 3_200_000  # characters, enough for 512 x 512 x 3 pixels; numpy takes up to 24 bytes of memory for each
_MOST_BLANK = 1 << 20  # characters of blank lines, besides as many as the others have
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


class Line(NamedTuple):
    """A line of the file."""

    number: int  # counted from 1
    text: str  # with the line's end


def lines_of(path: Path, file: TextBytes) -> Iterator[Line]:
    """Iterate over the lines that are not blank. Raises InputError for a line too long, and for too many blank ones.

    Text is UTF-8, or what a byte order mark says; bytes that are no text become U+FFFD. Line ends may be LF, CRLF, CR.
    """
    start = file.peek(4)
    encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8-sig")
    lines = TextIOWrapper(file, encoding=encoding, errors="replace")
    number, blank = 0, -_MOST_BLANK  # characters of blank lines less those of others
    while text := lines.readline(_LONGEST_LINE):
        number += 1
        if len(text) == _LONGEST_LINE:
            raise InputError(f"{path}: line {number} is too long to be a sample")
        if text.isspace():
            blank += len(text)
            if blank > 0:
                raise InputError(f"{path}: most of its {number} lines up to here are blank; remove them")
            continue
        blank -= len(text)
        yield Line(number, text)
    lines.detach()  # or else the file would be closed here
