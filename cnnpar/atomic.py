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
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()  # half a file would only keep a full disk full
        raise
    if previous is not None:
        link = previous.with_name(f".{previous.name}.tmp")
        with contextlib.suppress(OSError):  # the newest state matters more than the one before
            link.unlink(missing_ok=True)
            link.hardlink_to(path)  # a second name, not a move: there is no moment without a checkpoint
            link.replace(previous)
            link.unlink(missing_ok=True)  # it is still there if both were names of one file already
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
