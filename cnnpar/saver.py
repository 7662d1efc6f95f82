"""Writes checkpoints beside the training: the loop hands over a copy of the state and goes on."""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from cnnpar.checkpoint import Payload, encode
from cnnpar.errors import RunError


class Saver:
    """One thread that writes what it is given; while it is busy, a newer state of a file replaces the waiting one."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        """`warn` gets a line of text, from the writing thread, when a file cannot be written."""
        self._warn = warn
        self._waiting: dict[Path, tuple[Payload, Path | None]] = {}
        self._failed: dict[Path, str] = {}
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="cnnpar saver", daemon=True)
        self._thread.start()

    def save(self, path: Path, payload: Payload, previous: Path | None = None) -> None:
        """Have the payload written to `path`, the file that was there kept as `previous`. Does not wait."""
        with self._changed:
            self._waiting.pop(path, None)  # to the end: files are written in the order of their newest states
            self._waiting[path] = payload, previous
            self._changed.notify_all()

    def close(self) -> None:
        """Wait until all is written. Raises RunError for a file whose newest state could not be."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._failed:
            raise RunError("; ".join(f"{path}: {reason}" for path, reason in self._failed.items()))

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                path = next(iter(self._waiting))
                payload, previous = self._waiting.pop(path)
            try:
                content = encode(payload)
                if not _holds(path, content):
                    write(path, content, previous)
                self._failed.pop(path, None)
            except Exception as error:  # whatever it is must reach the user, and not end the thread unseen
                reason = (error.strerror if isinstance(error, OSError) else None) or repr(error)
                self._failed[path] = f"cannot write the checkpoint: {reason}"
                self._warn(f"{path}: {self._failed[path]}; training goes on, the next one is tried again")


def write(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Replace a file at once: a kill at any moment leaves the old one or the new one, whole.

    The old one is kept as `previous`, where the file system has hard links. Raises OSError, and then the old file
    is still there.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # of a crash; "x" below follows no link
    with temporary.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if previous is not None:
        link = previous.with_name(f".{previous.name}.tmp")
        with contextlib.suppress(OSError):  # the newest state matters more than the one before
            link.unlink(missing_ok=True)
            link.hardlink_to(path)  # a second name, not a move: there is no moment without a checkpoint
            link.replace(previous)
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _holds(path: Path, content: bytes) -> bool:
    """Whether the file is this checkpoint already: both begin with the digest of the rest."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_size == len(content) and content.startswith(file.read(128))
    except FileNotFoundError:
        return False
