"""Locks of a run: on its directory and on a newest checkpoint elsewhere, each with a note (`.running`).

The directories are opened once, and all files of the run are written relative to these descriptors.
"""

import contextlib
import errno
import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from cnnpar.errors import InputError, reason
from cnnpar.files import open_regular, read_regular
from cnnpar.storage.atomic import write
from cnnpar.storage.checkpoint import owner
from cnnpar.storage.folder import Folder, open_locked
from cnnpar.storage.holder import NOTE, Holder, take

MODEL, PREVIOUS, BEST, METRICS = "model.json", "model.prev.json", "best.json", "metrics.jsonl"  # in a run's directory


class DirectoryLock:
    """Exclusive lock of this process on a run directory, and on a checkpoint file elsewhere, if there is one."""

    def __init__(self, directory: Path, file: Path | None, warn: Callable[[str], None], run_id: str = "") -> None:
        """Take the locks. Raises InputError, which names the holder, if another process has one of them.

        The folder of a `file` elsewhere is locked too, so that it is no other run's directory; several files of
        different runs may be in it. Raises OSError where a folder cannot be opened.
        """
        self._warn = warn
        self._run_id = run_id
        self._mutex = threading.Lock()  # `folder_of` is called by the saver's thread too
        since = datetime.now().astimezone().isoformat(" ", "minutes")
        self._own = msgspec.json.encode(Holder(socket.gethostname(), os.getpid(), since, run_id))
        self._file = file
        with contextlib.ExitStack() as undone:
            self._directory = Folder(directory, fcntl.LOCK_EX, "--run-dir", warn)
            undone.callback(self._directory.close)
            self._elsewhere = self._directory
            if file is not None:
                self._elsewhere = Folder(file.parent, fcntl.LOCK_SH, "--to-path", warn)
                undone.callback(self._elsewhere.close)
                self._note = self._lock_file(file, self._elsewhere.descriptor)
            undone.pop_all()
        self._write_note()

    def folder_of(self, path: Path) -> int:
        """Return the descriptor of the folder of a file of the run. Raises OSError while it cannot be written there.

        A directory that was removed and made anew is locked again, if it holds no other run, nor files of one.
        """
        with self._mutex:
            if path.parent != self._directory.path and self._elsewhere is not self._directory:
                self._elsewhere.require(self._renew_file_lock)
                return self._elsewhere.descriptor
            if self._directory.require(self._check_ours):
                self._write_note()
            return self._directory.descriptor

    def place_of(self, path: Path) -> Path:
        """Return where a file of the run is now: its path, unless its folder was moved."""
        folder = self._directory if path.parent == self._directory.path else self._elsewhere
        place = folder.place()
        return path if place == folder.path else place / path.name

    def close(self) -> None:
        """Release the locks and remove the notes."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                if _is_there(self._note_name(self._file), self._elsewhere.descriptor, self._note):
                    os.unlink(self._note_name(self._file), dir_fd=self._elsewhere.descriptor)
            os.close(self._note)
            self._elsewhere.close()
        with contextlib.suppress(OSError):
            folder = self._directory.descriptor
            if read_regular(NOTE, len(self._own), directory=folder) == self._own:  # and not another run's
                os.unlink(NOTE, dir_fd=folder)
        self._directory.close()

    def _check_ours(self, directory: int) -> None:
        """Raise OSError if a directory holds files of a run, and not of this one."""
        names = os.listdir(directory)
        owners = {owner(name, directory) for name in (MODEL, PREVIOUS, BEST) if name in names}
        if owners - {self._run_id} or (METRICS in names and not owners):
            raise OSError(errno.EBUSY, "files of another run have taken its place")

    def _write_note(self) -> None:
        with contextlib.suppress(OSError):  # the disk may be full; the lock holds without a note
            write(Path(NOTE), self._own, folder=self._directory.descriptor)

    @staticmethod
    def _note_name(file: Path) -> str:
        return f".{file.name}{NOTE}"

    def _lock_file(self, file: Path, folder: int) -> int:
        """Lock and write the note beside a file; return its descriptor. Raises InputError if it is not to be had."""
        name = self._note_name(file)
        while True:
            try:
                descriptor = open_regular(name, os.O_RDWR | os.O_CREAT, directory=folder)
            except OSError as error:
                raise InputError(f"{file.with_name(name)}: cannot write there: {reason(error)}") from error
            try:
                take(descriptor, fcntl.LOCK_EX, file, folder, name, "--to-path", self._warn)
                with contextlib.suppress(FileNotFoundError):
                    # The last holder may have removed the note between our open and our lock; then try again.
                    if _is_there(name, folder, descriptor):
                        with contextlib.suppress(OSError):  # a full disk; the lock holds without a note
                            os.ftruncate(descriptor, 0)
                            os.pwrite(descriptor, self._own, 0)
                        return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _renew_file_lock(self, folder: int) -> None:
        """Lock the note of the file in a folder that was made anew. Raises OSError if another run has it."""
        assert self._file is not None
        try:
            descriptor = self._lock_file(self._file, folder)
        except InputError as error:
            raise OSError(errno.EBUSY, "another run has taken its place") from error
        os.dup2(descriptor, self._note, inheritable=False)
        os.close(descriptor)


@contextlib.contextmanager
def locked(
    directory: Path, warn: Callable[[str], None], file: Path | None = None, run_id: str = ""
) -> Iterator[DirectoryLock]:
    """Hold the lock of a run directory, and of a checkpoint `file` elsewhere, while the block runs.

    The system releases it when the process ends, even by a kill. Raises InputError, which names the holder, if another
    process has it. `warn` gets a line of text where the file system has no locks and the holder is on another host, and
    where a folder is moved meanwhile.
    """
    with contextlib.closing(DirectoryLock(directory, file, warn, run_id)) as lock:
        yield lock


def require_free(directory: Path) -> None:
    """Raise InputError, as `locked` would, if a process holds the lock of this directory, which need not exist."""
    try:
        os.close(open_locked(directory, fcntl.LOCK_EX, "--run-dir", lambda _: None))
    except OSError:
        return  # no directory


def _is_there(name: str, folder: int, descriptor: int) -> bool:
    """Tell whether the name in an opened folder is that of an open file. Raises OSError if there is none."""
    return os.path.samestat(os.stat(name, dir_fd=folder, follow_symlinks=False), os.fstat(descriptor))
