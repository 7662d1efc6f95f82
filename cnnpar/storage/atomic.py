"""Files that are replaced at once: a reader, also one after a crash, finds all of the old or all of the new."""

import contextlib
import os
from pathlib import Path


def write(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Replace a file at once: a kill at any moment leaves the old one or the new one, whole.

    The old one is kept as `previous`, where the file system has hard links. Raises OSError, and then the old file
    is still there.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # of a crash; "x" below follows no link
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None:
            _keep(path, previous)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()  # it would only keep a full disk full
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _keep(path: Path, previous: Path) -> None:
    """Give a file a second name if possible: unlike a move, that leaves no moment without a checkpoint."""
    link = previous.with_name(f".{previous.name}.tmp")
    with contextlib.suppress(OSError):  # the newest state matters more than the one before
        link.unlink(missing_ok=True)
        link.hardlink_to(path)
        link.replace(previous)
        link.unlink(missing_ok=True)  # it is still there if both were names of one file already
