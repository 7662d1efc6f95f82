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
        require: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the file, or cut it; `require` is called before each write, and raises OSError to prevent it."""
        self._require = require
        self._path = Path(path)
        self._warn = warn
        self._reported: set[str] = set()  # reasons
        try:
            if resume_step is None:
                self._path.write_bytes(b"")
            elif self._path.exists():
                os.truncate(self._path, _length_up_to(self._path, resume_step, resume_epochs))
        except OSError as error:
            self._failed(error)

    def write(self, record: Mapping[str, object]) -> None:
        """Append one record of plain Python values; the operating system has it when this returns.

        NaN and infinities become null, as JSON has no numbers for them.
        """
        line = msgspec.json.encode(record) + b"\n"
        try:
            self._require()
            # Opened for each line: an open handle would go on writing into a file that was deleted.
            _append(self._path, line)
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


def _append(path: Path, line: bytes) -> None:
    """Append a whole line, or nothing. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        if (written := os.write(descriptor, line)) < len(line):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)


def _length_up_to(path: Path, step: int, epochs: float) -> int:
    """Return the number of bytes before the first line that is incomplete, or of a later step or epoch.

    A line that is not a record is kept.
    """
    length = 0
    decode = msgspec.json.Decoder(_Step).decode
    with path.open("rb") as file:
        for line in file:
            try:
                record = decode(line)
                later = record.step > step or (record.train_loss is not None and record.epoch > epochs)
            except (msgspec.DecodeError, RecursionError):  # no JSON, no record, or nested too deep
                later = False
            if later or not line.endswith(b"\n"):
                break
            length += len(line)
    return length
