"""Atomic replacement of files: at any moment, even after a crash, the whole old or the whole new file is there.

What may be replaced is a file of a run: one of the user's that happens to have its name stays.
"""

import contextlib
import os
from collections.abc import Iterator
from io import BufferedWriter
from os import stat_result
from pathlib import Path

from cnnpar.files import open_regular, opened_folder


def write(path: Path, content: bytes, previous: Path | None = None, folder: int | None = None) -> stat_result:
    """Replace a file atomically: temporary file, fsync, rename, fsync of the directory.

    The old file stays available as `previous` in the same directory, if given and if the file system has hard links.
    `folder`: descriptor of that directory, where it was opened before; it is then written to wherever it was moved.
    Returns the status of the new file, as it was before anybody else could reach it. Raises OSError, after which the
    old file is still in place.
    """
    with replaced(path, previous, folder) as file:
        file.write(content)
        file.flush()
        return os.fstat(file.fileno())


@contextlib.contextmanager
def replaced(path: Path, previous: Path | None = None, folder: int | None = None) -> Iterator[BufferedWriter]:
    """Yield a new file, which replaces another as `write` does when the block ends; an error leaves the old one."""
    temporary = temporary_of(path).name
    with opened_folder(path, folder) as directory:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)  # left by a crash, or a link or pipe of somebody's
        try:
            new = open_regular(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, directory=directory)
            with os.fdopen(new, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if previous is not None:
                _hardlink(path.name, previous.name, directory)
            os.rename(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=directory)  # frees its space: the disk may be full
            raise
        os.fsync(directory)


def may_replace(path: Path, mark: bytes, head: int, folder: int | None = None) -> bool:
    """Tell whether a run may write a file: there is none, or one with `mark` in its first `head` bytes, as runs write.

    `folder`: descriptor of the folder that it is in, where it is open. Raises OSError for what is no regular file.
    """
    try:
        with opened_folder(path, folder) as opened, os.fdopen(open_regular(path.name, directory=opened), "rb") as file:
            return mark in file.read(head)
    except FileNotFoundError:
        return True


def temporary_of(path: Path) -> Path:
    """Return the file that is written before it is renamed to `path`."""
    return path.with_name(f".{path.name}.tmp")


def _hardlink(name: str, previous: str, directory: int) -> None:
    """Give a file a second name, if possible. Unlike a rename, this leaves no moment without a file of the first."""
    link = f".{previous}.tmp"
    with contextlib.suppress(OSError):  # losing the previous file must not keep the new one from being written
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link, dir_fd=directory)
        os.link(name, link, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        os.rename(link, previous, src_dir_fd=directory, dst_dir_fd=directory)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link, dir_fd=directory)  # rename does nothing if both are names of the same file already
