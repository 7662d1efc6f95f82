"""Lock of a run directory: an flock, released when its process ends, and a note (`.running`) that names the process."""

import contextlib
import errno
import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from cnnpar.errors import InputError
from cnnpar.storage.atomic import write

_NOTE = ".running"  # may be left by a killed run; only the lock itself decides


class _Holder(msgspec.Struct, frozen=True):
    """Content of the note, as JSON: the process that holds the lock."""

    host: Annotated[str, Meta(pattern=r"^[\w.-]{1,255}$")]
    pid: Annotated[int, Meta(ge=1, lt=2**31)]
    since: Annotated[str, Meta(pattern=r"^[\d :+-]{16,22}$")]

    def __str__(self) -> str:
        return f"process {self.pid} on host {self.host}, since {self.since}"


class DirectoryLock:
    """Exclusive lock of this process on a run directory, and on a checkpoint file elsewhere, if there is one."""

    def __init__(self, directory: Path, file: Path | None, warn: Callable[[str], None]) -> None:
        """Take the locks. Raises InputError, which names the holder, if another process has one of them."""
        self._directory = directory
        self._warn = warn
        self._mutex = threading.Lock()  # `require_held` is called by the saver's thread too
        self._file = None if file is None else _lock_file(file)
        try:
            self._descriptor = _lock(directory, warn)
        except BaseException:
            self._release_file()
            raise
        since = datetime.now().astimezone().isoformat(" ", "minutes")
        self._own = msgspec.json.encode(_Holder(socket.gethostname(), os.getpid(), since))
        self._write_note()
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._file[1], self._own, 0)

    def require_held(self) -> None:
        """Raise OSError unless this process holds the lock of the directory that is there now.

        A directory that was removed and created anew is locked again, if no other run holds it.
        """
        with self._mutex:
            self._require_held()

    def _require_held(self) -> None:
        now, ours = self._directory.stat(), os.fstat(self._descriptor)
        if (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino):
            return
        try:
            descriptor = _lock(self._directory, self._warn)
        except InputError as error:
            raise OSError(errno.EBUSY, "another run has taken its place") from error
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._write_note()

    def close(self) -> None:
        """Release the locks and remove the notes."""
        note = self._directory / _NOTE
        with contextlib.suppress(OSError):
            if note.read_bytes() == self._own:  # otherwise the directory was replaced, and the note is another run's
                note.unlink()
        os.close(self._descriptor)
        self._release_file()

    def _write_note(self) -> None:
        with contextlib.suppress(OSError):  # the disk may be full; the lock holds without a note
            write(self._directory / _NOTE, self._own)

    def _release_file(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file[0].unlink()
            os.close(self._file[1])


@contextlib.contextmanager
def locked(directory: Path, warn: Callable[[str], None], file: Path | None = None) -> Iterator[DirectoryLock]:
    """Hold the lock of a run directory, and of a checkpoint `file` elsewhere, while the block runs.

    The system releases it when the process ends, even by a kill. Raises InputError, which names the holder, if another
    process has it. `warn` gets a line of text where the file system has no locks and the holder is on another host.
    """
    with contextlib.closing(DirectoryLock(directory, file, warn)) as lock:
        yield lock


def require_free(directory: Path) -> None:
    """Raise InputError, as `locked` would, if a process holds the lock of this directory, which need not exist."""
    try:
        os.close(_lock(directory, lambda _: None))
    except OSError:
        return  # no directory


def _lock(directory: Path, warn: Callable[[str], None]) -> int:
    """Lock a directory and return the descriptor that holds the lock. Raises InputError if another process has it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _refusal(directory, _holder(directory / _NOTE)) from error
        except OSError:  # the file system has no locks; the note is the only evidence
            _check_note(directory, warn)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock_file(file: Path) -> tuple[Path, int]:
    """Lock a note beside the file; return its path and descriptor. Raises InputError if another process has it."""
    note = file.with_name(f".{file.name}{_NOTE}")
    while True:
        descriptor = os.open(note, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise _refusal(file, _holder(note), "", "--to-path") from error
            except OSError:
                pass  # a file system without locks
            with contextlib.suppress(FileNotFoundError):
                # The last holder may have removed the note between our open and our lock; then try again.
                if note.stat().st_ino == os.fstat(descriptor).st_ino:
                    return note, descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _check_note(directory: Path, warn: Callable[[str], None]) -> None:
    """Raise InputError if the note names a live process of this host; warn if it names a process of another host."""
    holder = _holder(directory / _NOTE)
    if holder is None:
        return
    if holder.host != socket.gethostname():
        warn(f"{directory}: be sure that this is over: {holder} (this file system has no locks that would tell)")
    elif _alive(holder.pid):
        raise _refusal(directory, holder, f"; if it does something else, delete {directory / _NOTE}")


def _refusal(place: Path, holder: _Holder | None, more: str = "", option: str = "--run-dir") -> InputError:
    """Return the error for a directory or file that another run holds."""
    return InputError(
        f"{place}: another run is under way there ({holder or 'by whom is not known'}); "
        f"stop it, or choose another {option}{more}"
    )


def _holder(note: Path) -> _Holder | None:
    """Return the content of a note; None if there is none, or it is not valid."""
    try:
        return msgspec.json.decode(note.read_bytes(), type=_Holder)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _alive(pid: int) -> bool:
    """Tell whether there is a process of this number on this host."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists, and belongs to another user
        return True
    return True
