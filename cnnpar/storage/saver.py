"""Writes checkpoints beside the training: the loop hands over a copy of the state and goes on."""

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path

from cnnpar.errors import InputError, RunError
from cnnpar.storage.atomic import write
from cnnpar.storage.checkpoint import Payload, encode, read

_Save = tuple[Payload, Path | None]  # what to write, and where to keep the file that was there


class Saver:
    """One thread that writes what it is given; while it is busy, a newer state of a file replaces the waiting one.

    What cannot be written is tried again with every later save, and at the end.
    """

    def __init__(self, warn: Callable[[str], None], require: Callable[[], None] = lambda: None) -> None:
        """`warn` gets a line of text, from the writing thread, when files cannot be written for a new reason.

        `require` raises OSError while nothing may be written.
        """
        self._warn = warn
        self._require = require
        self._waiting: dict[Path, _Save] = {}
        self._failed: dict[Path, _Save] = {}
        self._reasons: dict[Path, str] = {}  # why the newest try of a file failed
        self._written: set[Path] = set()
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="cnnpar saver", daemon=True)
        self._thread.start()

    def save(self, path: Path, payload: Payload, previous: Path | None = None) -> None:
        """Have the payload written to `path`, the file that was there kept as `previous`. Does not wait."""
        with self._changed:
            self._try_again()
            self._waiting.pop(path, None)  # to the end: files are written in the order of their newest states
            self._waiting[path] = payload, previous
            self._changed.notify_all()

    def close(self) -> None:
        """Wait until all is written. Raises RunError for the last file whose newest state could not be."""
        with self._changed:
            self._try_again()
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._reasons:
            path, reason = list(self._reasons.items())[-1]
            raise RunError(f"{path}: cannot write the newest checkpoint: {reason}; what was saved before is as it was")

    def _try_again(self) -> None:
        for path, save in self._failed.items():
            self._waiting.setdefault(path, save)
        self._failed.clear()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                path = next(iter(self._waiting))
                save = self._waiting.pop(path)
            try:
                self._write(path, *save)
            except Exception as error:  # whatever it is must reach the user, and not end the thread unseen
                reason = (error.strerror if isinstance(error, OSError) else None) or repr(error)
                with self._changed:
                    if path not in self._waiting:  # else there is a newer state of it
                        self._failed[path] = save
                    last = self._closing and not self._waiting
                if not last and reason not in self._reasons.values():  # of the last one `close` tells
                    self._warn(f"{path}: cannot write the checkpoint: {reason}; training goes on, and tries again")
                self._reasons.pop(path, None)  # to the end: `close` tells of the last one
                self._reasons[path] = reason
            else:
                if self._reasons.pop(path, None) and not self._reasons:
                    self._warn(f"{path}: checkpoints are written again")
            del save
            _give_memory_back()

    def _write(self, path: Path, payload: Payload, previous: Path | None) -> None:
        self._require()
        content = encode(payload)
        if not _holds(path, content):
            # Of two checkpoints one must be whole at any moment: a damaged one may not push out the one before.
            whole = path in self._written or is_whole(path)
            write(path, content, previous if whole else None)
        self._written.add(path)


def _give_memory_back() -> None:
    """Hand what the allocator keeps of a written checkpoint to the system, where that can be asked for (glibc).

    It would be used again, but in pieces among others: the heap would grow for hundreds of checkpoints.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def is_whole(path: Path) -> bool:
    """Whether there is a checkpoint that can be read."""
    try:
        read(path)
    except InputError:
        return False
    return True


def _holds(path: Path, content: bytes) -> bool:
    """Whether this is what the file holds already."""
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except FileNotFoundError:
        return False
