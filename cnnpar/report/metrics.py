"""The metrics file: one JSON object a line, each appended by a single write.

Every record has `step`, the number of finished optimizer steps. A crash can leave lines of steps that are not in the
newest checkpoint, and a last line that is incomplete; a resumed run cuts both off, and does those steps again.
"""

import errno
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from cnnpar.errors import reason
from cnnpar.files import open_regular, opened_folder

_LONGEST_RECORD = 1 << 20  # bytes that are read at once; a record has some hundred


class MetricsLog:
    """A metrics file to append to.

    `resume_step=None` starts an empty file. Otherwise the file is cut before the first line of a step after
    `resume_step`, or of an epoch (a record with `train_loss`) after `resume_epochs` finished ones, or before an
    incomplete last line. The cut is one operation of the file system: a crash leaves the old file or the new one, and
    a full disk does not prevent it.

    An error of the disk (full, read-only, no such folder) does not stop the training: `warn` gets the first one of each
    kind, lines that cannot be written are lost, and later lines are tried again.
    """

    def __init__(
        self,
        path: str | Path,
        resume_step: int | None,
        warn: Callable[[str], None],
        resume_epochs: float = math.inf,
        folder_of: Callable[[Path], int | None] = lambda _: None,
    ) -> None:
        """Start the file, or cut it.

        `folder_of`: gives the descriptor of the file's folder before each write, None for the one that the path names,
        and raises OSError to prevent the write. Nothing but a regular file is written to, and no link is followed.
        """
        self._folder_of = folder_of
        self._path = Path(path)
        self._warn = warn
        self._reported: set[str] = set()  # reasons
        try:
            with opened_folder(self._path, folder_of(self._path)) as folder:
                if resume_step is None:
                    os.close(open_regular(self._path.name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, directory=folder))
                else:
                    _cut(self._path.name, folder, resume_step, resume_epochs)
        except FileNotFoundError as error:
            if resume_step is None:
                self._failed(error)
        except OSError as error:
            self._failed(error)

    def write(self, record: Mapping[str, object]) -> None:
        """Append one record of plain Python values; the operating system has it when this returns.

        NaN and infinities become null, as JSON has no numbers for them.
        """
        line = msgspec.json.encode(record) + b"\n"
        try:
            # Opened for each line: an open handle would go on writing into a file that was deleted.
            with opened_folder(self._path, self._folder_of(self._path)) as folder:
                _append(self._path.name, folder, line)
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        why = reason(error)
        if why not in self._reported:
            self._reported.add(why)
            self._warn(f"{self._path}: cannot write metrics: {why}; training goes on")


class _Step(msgspec.Struct):
    """The fields of a record that decide about cutting."""

    step: int = 0
    epoch: int = 0
    train_loss: float | None = None


def _append(name: str, folder: int, line: bytes) -> None:
    """Append a whole line, or nothing. Raises OSError."""
    descriptor = open_regular(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, directory=folder)
    try:
        if (written := os.write(descriptor, line)) < len(line):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)


def _cut(name: str, folder: int, step: int, epochs: float) -> None:
    """Cut a file before the first line that is incomplete, or of a later step or epoch. Raises OSError.

    A line that is not a record is kept.
    """
    decode = msgspec.json.Decoder(_Step).decode
    kept = end = 0  # bytes of whole lines, and all that were read
    with os.fdopen(open_regular(name, os.O_RDWR, directory=folder), "rb") as file:
        while part := file.readline(_LONGEST_RECORD):
            if kept == end and _is_later(decode, part, step, epochs):
                break
            end += len(part)
            if part.endswith(b"\n"):
                kept = end
        os.ftruncate(file.fileno(), kept)


def _is_later(decode: Callable[[bytes], _Step], line: bytes, step: int, epochs: float) -> bool:
    """Tell whether a line is a record of a step or epoch after these."""
    try:
        record = decode(line)
    except (msgspec.DecodeError, RecursionError):  # no JSON, no record, or nested too deep
        return False
    return record.step > step or (record.train_loss is not None and record.epoch > epochs)
