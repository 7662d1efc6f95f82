"""Writes checkpoints beside the training: the loop hands over a copy of the state and goes on."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

from cnnpar.atomic import write
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
        """Wait until all is written. Raises RunError for the last file whose newest state could not be."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._failed:
            path, reason = list(self._failed.items())[-1]
            raise RunError(f"{path}: {reason}")

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


def _holds(path: Path, content: bytes) -> bool:
    """Whether the file is this checkpoint already: both begin with the digest of the rest."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_size == len(content) and content.startswith(file.read(128))
    except FileNotFoundError:
        return False
