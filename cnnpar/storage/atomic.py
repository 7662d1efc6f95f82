"""Atomic replacement of files: at any moment, even after a crash, the whole old or the whole new file is there."""

import contextlib
import os
from pathlib import Path


def write(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Replace a file atomically: temporary file, fsync, rename, fsync of the directory.

    The old file stays available as `previous`, if given and if the file system has hard links. Raises OSError, after
    which the old file is still in place.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # left by a crash; mode "x" below then follows no symbolic link
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None:
            _hardlink(path, previous)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()  # frees its space: the disk may be full
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _hardlink(path: Path, previous: Path) -> None:
    """Give a file a second name, if possible. Unlike a rename, this leaves no moment without a file at `path`."""
    link = previous.with_name(f".{previous.name}.tmp")
    with contextlib.suppress(OSError):  # losing the previous file must not keep the new one from being written
        link.unlink(missing_ok=True)
        link.hardlink_to(path)
        link.replace(previous)
        link.unlink(missing_ok=True)  # rename does nothing if both are names of the same file already
