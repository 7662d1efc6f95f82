"""Saver of checkpoints, beside the training: the loop hands over a copy of the state and goes on."""

import ctypes
import errno
import os
import stat
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from cnnpar.errors import reason, reason_of_any
from cnnpar.files import opened_folder, read_regular
from cnnpar.storage.atomic import write
from cnnpar.storage.checkpoint import Payload, encode, is_whole, owner

_Seen = tuple[int, int, int, int] | None  # device, inode, size and time of a file; None: there is none


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
    again with every later save, and at the end. A checkpoint of another run is not replaced.
    """

    def __init__(
        self,
        warn: Callable[[str], None],
        folder_of: Callable[[Path], int | None] = lambda _: None,
        whole: Path | None = None,
        ids: Collection[str] = ("",),
    ) -> None:
        """Start the thread.

        `warn`: called from it with a line of text when files cannot be written for a new reason. `folder_of`: gives the
        descriptor of a file's folder, None for the one that its path names, and raises OSError while nothing may be
        written there. `whole`: a file known to be a whole checkpoint, which is not read again. `ids`: of the run whose
        checkpoints may be replaced.
        """
        self._warn = warn
        self._folder_of = folder_of
        self._ids = ids
        self._seen: dict[Path, _Seen] = {}  # files that are of this run, as they were last seen
        self._foreign: set[Path] = set()  # files that are not, and that `warn` was told of
        self._pending: dict[Path, _Save] = {}  # in the order of the newest states, the one under way included
        self._whole: set[Path] = {whole} if whole else set()  # files that are whole checkpoints
        self._warned = False  # since files could last be written
        self._closing = False
        self._changed = threading.Condition()  # guards `_pending` and `_closing`
        self._thread = threading.Thread(target=self._work, name="cnnpar saver", daemon=True)
        self._thread.start()

    def claim(self, path: Path) -> None:
        """Look at a file that will be replaced. Raises OSError if it is a folder, or the checkpoint of another run."""
        with opened_folder(path, self._folder_of(path)) as folder:
            self._require_ours(path, folder)

    def write_now(self, path: Path, payload: Payload) -> None:
        """Write a first payload, and return once it is on disk. Raises OSError, or what encoding it raises."""
        self._write(path, _Save(payload, None))
        del payload
        _give_memory_back()

    def save(self, path: Path, payload: Payload, previous: Path | None = None) -> None:
        """Have the payload written to `path`, and the file that was there kept as `previous`. Does not wait."""
        with self._changed:
            older = self._pending.pop(path, None)
            # To replace a state that waits brings no further try of what failed: that could keep it waiting for ever.
            if older is None or not older.due:
                self._try_again()
            self._pending[path] = _Save(payload, previous, reason=older.reason if older else "")
            self._changed.notify_all()

    def close(self) -> dict[Path, tuple[Payload, str]]:
        """Wait until all is written. Return the newest states that could not be, and why, by their files."""
        with self._changed:
            self._try_again()
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        return {path: (save.payload, save.reason) for path, save in self._pending.items()}

    def is_as_written(self, path: Path) -> bool:
        """Tell whether a file is the checkpoint that this saver, or the run before it, has left there."""
        try:
            with opened_folder(path, self._folder_of(path)) as folder:
                found = _seen(path.name, folder)
        except OSError:
            return False
        return found is not None and path in self._whole and found == self._seen.get(path)

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
        content = encode(save.payload)
        with opened_folder(path, self._folder_of(path)) as folder:
            self._require_ours(path, folder)
            found = _seen(path.name, folder)
            if not _holds(path.name, found, folder, content):
                # Of two checkpoints one must be whole at any moment: a damaged one may not push out the one before.
                whole = found is not None and (path in self._whole or is_whole(path, folder))
                previous = save.previous if whole and self._may_replace(save.previous, folder) else None
                written = _identity(write(path, content, previous, folder))
                if previous is not None:
                    self._seen[previous] = found
                self._seen[path] = written
        self._whole.add(path)

    def _may_replace(self, previous: Path | None, folder: int) -> bool:
        """Tell whether the checkpoint before the newest may be kept under that name, and warn if not."""
        if previous is None:
            return False
        try:
            self._require_ours(previous, folder)
        except OSError as error:
            if previous not in self._foreign:
                self._foreign.add(previous)
                self._warn(f"{previous}: {reason(error)}, and stays; the checkpoint before the newest is not kept")
            return False
        return True

    def _require_ours(self, path: Path, folder: int) -> None:
        """Raise OSError if a checkpoint of another run is there, or what no file can replace."""
        found = _seen(path.name, folder)
        if found is None or found == self._seen.get(path):
            return
        run = owner(path.name, folder)
        if run is not None and run not in self._ids:
            raise OSError(errno.EEXIST, "is the checkpoint of another run", str(path))
        if path in self._seen:
            self._whole.discard(path)  # somebody has written it since
        self._seen[path] = found

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


def _seen(name: str, folder: int) -> _Seen:
    """Return what tells a file from others, without a look inside. Raises OSError for a directory."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    return _identity(found)


def _identity(found: os.stat_result) -> _Seen:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _holds(name: str, found: _Seen, folder: int, content: bytes) -> bool:
    """Tell whether the file holds this content already; `found`: as it was seen."""
    if found is None or found[2] != len(content):
        return False
    try:
        return read_regular(name, len(content), directory=folder) == content
    except OSError:
        return False
