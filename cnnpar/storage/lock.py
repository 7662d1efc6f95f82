"""One run at a time in a directory: a lock that ends with its process, and a note that says whose it is."""

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

_NOTE = ".running"  # what is left of a killed run's does no harm: the lock decides


class _Holder(msgspec.Struct, frozen=True):
    """The content of the note, as JSON."""

    host: Annotated[str, Meta(pattern=r"^[\w.-]{1,255}$")]
    pid: Annotated[int, Meta(ge=1, lt=2**31)]
    since: Annotated[str, Meta(pattern=r"^[\d :+-]{16,22}$")]

    def __str__(self) -> str:
        return f"process {self.pid} on host {self.host}, since {self.since}"


class Claim:
    """A directory, and perhaps a file elsewhere, that this process alone trains in."""

    def __init__(self, directory: Path, file: Path | None, warn: Callable[[str], None]) -> None:
        """Raises InputError that names the process that trains there already."""
        self._directory = directory
        self._warn = warn
        self._alone = threading.Lock()
        self._file = None if file is None else _lock_file(file)
        try:
            self._descriptor = _lock(directory, warn)
        except BaseException:
            self._give_back_the_file()
            raise
        since = datetime.now().astimezone().isoformat(" ", "minutes")
        self._own = msgspec.json.encode(_Holder(socket.gethostname(), os.getpid(), since))
        self._write_note()
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._file[1], self._own, 0)

    def require(self) -> None:
        """Raises OSError unless the directory is still ours: it may have been removed, and made anew by another run."""
        with self._alone:
            self._require()

    def _require(self) -> None:
        now, ours = self._directory.stat(), os.fstat(self._descriptor)
        if (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino):
            return
        try:
            descriptor = _lock(self._directory, self._warn)  # nobody else's: it is ours again
        except InputError as error:
            raise OSError(errno.EBUSY, "another run has taken its place") from error
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._write_note()

    def close(self) -> None:
        """Leave them to others."""
        note = self._directory / _NOTE
        with contextlib.suppress(OSError):
            if note.read_bytes() == self._own:  # else this is another directory of the same name by now
                note.unlink()
        os.close(self._descriptor)
        self._give_back_the_file()

    def _write_note(self) -> None:
        with contextlib.suppress(OSError):  # the disk may be full, and the lock is what counts
            write(self._directory / _NOTE, self._own)

    def _give_back_the_file(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file[0].unlink()
            os.close(self._file[1])


@contextlib.contextmanager
def locked(directory: Path, warn: Callable[[str], None], file: Path | None = None) -> Iterator[Claim]:
    """Keep other processes from training in this directory, and from saving in a `file` elsewhere.

    It ends with the process, however that ends. Raises InputError that names the process that trains there already.
    `warn` gets a line of text where that cannot be told.
    """
    with contextlib.closing(Claim(directory, file, warn)) as claim:
        yield claim


def require_free(directory: Path) -> None:
    """Raises InputError, as `locked` would, when a process trains in this directory; it need not exist."""
    try:
        os.close(_lock(directory, lambda _: None))
    except OSError:
        return  # no directory


def _lock(directory: Path, warn: Callable[[str], None]) -> int:
    """A descriptor that holds the lock."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _refusal(directory, _holder(directory / _NOTE)) from error
        except OSError:  # a file system without locks: the note is all there is
            _judge(directory, warn)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock_file(file: Path) -> tuple[Path, int]:
    """A note beside the file, and a descriptor that holds the lock on it. Raises InputError when another has it."""
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
                if note.stat().st_ino == os.fstat(descriptor).st_ino:
                    return note, descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was given back while we waited for it


def _judge(directory: Path, warn: Callable[[str], None]) -> None:
    """Refuse where the note names a process that lives, warn where it names one that cannot be looked at."""
    holder = _holder(directory / _NOTE)
    if holder is None:
        return
    if holder.host != socket.gethostname():
        warn(f"{directory}: be sure that this is over: {holder} (this file system has no locks that would tell)")
    elif _alive(holder.pid):
        raise _refusal(directory, holder, f"; if it does something else, delete {directory / _NOTE}")


def _refusal(place: Path, holder: _Holder | None, more: str = "", option: str = "--run-dir") -> InputError:
    return InputError(
        f"{place}: another run is under way there ({holder or 'by whom is not known'}); "
        f"stop it, or choose another {option}{more}"
    )


def _holder(note: Path) -> _Holder | None:
    """Whom the note names, if there is one that makes sense."""
    try:
        return msgspec.json.decode(note.read_bytes(), type=_Holder)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
