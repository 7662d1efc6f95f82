"""One run at a time in a directory: a lock that ends with its process, and a note that says whose it is."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from cnnpar.atomic import write
from cnnpar.errors import InputError

_NOTE = ".running"  # what is left of a killed run's does no harm: the lock decides


class _Holder(msgspec.Struct, frozen=True):
    """The content of the note, as JSON."""

    host: Annotated[str, Meta(pattern=r"^[\w.-]{1,255}$")]
    pid: Annotated[int, Meta(ge=1, lt=2**31)]
    since: Annotated[str, Meta(pattern=r"^[\d :+-]{16,22}$")]

    def __str__(self) -> str:
        return f"process {self.pid} on host {self.host}, since {self.since}"


@contextlib.contextmanager
def locked(directory: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes from training in this directory; ends with the process, however it ends.

    Raises InputError that names the process that trains there already. `warn` gets a line of text where that cannot
    be told.
    """
    descriptor = _lock(directory, warn)
    note = directory / _NOTE
    since = datetime.now().astimezone().isoformat(" ", "minutes")
    own = msgspec.json.encode(_Holder(socket.gethostname(), os.getpid(), since))
    try:
        with contextlib.suppress(OSError):  # the disk may be full, and the lock is what counts
            write(note, own)
        yield
    finally:
        with contextlib.suppress(OSError):
            if note.read_bytes() == own:  # else this is another directory of the same name by now
                note.unlink()
        os.close(descriptor)


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
            raise _refusal(directory, _holder(directory)) from error
        except OSError:  # a file system without locks: the note is all there is
            _judge(directory, warn)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _judge(directory: Path, warn: Callable[[str], None]) -> None:
    """Refuse where the note names a process that lives, warn where it names one that cannot be looked at."""
    holder = _holder(directory)
    if holder is None:
        return
    if holder.host != socket.gethostname():
        warn(f"{directory}: be sure that this is over: {holder} (this file system has no locks that would tell)")
    elif _alive(holder.pid):
        raise _refusal(directory, holder, f"; if it does something else, delete {directory / _NOTE}")


def _refusal(directory: Path, holder: _Holder | None, more: str = "") -> InputError:
    return InputError(
        f"{directory}: another run is under way there ({holder or 'by whom is not known'}); "
        f"stop it, or choose another --run-dir{more}"
    )


def _holder(directory: Path) -> _Holder | None:
    """Whom the note names, if there is one that makes sense."""
    try:
        return msgspec.json.decode((directory / _NOTE).read_bytes(), type=_Holder)
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
