"""The state of a run between two steps: all that a resumed run goes on from."""

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
import numpy as np

from cnnpar import optim
from cnnpar.config.sections import BestBy, Config, Train
from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import NOTHING, Sums, add_sums


class EpochRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Results of one epoch: mean losses, accuracies in 0..1, and its duration."""

    epoch: int  # counts from 1
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    seconds: float  # of this epoch alone


@dataclass
class TrainState:
    """Parameters, optimizer state and position of a run; the training loop changes them in place."""

    parameters: Vector  # (network.layout.size,) float32: parameters, and buffers behind them
    optimizer: dict[str, Vector]  # (network.layout.trained,) each, such as momentum
    ema: Vector | None = None  # exponential moving average of `parameters`, with train.ema_decay
    epoch: int = 0  # finished epochs
    index: int = 0  # finished steps of the current epoch
    step: int = 0  # finished steps of all epochs
    skipped: int = 0  # those of them whose loss or gradient was not finite
    samples: int = 0  # seen in all
    seconds: float = 0.0  # spent in all
    seconds_before: float = 0.0  # spent when the current epoch began
    sums: Sums = NOTHING  # over the current epoch so far
    initial_sha256: str = ""  # digest of the checkpoint whose weights the run began with, if any
    run_id: str = ""  # 32 hexadecimal digits by chance, the same over all resumes; no weight depends on it
    exact: bool = True  # False once a worker or machine of another fingerprint took part
    history: list[EpochRecord] = field(default_factory=list)
    best_by: BestBy = "accuracy"  # of the settings

    @property
    def digest(self) -> str:
        """SHA-256 over the little-endian float32 bytes of all parameters, then all buffers, in network order.

        The EMA, where there is one, follows in the same order.
        """
        return weights_digest(*self._vectors)

    @contextmanager
    def evaluation_weights(self) -> Iterator[Vector]:
        """Put the EMA weights, if there are any, in place of the parameters while the block runs; yield that array.

        In place, since it is the memory that workers read.
        """
        if self.ema is None:
            yield self.parameters
            return
        trained = self.parameters.copy()
        self.parameters[:] = self.ema
        try:
            yield self.parameters
        finally:
            self.parameters[:] = trained

    @property
    def _vectors(self) -> list[Vector]:
        return [self.parameters] if self.ema is None else [self.parameters, self.ema]

    @property
    def best(self) -> EpochRecord | None:
        """Record of the epoch that is best by `best_by`, the first of equals; None if none was validated."""
        measured = [(score, record) for record in self.history if (score := self._score(record)) is not None]
        return max(measured, key=lambda pair: pair[0], default=(0.0, None))[1]

    def _score(self, record: EpochRecord) -> float | None:
        """Return the number that is highest in the best epoch; None if not measured, or a loss that is not finite."""
        if self.best_by == "accuracy":
            return record.validation_accuracy
        loss = record.validation_loss
        return -loss if loss is not None and math.isfinite(loss) else None

    def out_of(self, patience: int) -> bool:
        """Tell whether the last `patience` epochs brought no better one; never if `patience` is 0."""
        return 0 < patience <= self.epoch - (self.best.epoch if self.best else 0)

    def has_ended(self, train: Train) -> bool:
        """Tell whether nothing is left to compute: all epochs are done, or patience has run out."""
        return self.epoch >= train.epochs or self.out_of(train.patience)

    def advance(self, sums: Sums, seconds: float) -> None:
        """Count one optimizer step and add its sums; `seconds`: of the whole run so far."""
        self._count(sums.count, seconds)
        self.sums = add_sums(self.sums, sums)

    def skip(self, count: int, seconds: float) -> None:
        """Count one step over `count` samples that changed no weights; the epoch's means leave it out."""
        self._count(count, seconds)
        self.skipped += 1

    def _count(self, samples: int, seconds: float) -> None:
        self.index += 1
        self.step += 1
        self.samples += samples
        self.seconds = seconds

    def finish_epoch(self, validation: Sums | None, seconds: float) -> EpochRecord:
        """Append the record of the current epoch and begin the next one; `seconds`: of the whole run so far.

        At least one step of the epoch must not have been skipped.
        """
        record = EpochRecord(
            epoch=self.epoch + 1,
            train_loss=self.sums.loss / self.sums.count,
            train_accuracy=self.sums.correct / self.sums.count,
            validation_loss=validation.loss / validation.count if validation else None,
            validation_accuracy=validation.correct / validation.count if validation else None,
            seconds=seconds - self.seconds_before,
        )
        self.history.append(record)
        self.epoch += 1
        self.index = 0
        self.seconds = self.seconds_before = seconds
        self.sums = NOTHING
        return record


def first_state(config: Config, network: Network) -> TrainState:
    """Return the state before the first step; its weights depend on the seed alone."""
    parameters = network.init(config.train.seed)
    ema = parameters.copy() if config.train.ema_decay else None
    optimizer = optim.init(config.optimizer, network.layout.trained)
    return TrainState(parameters, optimizer, ema, best_by=config.train.best_by)


def weights_digest(*vectors: Vector) -> str:
    """Return the SHA-256, in hexadecimal, over the little-endian float32 bytes of vectors, one after another."""
    digest = hashlib.sha256()
    for vector in vectors:
        digest.update(np.ascontiguousarray(vector, "<f4").data)
    return digest.hexdigest()
