"""Read what a run has written to its metrics file; `cnnpar/report/metrics.py` writes it."""

import os
from pathlib import Path

import msgspec

from cnnpar.errors import InputError, reason
from cnnpar.files import open_input
from cnnpar.storage.checkpoint import Payload
from cnnpar.storage.lock import METRICS

_LONGEST_LINE = 1 << 16  # bytes; a record has some hundred
_MOST = 1 << 20  # records, the last ones of which are left out


class Measurement(msgspec.Struct, frozen=True):
    """One line of a metrics file: of a step, or of an epoch, which has a `train_loss`."""

    step: int
    epoch: int
    weights_sha256: str = ""  # empty for a step that was skipped
    loss: float | None = None
    accuracy: float | None = None
    train_loss: float | None = None
    learning_rate: float | None = None


def beside(checkpoint: Path, payload: Payload) -> list[Measurement]:
    """Return the measurements beside a checkpoint of that payload; none where they are another run's, or not there."""
    found = read(checkpoint.with_name(METRICS))
    losses = {record.epoch: record.train_loss for record in payload.history}
    own = all(losses.get(one.epoch, one.train_loss) == one.train_loss for one in found if one.train_loss is not None)
    return found if own else []


def read(path: Path) -> list[Measurement]:
    """Return the records of a metrics file, in its order; empty if there is none. Lines that are no record are skipped.

    Raises InputError for a file that cannot be read.
    """
    decode, found = msgspec.json.Decoder(Measurement).decode, list[Measurement]()
    try:
        with os.fdopen(open_input(path), "rb") as file:
            while (line := file.readline(_LONGEST_LINE)) and len(found) < _MOST:
                try:
                    found.append(decode(line))
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    continue
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error
    return found
