"""The metrics file: one JSON object a line, each written whole and at once.

Every record carries `step`, the number of finished optimizer steps. A crash can leave lines of steps that the
newest checkpoint knows nothing of, and a line half-written; a resumed run cuts both off and does the steps
again.
"""

import errno
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from cnnpar.errors import reason


class MetricsLog:
    """A metrics file that is appended to.

    `resume_step=None` starts an empty file. Otherwise the file is cut before the first line of a step after
    `resume_step`, or of an epoch (a record with `train_loss`) beyond the `resume_epochs` finished by then, and a
    half-written last line is cut too; cutting is one operation of the file system, so a
    crash leaves the old file or the new one, and a full disk does not prevent it.

    A disk error (full, read-only, folder gone) is no reason to stop training: the first one of each kind is told to
    `warn`, lines that can't be written are lost, and writing goes on as soon as the disk allows.
    """

    def __init__(
        self,
        path: str | Path,
        resume_step: int | None,
        warn: Callable[[str], None],
        resume_epochs: float = math.inf,
        require: Callable[[], None] = lambda: None,
    ) -> None:
        """`require` raises OSError while nothing may be written."""
        self._require = require
        self._path = Path(path)
        self._warn = warn
        self._told: set[str] = set()
        try:
            if resume_step is None:
                self._path.write_bytes(b"")
            elif self._path.exists():
                os.truncate(self._path, _length_up_to(self._path, resume_step, resume_epochs))
        except OSError as error:
            self._failed(error)

    def write(self, record: Mapping[str, object]) -> None:
        """Append one record of plain Python values; it is with the operating system when this returns.

        NaN and infinities become null: JSON has no word for them.
        """
        line = msgspec.json.encode(record) + b"\n"
        try:
            self._require()
            # Opened anew for each line: a handle kept open would go on writing into a file that was deleted.
            _append(self._path, line)
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        why = reason(error)
        if why not in self._told:
            self._told.add(why)
            self._warn(f"{self._path}: cannot write metrics: {why}; training goes on")


class _Step(msgspec.Struct):
    """What resuming needs of a record."""

    step: int = 0
    epoch: int = 0
    train_loss: float | None = None


def _append(path: Path, line: bytes) -> None:
    """Append a whole line or nothing. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        if (written := os.write(descriptor, line)) < len(line):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)


def _length_up_to(path: Path, step: int, epochs: float) -> int:
    """Bytes before the first line of a later step or epoch or without an end; what is no record counts as earlier."""
    length = 0
    decode = msgspec.json.Decoder(_Step).decode
    with path.open("rb") as file:
        for line in file:
            try:
                record = decode(line)
                later = record.step > step or (record.train_loss is not None and record.epoch > epochs)
            except msgspec.DecodeError:
                later = False
            if later or not line.endswith(b"\n"):
                break
            length += len(line)
    return length
