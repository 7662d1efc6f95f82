"""Position of a run (epoch, step, counters) as stored in a checkpoint, and the check that it is consistent."""

import secrets
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from cnnpar.config.choices import Count, NonNegative
from cnnpar.config.sections import Config
from cnnpar.errors import InputError
from cnnpar.text import shown
from cnnpar.training.state import EpochRecord

_MOST_SECONDS = 1e10  # 300 years
_LARGEST_LOSS = 1e39  # of one sample; the range of float32 is 7e38 wide
RunId = Annotated[str, Meta(pattern=r"^([0-9a-f]{32})?\Z")]  # empty where an earlier version wrote the file


class Position(Struct, frozen=True, forbid_unknown_fields=True):
    """Position of a run: all of `TrainState` but arrays and history."""

    epoch: Count  # finished epochs
    index: Count  # finished steps of the current epoch
    step: Count  # finished steps of all epochs
    seed: Count
    samples: Count  # trained on, in all epochs
    seconds: NonNegative  # training time of all epochs
    seconds_before: NonNegative  # training time when the current epoch began
    epoch_loss: float  # sum over the current epoch
    epoch_correct: Count  # likewise
    epoch_count: Count  # samples of these sums
    best: EpochRecord | None
    exact: bool
    weights_sha256: str
    skipped_steps: Count = 0  # steps of all epochs whose loss or gradient was not finite
    initial_sha256: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    run_id: RunId = ""


def new_run_id() -> str:
    """Return an id for a run that begins, by chance: it tells the files of runs apart, and decides nothing else."""
    return secrets.token_hex(16)


def check_position(
    position: Position, history: Sequence[EpochRecord], settings: Config, best: EpochRecord | None, place: str
) -> None:
    """Raise InputError unless the counters agree with each other, the history and the settings."""
    for number, record in enumerate(history):
        shares = [share for share in (record.train_accuracy, record.validation_accuracy) if share is not None]
        if not all(0 <= share <= 1 for share in shares) or not 0 <= record.seconds <= _MOST_SECONDS:
            raise InputError(f"{place}.history[{number}]: accuracies are from 0 to 1, seconds from 0 to 1e10")
    train, epochs = settings.train, position.epoch
    before = position.step - position.index  # steps of the finished epochs, a multiple of their number
    faults = {
        "epoch": epochs != len(history) or any(record.epoch != n for n, record in enumerate(history, 1)),
        "step": before % epochs or before < epochs * max(position.index, 1) if epochs else before,
        "seed": position.seed != train.seed,
        "samples": position.samples > position.step * train.batch_size,
        "seconds": not position.seconds_before <= position.seconds <= _MOST_SECONDS,
        "epoch_correct": position.epoch_correct > position.epoch_count,
        "epoch_count": position.epoch_count > (position.samples if position.index else 0)
        or (position.epoch_count == 0 and position.skipped_steps < position.index),
        "epoch_loss": abs(position.epoch_loss) > _LARGEST_LOSS * position.epoch_count,
        "skipped_steps": position.skipped_steps > position.step,
        "best": position.best != best,
        "initial_sha256": bool(position.initial_sha256) != bool(settings.model.init_from),
    }
    for name, wrong in faults.items():
        if wrong:
            value = shown(getattr(position, name))
            raise InputError(f"{place}.state.{name}: {value} does not fit the rest of the checkpoint")
