"""The private directory of a Ray of our own, and the end of all processes that belong to it.

Ray makes its directories writable for everybody, so they lie within one that only this user can enter. A file in it is
locked as long as a process of the run lives; a directory without that lock was left by a run that was killed, and the
next start removes it.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cnnpar.errors import RunError
from cnnpar.files import open_regular

_PREFIX, _UNFINISHED = "cnnpar-ray-", ".cnnpar-ray-"  # of the directories' names; the latter are not locked yet
_LOCK = "lock"
# Longest path within the directory: /r/session_2026-11-28_18-12-50_729639_4194304/sockets/plasma_store. A socket's path
# has at most 107 bytes (unix(7)).
_LONGEST_BASE = 107 - len(f"/{_PREFIX}12345678/r/session_2026-11-28_18-12-50_729639_4194304/sockets/plasma_store")
_ABANDONED = 600.0  # seconds; an older unfinished directory was left by a start that was killed
_KILL_SECONDS = 5.0  # for processes to be gone


class Session:
    """The directory of one Ray, locked by this process and those that inherit `lock`."""

    def __init__(self) -> None:
        """Make the directory. Raises RunError when there is no folder for it."""
        made = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=_base()))  # mode 0700
        self.lock = open_regular(made / _LOCK, os.O_RDWR | os.O_CREAT, mode=0o600)
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.directory = made.rename(made.with_name(made.name[1:]))  # only now may it be taken for an abandoned one
        self.temporary = self.directory / "r"  # for Ray, which gives everybody the right to write to it
        self.temporary.mkdir()

    def end(self) -> None:
        """Kill the processes that are left, and remove the directory."""
        end_session(self.directory)
        os.close(self.lock)


def end_session(directory: Path) -> None:
    """Kill all processes of this user that write to files in the directory, and remove it."""
    until = time.monotonic() + _KILL_SECONDS
    while (left := list(_processes(directory))) and time.monotonic() < until:
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    shutil.rmtree(directory, ignore_errors=True)


def end_abandoned() -> None:
    """End what killed runs of this user have left: their processes, and their directories."""
    for base in _bases():
        for directory in [*base.glob(f"{_PREFIX}*"), *base.glob(f"{_UNFINISHED}*")]:
            with contextlib.suppress(OSError):
                if _is_abandoned(directory):
                    end_session(directory)


def _is_abandoned(directory: Path) -> bool:
    """Tell whether a directory is this user's, and no process holds its lock. Raises OSError."""
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return False
    if directory.name.startswith(_UNFINISHED):  # its start was killed, or has only begun
        return time.time() - status.st_mtime > _ABANDONED
    try:
        descriptor = open_regular(directory / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return True  # who removed the directory was killed half way
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _processes(directory: Path) -> Iterator[int]:
    """Yield the processes, except this one, that have a file within the directory open to write: Ray's all log there.

    Someone who reads a log is left alone.
    """
    within = f"{directory}/r/"
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            files = (folder / "fd").iterdir() if int(folder.name) != os.getpid() else ()
            if any(_is_written(entry, within) for entry in files):
                yield int(folder.name)


def _is_written(entry: Path, within: str) -> bool:
    """Tell whether an entry of /proc/PID/fd is of a file within a folder that is open to write."""
    with contextlib.suppress(OSError):  # it was closed in between
        # The link's permissions are those that the file was opened with (proc_pid_fd(5)).
        return str(entry.readlink()).startswith(within) and bool(entry.lstat().st_mode & stat.S_IWUSR)
    return False


def _bases() -> list[Path]:
    """Return the folders in which the directory may be made: short enough, and safe from other users."""
    wanted = [os.environ.get("RAY_TMPDIR", ""), "/tmp", "/var/tmp", "/dev/shm"]
    with contextlib.suppress(OSError):  # nothing can be written to any folder that Python knows of
        wanted.insert(1, tempfile.gettempdir())
    bases = []
    for name in dict.fromkeys(filter(None, wanted)):
        with contextlib.suppress(OSError):
            base = Path(name).resolve(strict=True)
            status = base.stat()
            ours = status.st_uid in (0, os.geteuid())
            shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
            if ours and not shared and len(os.fsencode(base)) <= _LONGEST_BASE and os.access(base, os.W_OK | os.X_OK):
                bases.append(base)
    return bases


def _base() -> Path:
    bases = _bases()
    if not bases:
        raise RunError(
            f"Ray needs a folder for its sockets that only you or root can rename, with a path of at most "
            f"{_LONGEST_BASE} bytes, such as /tmp; set TMPDIR to one, or use --workers 0, which needs no Ray"
        )
    return bases[0]
