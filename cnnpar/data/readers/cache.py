"""What slow sources were read to, kept for the next start under the content of their files.

An entry is found by the SHA-256 of all bytes that it was made from, never by names or times, and has a digest of its
own: a changed file is read anew, and so is a file whose entry is damaged. Nothing in an entry is run. All of this is
help only: where an entry cannot be read or written, the source is read as if there was no cache.

Entries lie in the user's cache folder, or in `$CNNPAR_CACHE` (`off`: nowhere). Those used least recently make room.
"""

import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from cnnpar.data.readers.files import Digest, Tap
from cnnpar.version import __version__

_FORMAT = 1  # of entries, and of what readers make of a file: another one finds no older entry
_LEAST_BYTES = 1 << 20  # of a source; a smaller one is read in no time
_MOST_BYTES = 2 << 30  # of all entries
_SHARE_OF_FREE = 0.1  # of the disk that an entry may take: checkpoints come first
_LONGEST_HEADER = 4096
_ABANDONED = 3600.0  # seconds after which an unfinished entry is that of a killed process
_ENTRY = re.compile(r"[0-9a-f]+-[0-9a-f]{64}")  # bytes of the source, digest of its content
_UNFINISHED = "unfinished-"
_CHUNK = 1 << 20

_Size = Annotated[int, Meta(ge=1, le=2**48)]


class Samples(NamedTuple):
    """What a reader makes of files; the labels are not checked yet."""

    images: NDArray[np.uint8]  # (N, H, W, C), N > 0
    labels: NDArray[np.int64]  # (N,)


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line of an entry, as JSON; images and labels follow as bytes."""

    sha256: str
    shape: tuple[_Size, _Size, _Size, _Size]


def cached(kind: str, files: Sequence[Path], read: Callable[[Digest | None], Samples]) -> Samples:
    """What `read` gives, or once gave for files of the same bytes.

    That must depend on nothing but `kind` and those bytes; `read` opens all files, in order, with the digest it gets.
    """
    folder = _folder()
    sizes = _sizes(files)
    if folder is None or sizes is None or sum(sizes) < _LEAST_BYTES:
        return read(None)
    begun = hashlib.sha256(repr((_FORMAT, __version__, kind, sizes)).encode())
    size = f"{sum(sizes):x}"
    if any(folder.glob(f"{size}-*")):  # else it would be read twice at its first start
        digest = begun.copy()
        with suppress(OSError):  # the reader will say what is wrong
            _feed(digest, files)
            kept = _kept(folder / f"{size}-{digest.hexdigest()}")
            if kept is not None:
                return kept
    digest = begun.copy()
    samples = read(digest)
    with suppress(OSError):
        _keep(folder / f"{size}-{digest.hexdigest()}", samples)
    return samples


def user_folder() -> Path:
    """Return the folder of cnnpar in the user's cache: of what was read, and of what was downloaded."""
    import platformdirs

    return platformdirs.user_cache_path("cnnpar")


def _folder() -> Path | None:
    """Return the folder of the entries; None: nowhere."""
    chosen = os.environ.get("CNNPAR_CACHE")
    if chosen:
        return None if chosen == "off" else Path(chosen).absolute()
    folder = user_folder() / "data"
    return folder if folder.is_absolute() else None  # a user without a home


def _sizes(files: Sequence[Path]) -> list[int] | None:
    """Bytes of each file; None where one cannot be read twice, or not at all."""
    try:
        found = [path.stat() for path in files]
    except OSError:
        return None
    return [status.st_size for status in found] if all(stat.S_ISREG(status.st_mode) for status in found) else None


def _feed(digest: Digest, files: Sequence[Path]) -> None:
    """Digest whole files."""
    buffer = bytearray(_CHUNK)
    for path in files:
        with Tap(path, digest) as file:
            while file.readinto(buffer):
                pass


def _seal(name: str, shape: tuple[int, ...], samples: Samples) -> str:
    """The digest of an entry: it may be mistaken for no other one, whatever its file is called."""
    digest = hashlib.sha256(repr((name, shape)).encode())
    digest.update(samples.images.data)
    digest.update(samples.labels.data)
    return digest.hexdigest()


def _kept(path: Path) -> Samples | None:
    """The samples of an entry; None unless it is there, whole, and nobody else can have written it."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return None
            header = msgspec.json.decode(file.readline(_LONGEST_HEADER), type=_Header)
            count = header.shape[0]
            if file.tell() + prod(header.shape) + 8 * count != status.st_size:  # nothing absurd is allocated
                return None
            samples = Samples(np.empty(header.shape, np.uint8), np.empty(count, "<i8"))
            for array in samples:
                file.readinto(array.data.cast("B"))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    if _seal(path.name, header.shape, samples) != header.sha256:
        return None
    with suppress(OSError):
        os.utime(path)  # used now
    return Samples(samples.images, samples.labels.astype(np.int64, copy=False))


def _keep(path: Path, samples: Samples) -> None:
    """Write an entry; a reader, also one at this moment, finds all of it or nothing. Raises OSError."""
    images, labels = samples.images, samples.labels.astype("<i8", copy=False)
    folder = path.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _make_room(folder, images.nbytes + labels.nbytes):
        return
    header = _Header(_seal(path.name, images.shape, Samples(images, labels)), images.shape)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=_UNFINISHED)  # for this user's eyes only
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(header) + b"\n")
            file.write(images.data)
            file.write(labels.data)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _make_room(folder: Path, size: int) -> bool:
    """Remove the entries used least recently until one of `size` bytes fits in; False if it never will."""
    if size > min(_MOST_BYTES, _SHARE_OF_FREE * shutil.disk_usage(folder).free):
        return False
    entries = []
    for path in folder.iterdir():
        with suppress(OSError):  # another process removed it
            status = path.lstat()
            if path.name.startswith(_UNFINISHED) and time.time() - status.st_mtime > _ABANDONED:
                path.unlink()
            elif _ENTRY.fullmatch(path.name):  # nothing else that lies here is ours
                entries.append((status.st_mtime, status.st_size, path))
    total = sum(bytes_ for _, bytes_, _ in entries) + size
    for _, bytes_, path in sorted(entries):
        if total <= _MOST_BYTES:
            break
        path.unlink(missing_ok=True)
        total -= bytes_
    return True
