"""An flock, released when its process ends, and the note beside it that names the process."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from cnnpar.errors import InputError
from cnnpar.files import read_regular
from cnnpar.storage.position import RunId

NOTE = ".running"  # may be left by a killed run; only the lock itself decides
_LONGEST_NOTE = 4096  # bytes


class Holder(msgspec.Struct, frozen=True):
    """Content of the note, as JSON: the process that holds the lock, and the id of its run."""

    host: Annotated[str, Meta(pattern=r"^[\w.-]{1,255}$")]
    pid: Annotated[int, Meta(ge=1, lt=2**31)]
    since: Annotated[str, Meta(pattern=r"^[\d :+-]{16,22}$")]
    run_id: RunId = ""

    def __str__(self) -> str:
        return f"process {self.pid} on host {self.host}, since {self.since}"


def take(
    descriptor: int, kind: int, place: Path, folder: int, note: str, option: str, warn: Callable[[str], None]
) -> None:
    """Lock an open file or folder: LOCK_EX, or LOCK_SH.

    Raises InputError, which names `place`, the process of the `note` in the opened `folder`, and the `option` to
    change, if another process has the lock. Where the file system has no locks, the note decides; `warn` is told if it
    names another host.
    """
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _refusal(place, holder(note, folder) or _any_holder(folder), option) from error
    except OSError:
        found = holder(note, folder)
        if found is not None and found.host != socket.gethostname():
            warn(f"{place}: be sure that this is over: {found} (this file system has no locks that would tell)")
        elif found is not None and _alive(found.pid):
            file = place / note if note == NOTE else place.with_name(note)
            raise _refusal(place, found, option, f"; if it does something else, delete {file}") from None


def holder(note: str, folder: int) -> Holder | None:
    """Return the content of a note in an opened folder; None if there is none, or it is not valid."""
    try:
        return msgspec.json.decode(read_regular(note, _LONGEST_NOTE, directory=folder), type=Holder)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _any_holder(folder: int) -> Holder | None:
    """Return the content of a note on one file in the folder: its run shares the lock of the folder."""
    with contextlib.suppress(OSError):
        notes = sorted(name for name in os.listdir(folder) if name.startswith(".") and name.endswith(NOTE))
        return next((found for name in notes if (found := holder(name, folder))), None)
    return None


def _refusal(place: Path, found: Holder | None, option: str, more: str = "") -> InputError:
    """Return the error for a directory or file that another run holds."""
    return InputError(
        f"{place}: another run is under way there ({found or 'by whom is not known'}); "
        f"stop it, or choose another {option}{more}"
    )


def _alive(pid: int) -> bool:
    """Tell whether there is a process of this number on this host."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists, and belongs to another user
        return True
    return True
