"""What a run is between two steps. Whatever is not here is lost on resume."""

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from cnnpar import optim
from cnnpar.config.sections import BestBy, Config
from cnnpar.nn.network import Network
from cnnpar.nn.sums import Sums

Vector = NDArray[np.float32]

NOTHING = Sums(0.0, 0, 0)


class EpochRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one epoch went; accuracies in 0..1, `seconds` of this epoch alone."""

    epoch: int  # counts from 1
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    seconds: float


@dataclass
class TrainState:
    """Parameters, optimizer and position of a run; the training loop changes it in place."""

    parameters: Vector  # (network.layout.size,): parameters, and buffers behind them
    optimizer: dict[str, Vector]
    average: Vector | None = None  # running mean of `parameters`, where the run keeps one
    epoch: int = 0  # finished epochs
    index: int = 0  # finished steps of the current epoch
    step: int = 0  # finished steps of all epochs
    skipped: int = 0  # those of them whose loss or gradient was not finite
    samples: int = 0  # seen in all
    seconds: float = 0.0  # spent in all
    seconds_before: float = 0.0  # spent when the current epoch began
    sums: Sums = NOTHING  # over the current epoch so far
    initial_sha256: str = ""  # digest of the checkpoint whose weights it began with, if any
    exact: bool = True  # False once a worker or machine of another fingerprint took part
    history: list[EpochRecord] = field(default_factory=list)
    best_by: BestBy = "accuracy"  # of the settings

    @property
    def digest(self) -> str:
        """SHA-256 over the little-endian float32 bytes of all parameters, then all buffers, in network order.

        Behind them follows their running mean, likewise, where the run keeps one.
        """
        return weights_digest(*self._vectors)

    @contextmanager
    def evaluation_weights(self) -> Iterator[Vector]:
        """The weights that are evaluated, at the parameters' place in memory, which workers read: the running mean, if
        there is one, stands there for a while.
        """
        if self.average is None:
            yield self.parameters
            return
        trained = self.parameters.copy()
        self.parameters[:] = self.average
        try:
            yield self.parameters
        finally:
            self.parameters[:] = trained

    @property
    def _vectors(self) -> list[Vector]:
        return [self.parameters] if self.average is None else [self.parameters, self.average]

    @property
    def best(self) -> EpochRecord | None:
        """The epoch of highest validation accuracy, or of lowest loss, the first of equals; None without such data."""
        measured = [(score, record) for record in self.history if (score := self._score(record)) is not None]
        return max(measured, key=lambda pair: pair[0], default=(0.0, None))[1]

    def _score(self, record: EpochRecord) -> float | None:
        """What is highest in the best epoch; None where it was not measured, or is not finite, which JSON lacks."""
        if self.best_by == "accuracy":
            return record.validation_accuracy
        loss = record.validation_loss
        return -loss if loss is not None and math.isfinite(loss) else None

    def out_of(self, patience: int) -> bool:
        """Whether so many epochs, if any, have gone by without a better one."""
        return 0 < patience <= self.epoch - (self.best.epoch if self.best else 0)

    def advance(self, sums: Sums, seconds: float) -> None:
        """Count one optimizer step."""
        self._count(sums.count, seconds)
        self.sums = Sums(self.sums.loss + sums.loss, self.sums.correct + sums.correct, self.sums.count + sums.count)

    def skip(self, count: int, seconds: float) -> None:
        """Count one step over that many samples that changed nothing; it is no part of the epoch's means."""
        self._count(count, seconds)
        self.skipped += 1

    def _count(self, samples: int, seconds: float) -> None:
        self.index += 1
        self.step += 1
        self.samples += samples
        self.seconds = seconds

    def finish_epoch(self, validation: Sums | None, seconds: float) -> EpochRecord:
        """Turn the current epoch, in which not all steps were skipped, into a record, and begin the next one."""
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
    """The state before the first step."""
    parameters = network.init(config.train.seed)
    average = parameters.copy() if config.train.ema_decay else None
    optimizer = optim.init(config.optimizer, network.layout.trained)
    return TrainState(parameters, optimizer, average, best_by=config.train.best_by)


def weights_digest(*vectors: Vector) -> str:
    """SHA-256 over the little-endian float32 bytes of vectors, one after the other."""
    digest = hashlib.sha256()
    for vector in vectors:
        digest.update(np.ascontiguousarray(vector, "<f4").data)
    return digest.hexdigest()
