"""Opening of files whose names others may have shaped: regular files only, without waiting, and up to a size.

Files of a run and of the cache are opened by `open_regular`, without following links; files that a user names, by
`open_input`.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from errno import EFBIG, EINVAL, EISDIR
from pathlib import Path

from cnnpar.errors import InputError

STANDARD_INPUT = "/dev/stdin"  # also where a command is given `-`
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)


def open_regular(
    path: str | Path,
    flags: int = os.O_RDONLY,
    *,
    follow: bool = False,
    directory: int | None = None,
    mode: int = 0o666,
) -> int:
    """Open a regular file and return its descriptor.

    `follow`: the last part of the path may be a symbolic link. `directory`: descriptor of the folder that a relative
    path is in. `mode`: permissions of a file that is created, less the umask. Raises OSError for anything but a
    regular file: a pipe is not waited for, and nothing is cut off before the kind of the file is known.
    """
    return _open_regular(path, flags, follow, directory, mode)[0]


def open_with_size(path: str | bytes) -> tuple[int, int]:
    """Open a regular file that the user named, through links, for reading; return its descriptor and its bytes.

    Raises OSError for anything else.
    """
    descriptor, state = _open_regular(path, os.O_RDONLY, True)
    return descriptor, state.st_size


def _open_regular(
    path: str | bytes | Path, flags: int, follow: bool, directory: int | None = None, mode: int = 0o666
) -> tuple[int, os.stat_result]:
    """Open a regular file as `open_regular` does; return what the system knows of it, too."""
    given = flags & ~os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, given, mode, dir_fd=directory)
    try:
        state = os.fstat(descriptor)
        if stat.S_ISDIR(state.st_mode):
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR), os.fsdecode(path))
        if not stat.S_ISREG(state.st_mode):
            raise OSError(EINVAL, "not a regular file", os.fsdecode(path))
        if flags & os.O_TRUNC:
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, state


def read_regular(path: str | Path, most: int, *, follow: bool = False, directory: int | None = None) -> bytes:
    """Return the content of a regular file of at most `most` bytes. Raises OSError as `open_regular`, or if larger.

    No more is read than the size that the system gives, as files in /proc claim 0 bytes and may not end.
    """
    with open(open_regular(path, follow=follow, directory=directory), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(EFBIG, f"larger than {most:,} bytes", str(path))
        return file.read(size)


@contextlib.contextmanager
def opened_folder(path: Path, folder: int | None = None) -> Iterator[int]:
    """Yield a descriptor of the folder that a file is in: `folder`, where it is open already. Raises OSError."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if folder is None else folder
    try:
        yield descriptor
    finally:
        if folder is None:
            os.close(descriptor)


def open_input(path: str | Path, *, pipe: bool = False) -> int:
    """Open a file that the user named, through links, for reading, and return its descriptor.

    `pipe`: it may be a pipe, such as `<(zcat data.csv.gz)`, which is waited for. Raises OSError for anything but a
    regular file, or such a pipe.
    """
    if not pipe or not stat.S_ISFIFO(Path(path).stat().st_mode):
        return open_regular(path, follow=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):  # exchanged in between
        os.close(descriptor)
        raise OSError(EINVAL, "not a regular file", str(path))
    return descriptor


def expanded(path: str) -> str:
    """Return a path with `~`, `~user`, `$NAME` and `${NAME}` replaced as a shell does, unless it exists as it stands.

    Raises InputError, which names the variable, where one is not set.
    """
    if not path or os.path.lexists(path):
        return path
    for names in _VARIABLE.findall(path):
        name = "".join(names)
        if name not in os.environ:
            raise InputError(f"{path}: no such path, and the environment has no variable {name}")
    return os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111  # a Path raises for a user that is not there
