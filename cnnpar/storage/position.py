"""Where a run is, as a checkpoint has it, and whether that can be."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from cnnpar.config.choices import Count, NonNegative
from cnnpar.config.sections import Config
from cnnpar.errors import InputError
from cnnpar.text import shown
from cnnpar.training.state import EpochRecord

_MOST_SECONDS = 1e10
_LARGEST_LOSS = 1e39  # of one sample: between the smallest and the largest float32 lie 7e38


class Position(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the run is: all of `TrainState` that is no array and no history."""

    epoch: Count
    index: Count
    step: Count
    seed: Count
    samples: Count
    seconds: NonNegative
    seconds_before: NonNegative
    epoch_loss: float
    epoch_correct: Count
    epoch_count: Count
    best: EpochRecord | None
    exact: bool
    weights_sha256: str
    skipped_steps: Count = 0
    initial_sha256: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""


def check_position(
    position: Position, history: Sequence[EpochRecord], settings: Config, best: EpochRecord | None, place: str
) -> None:
    """Raises InputError unless the counters agree with each other, with the history, and with the settings."""
    for number, record in enumerate(history):
        shares = [share for share in (record.train_accuracy, record.validation_accuracy) if share is not None]
        if not all(0 <= share <= 1 for share in shares) or not 0 <= record.seconds <= _MOST_SECONDS:
            raise InputError(f"{place}.history[{number}]: accuracies are from 0 to 1, seconds from 0 to 1e10")
    train, epochs = settings.train, position.epoch
    before = position.step - position.index  # steps of the finished epochs, which have as many each
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
