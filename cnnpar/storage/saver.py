"""Saver of checkpoints, beside the training: the loop hands over a copy of the state and goes on."""

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cnnpar.errors import RunError, reason_of_any
from cnnpar.storage.atomic import write
from cnnpar.storage.checkpoint import Payload, encode, is_whole


@dataclass(slots=True)
class _Save:
    """Newest state of a file, not on disk yet."""

    payload: Payload
    previous: Path | None  # where to keep the file that was there
    due: bool = True  # new, or a save or the end came after its last try began
    reason: str = ""  # why the last try of this file failed


class Saver:
    """Thread that writes checkpoints; while it is busy, a newer state of a file replaces the one that waits.

    Files are written in the order of their newest states. A file that cannot be written keeps its place, and is tried
    again with every later save, and at the end.
    """

    def __init__(
        self, warn: Callable[[str], None], require: Callable[[], None] = lambda: None, whole: Path | None = None
    ) -> None:
        """Start the thread.

        `warn`: called from it with a line of text when files cannot be written for a new reason. `require`: raises
        OSError while nothing may be written. `whole`: a file known to be a whole checkpoint, which is not read again.
        """
        self._warn = warn
        self._require = require
        self._pending: dict[Path, _Save] = {}  # in the order of the newest states, the one under way included
        self._whole: set[Path] = {whole} if whole else set()  # files that are whole checkpoints
        self._warned = False  # since files could last be written
        self._closing = False
        self._changed = threading.Condition()  # guards `_pending` and `_closing`
        self._thread = threading.Thread(target=self._work, name="cnnpar saver", daemon=True)
        self._thread.start()

    def save(self, path: Path, payload: Payload, previous: Path | None = None) -> None:
        """Have the payload written to `path`, and the file that was there kept as `previous`. Does not wait."""
        with self._changed:
            older = self._pending.pop(path, None)
            # To replace a state that waits brings no further try of what failed: that could keep it waiting for ever.
            if older is None or not older.due:
                self._try_again()
            self._pending[path] = _Save(payload, previous, reason=older.reason if older else "")
            self._changed.notify_all()

    def close(self) -> None:
        """Wait until all is written. Raises RunError for the last file whose newest state could not be."""
        with self._changed:
            self._try_again()
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._pending:
            path, save = list(self._pending.items())[-1]
            raise RunError(
                f"{path}: cannot write the newest checkpoint: {save.reason}; what was saved before is as it was"
            )

    def _try_again(self) -> None:
        for save in self._pending.values():
            save.due = True

    def _due(self) -> Path | None:
        return next((path for path, save in self._pending.items() if save.due), None)

    def _work(self) -> None:
        while True:
            with self._changed:
                while (path := self._due()) is None:
                    if self._closing:
                        return
                    self._changed.wait()
                save = self._pending[path]
                save.due = False
            try:
                self._write(path, save)
            except Exception as error:  # of any kind: it must reach the user, and not end the thread unseen
                self._note_failure(path, reason_of_any(error))
            else:
                self._note_success(path, save)
            del save
            _give_memory_back()

    def _write(self, path: Path, save: _Save) -> None:
        self._require()
        content = encode(save.payload)
        if not _holds(path, content):
            # Of two checkpoints one must be whole at any moment: a damaged one may not push out the one before.
            whole = path in self._whole or is_whole(path)
            write(path, content, save.previous if whole else None)
        self._whole.add(path)

    def _note_failure(self, path: Path, reason: str) -> None:
        with self._changed:
            known = reason in [save.reason for save in self._pending.values()]
            last = self._closing and path == next(reversed(self._pending))  # of which `close` tells
            self._pending[path].reason = reason
        if not known and not last:
            self._warned = True
            self._warn(f"{path}: cannot write the checkpoint: {reason}; training goes on, and tries again")

    def _note_success(self, path: Path, save: _Save) -> None:
        with self._changed:
            newest = self._pending[path]
            newest.reason = ""
            if newest is save:
                del self._pending[path]
            well = not any(save.reason for save in self._pending.values())
        if well and self._warned:
            self._warned = False
            self._warn(f"{path}: checkpoints are written again")


def _give_memory_back() -> None:
    """Return the memory of a written checkpoint to the system, where the allocator can be asked to (glibc).

    The allocator would reuse it in pieces, and the heap would grow for hundreds of checkpoints.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _holds(path: Path, content: bytes) -> bool:
    """Tell whether the file holds this content already."""
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except FileNotFoundError:
        return False
