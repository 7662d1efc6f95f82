"""Cache of parsed data files, found again by the SHA-256 of the files' bytes.

An entry also holds a digest of itself, so a changed file or a damaged entry is noticed and the file is read again.
Entries hold plain bytes; none is executed. They are for this user only; what is a link, no regular file, or another
user's is no entry. The cache never fails a run: where an entry cannot be read or written, the file is read without it.

Entries lie in the user's cache folder, or in `$CNNPAR_CACHE` (`off`: no cache); the least recently used are removed
where room is needed.
"""

import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from cnnpar.data.dataset import PIXEL_TYPES, Pixels, PixelType
from cnnpar.data.readers.files import Digest, HashedFile
from cnnpar.files import open_regular
from cnnpar.machine import available_memory, usable_cores
from cnnpar.version import __version__

_FORMAT = 3  # version of the entries; to be raised where they, or the results of a reader, change
_LEAST_BYTES = 1 << 20  # smallest data file that is cached; parsing less takes no time worth saving
_MOST_BYTES = 2 << 30  # largest size of all entries together
_SHARE_OF_FREE = 0.1  # largest part of the free disk that an entry may take, to leave room for checkpoints
_LONGEST_HEADER = 1 << 20  # bytes; class names may be many
_ABANDONED = 3600.0  # seconds; an older unfinished entry belongs to a process that was killed
_ENTRY = re.compile(r"[0-9a-f]+-[0-9a-f]{64}")  # <size of the data files, or their number>-<SHA-256 of their content>
_UNFINISHED = "unfinished-"
_CHUNK = 1 << 20  # bytes read and digested at a time

_Size = Annotated[int, Meta(ge=1, le=2**48)]


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a reader has found besides images and labels; see `RawSamples`."""

    class_names: tuple[str, ...] | None = None
    understood: str = ""
    notes: tuple[str, ...] = ()


class Samples(NamedTuple):
    """What a reader has made of its files; the labels are not checked yet."""

    images: Pixels  # (N, H, W, C), N > 0
    labels: NDArray[np.int64]  # (N,)
    facts: Facts = Facts()


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """First line of an entry, as JSON; the bytes of images and labels follow."""

    sha256: str
    shape: tuple[_Size, _Size, _Size, _Size]  # (N, H, W, C)
    dtype: PixelType
    facts: Facts


def cached(kind: str, files: Iterable[Path], read: Callable[[Digest | None], Samples]) -> Samples:
    """Return `read(digest)`, or the cached result of an earlier call for files of the same bytes.

    `files` is gone through more than once. The result must be a function of `kind` and those bytes. `read` must read
    all files completely, in order, through `HashedFile` with the digest that it is given (None: nothing is cached).
    """
    sizes = _sizes(files)
    if sizes is None or sum(sizes) < _LEAST_BYTES:
        return read(None)
    return cached_by(f"{kind} {sizes}", sum(sizes), lambda digest: _digest_files(digest, files), read)


def cached_by(
    kind: str, number: int, digest_files: Callable[[Digest], None], read: Callable[[Digest | None], Samples]
) -> Samples:
    """Return `read(digest)`, or the cached result of an earlier call with the same digest.

    `number` tells sources apart before they are digested, such as their size. `digest_files` updates a digest with what
    decides the result, besides `kind`: other files must give other bytes. It may raise OSError. `read` must update the
    digest that it is given with the same bytes (None: nothing is cached), those of the files as it has read them.
    """
    folder = _entry_folder()
    if folder is None:
        return read(None)
    begun = hashlib.sha256(repr((_FORMAT, __version__, kind)).encode())
    if any(folder.glob(f"{number:x}-*")):  # without such an entry, digesting first would read the files twice
        digest = begun.copy()
        with suppress(OSError):  # `read` meets the same error, and reports it
            digest_files(digest)
            known = _read_entry(folder / f"{number:x}-{digest.hexdigest()}")
            if known is not None:
                return known
    digest = begun.copy()
    samples = read(digest)
    if samples.images.nbytes >= _LEAST_BYTES // 4:  # a text has up to four bytes for a pixel
        with suppress(OSError):
            _write_entry(folder / f"{number:x}-{digest.hexdigest()}", samples)
    return samples


def user_folder() -> Path:
    """Return the folder of cnnpar in the user's cache; it holds parsed data and downloads."""
    import platformdirs

    return platformdirs.user_cache_path("cnnpar")


def _entry_folder() -> Path | None:
    """Return the folder of the entries; None where the cache is off."""
    chosen = os.environ.get("CNNPAR_CACHE")
    if chosen:
        return None if chosen == "off" else Path(chosen).absolute()
    folder = user_folder() / "data"
    return folder if folder.is_absolute() else None  # relative for a user without a home folder


def _sizes(files: Iterable[Path]) -> list[int] | None:
    """Return the size of each file in bytes; None unless all are regular files, which can be read twice."""
    try:
        found = [path.stat() for path in files]
    except OSError:
        return None
    return [status.st_size for status in found] if all(stat.S_ISREG(status.st_mode) for status in found) else None


def _digest_files(digest: Digest, files: Iterable[Path]) -> None:
    """Update the digest with the content of the files, in order. Raises OSError."""
    buffer = bytearray(_CHUNK)
    for path in files:
        with HashedFile(path, digest) as file:
            while file.readinto(buffer):
                pass


def _digest_content(
    name: str, header: _Header, images: Pixels, labels: NDArray[np.int64], source: tuple[int, int] | None = None
) -> str:
    """Return the SHA-256 of an entry's name, so that a renamed one is refused, and of what is in it, piece by piece.

    `source`: descriptor of a file, and the place in it from which images and labels are read before that.
    """
    views = [array.data.cast("B") for array in (images, labels)]
    pieces = [view[begin : begin + _CHUNK] for view in views for begin in range(0, len(view), _CHUNK)]

    def digest_piece(piece: memoryview, place: int) -> bytes:
        if source is not None:
            os.preadv(source[0], [piece], place)
        return hashlib.sha256(piece).digest()

    places = accumulate(map(len, pieces), initial=source[1] if source else 0)
    digest = hashlib.sha256(repr((name, header.shape, header.dtype, header.facts)).encode())
    with ThreadPoolExecutor(usable_cores()) as threads:
        for found in threads.map(digest_piece, pieces, places):
            digest.update(found)
    return digest.hexdigest()


def _read_entry(path: Path) -> Samples | None:
    """Return the samples of an entry; None unless it exists, is undamaged, and no other user could have written it."""
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return None
            header = msgspec.json.decode(file.readline(_LONGEST_HEADER), type=_Header)
            count = header.shape[0]
            size = prod(header.shape) * np.dtype(header.dtype).itemsize + 8 * count
            # Checked before anything is allocated.
            if file.tell() + size != status.st_size or size > min(_MOST_BYTES, available_memory()):
                return None
            images, labels = np.empty(header.shape, header.dtype), np.empty(count, "<i8")  # (N, H, W, C), (N,)
            if _digest_content(path.name, header, images, labels, (file.fileno(), file.tell())) != header.sha256:
                return None
            with suppress(OSError):
                os.utime(file.fileno())  # the time of last use, for `_make_room`
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Samples(images, labels.astype(np.int64, copy=False), header.facts)


def _write_entry(path: Path, samples: Samples) -> None:
    """Write an entry, if there is room, and rename it into place: readers see all of it or nothing. Raises OSError."""
    images, labels, facts = samples.images, samples.labels.astype("<i8", copy=False), samples.facts
    folder = path.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _make_room(folder, images.nbytes + labels.nbytes):
        return
    described = _Header("", images.shape, PIXEL_TYPES[images.dtype.name], facts)
    digest = _digest_content(path.name, described, images, labels)
    header = msgspec.json.encode(msgspec.structs.replace(described, sha256=digest)) + b"\n"
    if len(header) > _LONGEST_HEADER:
        return
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=_UNFINISHED)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(header)
            file.write(images.data)
            file.write(labels.data)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _make_room(folder: Path, size: int) -> bool:
    """Remove the least recently used entries until one of `size` bytes fits in; return False if it cannot fit."""
    if size > min(_MOST_BYTES, _SHARE_OF_FREE * shutil.disk_usage(folder).free):
        return False
    entries = []
    for path in folder.iterdir():
        with suppress(OSError):  # another process may remove files meanwhile
            status = path.lstat()
            if path.name.startswith(_UNFINISHED) and time.time() - status.st_mtime > _ABANDONED:
                path.unlink()
            elif _ENTRY.fullmatch(path.name):  # $CNNPAR_CACHE may be a folder with other files
                entries.append((status.st_mtime, status.st_size, path))
    total = sum(bytes_ for _, bytes_, _ in entries) + size
    for _, bytes_, path in sorted(entries):
        if total <= _MOST_BYTES:
            break
        with suppress(IsADirectoryError, PermissionError):  # planted by somebody
            path.unlink(missing_ok=True)
            total -= bytes_
    return True
