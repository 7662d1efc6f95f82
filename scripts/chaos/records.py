"""The records in a run's metrics.jsonl, read while the run writes them."""

import os
from pathlib import Path

import msgspec

from cnnpar.files import open_regular

_TAIL = 2000  # bytes: more than a record, and than what is before it in the last one


class Record(msgspec.Struct):
    """A line of the file: one of a step, or one of an epoch after the validation."""

    step: int
    train_loss: float | None = None

    @property
    def of_epoch(self) -> bool:
        """Tell whether it is one of an epoch."""
        return self.train_loss is not None


_decode = msgspec.json.Decoder(Record).decode


def end(path: Path) -> tuple[int, int]:
    """Return the bytes of whole lines, and the step of the last one.

    Raises OSError, also for a link or a pipe; IndexError or ValueError for none.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        content = file.read()
    size = content.rfind(b"\n") + 1
    return size, _decode(content[:size].splitlines()[-1]).step


def last(path: Path) -> Record:
    """Return the last whole record. Raises OSError, also for a link or a pipe; IndexError or ValueError for none."""
    with os.fdopen(open_regular(path), "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        tail = file.read()
    return _decode(tail[: tail.rfind(b"\n") + 1].splitlines()[-1])  # msgspec.DecodeError is a ValueError


def steps(path: Path, begin: int = 0) -> list[int]:
    """List the steps whose records are in the whole lines from byte `begin` on, in the file's order."""
    with os.fdopen(open_regular(path), "rb") as file:
        file.seek(begin)
        *lines, _ = file.read().split(b"\n")
    return [record.step for record in map(_decode, lines) if not record.of_epoch]
