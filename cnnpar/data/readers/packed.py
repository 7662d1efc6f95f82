"""Opening of a text file that may be packed: by gzip, bzip2 or xz, or as the only file of a zip archive.

The first bytes tell which, not the name: browsers unpack downloads and leave the ending, and Kaggle's `train.csv` may
be a zip archive. What is unpacked is read in pieces, so that its reader decides how much of it is too much.
"""

import bz2
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cnnpar.data.readers.files import Digest, HashedFile, InPieces, open_unpacked
from cnnpar.errors import InputError, reason
from cnnpar.text import harmless, listed, one_line

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK = 1 << 17  # bytes read at a time
_MOST_XZ = 80 << 20  # bytes of memory for unpacking; `xz -9` needs 65 MiB
_ZIP = b"PK\x03\x04"
_LEFTOVER = re.compile(r"^__MACOSX/|(^|/)\.DS_Store$")  # of macOS
_FAULTS = (EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
TextBytes = BufferedReader | gzip.GzipFile | zipfile.ZipExtFile
_Unpacker = bz2.BZ2Decompressor | lzma.LZMADecompressor


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_XZ)


_KINDS: dict[bytes, tuple[str, Callable[[], _Unpacker]]] = {
    b"BZh": ("bzip2", bz2.BZ2Decompressor),
    b"\xfd7zXZ\0": ("xz", _xz),
}


@contextmanager
def open_text(path: Path, digest: Digest | None = None, *, pipe: bool = False) -> Iterator[TextBytes]:
    """Open a file for reading the bytes of its text, unpacked. Raises InputError where it cannot be read or unpacked.

    `digest` is updated with the bytes of the file as stored. `pipe`: it may be a pipe, though no zip archive.
    """
    with open_unpacked(path, digest, pipe=pipe) as file:
        start = file.peek(8)
        if start.startswith(_ZIP):
            if path.is_fifo():
                raise InputError(f"{path}: a zip archive from a pipe cannot be read; give the file itself")
            while file.read(_CHUNK):  # an archive is read from its end, and the digest is to be of the file in order
                pass
            with _only_member(path) as member:
                yield member
            return
        for mark, (kind, unpacker) in _KINDS.items():
            if start.startswith(mark):
                try:
                    yield BufferedReader(_Unpacked(file, unpacker), _CHUNK)
                except (*_FAULTS, OSError) as error:
                    raise InputError(f"{path}: damaged or truncated {kind} file: {one_line(reason(error))}") from error
                return
        yield file


class _Unpacked(io.RawIOBase):
    """Unpacked bytes of a file of one or more packed streams. Unlike `bz2.open` and `lzma.open`, bounded in memory."""

    def __init__(self, file: TextBytes, make: Callable[[], _Unpacker]) -> None:
        self._file, self._make, self._unpacker = file, make, make()

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Unpack into the buffer and return the number of bytes; 0 at the end. Raises an error of `_FAULTS`."""
        target = memoryview(buffer).cast("B")
        data = b""
        while not data:
            packed = b""
            if self._unpacker.eof:
                packed = self._unpacker.unused_data or self._file.read(_CHUNK)
                if not packed:
                    return 0
                self._unpacker = self._make()
            elif self._unpacker.needs_input:
                packed = self._file.read(_CHUNK)
                if not packed:
                    raise EOFError("it ends too early")
            data = self._unpacker.decompress(packed, len(target))
        target[: len(data)] = data
        return len(data)


@contextmanager
def _only_member(path: Path) -> Iterator[zipfile.ZipExtFile]:
    """Open the only file of a zip archive. Raises InputError."""
    try:
        with InPieces(HashedFile(path, None)) as file, zipfile.ZipFile(file) as archive:
            infos = [
                info
                for info in archive.infolist()
                if not (info.filename.endswith("/") or _LEFTOVER.search(info.filename))
            ]
            if any(info.filename.startswith("xl/") for info in infos):
                raise InputError(f"{path}: an Excel workbook; save its sheet as CSV")
            if len(infos) != 1:
                held = harmless(listed([info.filename[:40] for info in infos])) or "nothing"
                raise InputError(f"{path}: a zip archive of {held}; expected one CSV file in it, so unpack it")
            if infos[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("packed in another way than deflated")
            with archive.open(infos[0]) as member:
                yield cast("zipfile.ZipExtFile", member)
    except _FAULTS as error:
        raise InputError(f"{path}: damaged or unusual zip archive: {one_line(reason(error))}") from error
