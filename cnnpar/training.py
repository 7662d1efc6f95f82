"""The training loop: draw a batch, have its gradient computed, update, measure, and report.

It knows neither how many workers there are, nor where; neither files nor their formats.
"""

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from cnnpar import optim
from cnnpar.config import Config
from cnnpar.errors import DivergedError
from cnnpar.nn.network import Network, Sums
from cnnpar.optim.schedules import learning_rate
from cnnpar.parallel.server import Server
from cnnpar.parallel.work import Kind
from cnnpar.state import EpochRecord, TrainState, Vector


class Observer(Protocol):
    """Whoever follows a run: progress, metrics, checkpoints."""

    def step_done(self, state: TrainState, sums: Sums, rate: float) -> None:
        """After each optimizer step; `sums` are the batch's."""

    def epoch_done(self, state: TrainState, record: EpochRecord) -> None:
        """After each epoch."""


def train(
    config: Config,
    network: Network,
    steps_per_epoch: int,
    validate: bool,
    server: Server,
    state: TrainState,
    observer: Observer,
    stopped: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Train from `state`, which changes in place, to the last epoch, or until `stopped()`.

    The state is always that after some whole step. Raises DivergedError at a loss or gradient that is not finite, and
    Stopped when a step was dropped because the run is to stop; the state is then that of the step before.
    """
    began = clock() - state.seconds
    state.parameters = server.home(state.parameters)
    total_steps = config.train.epochs * steps_per_epoch
    while state.epoch < config.train.epochs:
        while state.index < steps_per_epoch:
            gradient_sum, sums = server.gradient(state.parameters, state.epoch, state.index)
            rate = learning_rate(
                config.schedule, config.optimizer.learning_rate, state.step, steps_per_epoch, total_steps
            )
            _require_finite(gradient_sum, sums.loss, network, state.step, rate)
            gradient = np.divide(gradient_sum, np.float32(sums.count), out=gradient_sum)  # the only division
            with np.errstate(all="ignore"):  # what overflows here is named by the next step's check
                optim.update(config.optimizer, state.optimizer, state.parameters, gradient, rate, state.step)
            state.advance(sums, clock() - began)
            observer.step_done(state, sums, rate)
            if stopped():
                return
        validation = server.evaluate(state.parameters, Kind.VALIDATION) if validate else None
        record = state.finish_epoch(validation, clock() - began)
        observer.epoch_done(state, record)


def _require_finite(gradient: Vector, loss: float, network: Network, step: int, rate: float) -> None:
    """Stop a run whose numbers have left the float32 range, and say where."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(loss) and np.isfinite(gradient @ gradient):
            return
    bad = [name for name, view in network.layout.views(gradient).items() if not np.isfinite(view).all()]
    if bad or not np.isfinite(loss):
        what = f"the gradient of {bad[-1]}" if bad else "the loss"
        raise DivergedError(
            f"step {step + 1}: {what} is not finite (learning rate {rate:.4g}); "
            f"try a lower optimizer.learning_rate; the last checkpoint, if any, is good"
        )
