"""The training loop: draw a batch, have its gradient computed, update, measure, and report.

It knows neither how many workers there are, nor where; neither files nor their formats.
"""

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from cnnpar import optim
from cnnpar.config.sections import Config
from cnnpar.errors import DivergedError
from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums
from cnnpar.optim.schedules import learning_rate
from cnnpar.parallel.server import Server
from cnnpar.parallel.work import Kind
from cnnpar.training.microbatch import Training
from cnnpar.training.state import EpochRecord, TrainState

_ADVICE = "start a new run with a lower optimizer.learning_rate"


class Observer(Protocol):
    """Whoever follows a run: progress, metrics, checkpoints."""

    def step_done(self, state: TrainState, sums: Sums, rate: float) -> None:
        """After each optimizer step; `sums` are the batch's."""

    def step_skipped(self, state: TrainState, count: int, reason: str, rate: float) -> None:
        """After a step, over that many samples, that changed nothing because its numbers were bad."""

    def epoch_done(self, state: TrainState, record: EpochRecord) -> None:
        """After each epoch."""


def train(
    config: Config,
    work: Training,
    server: Server,
    state: TrainState,
    observer: Observer,
    stopped: Callable[[], bool],
    rate_of: Callable[[int], float] | None = None,
) -> None:
    """Train from `state`, which changes in place, to the last epoch, out of patience, or until `stopped()`.

    `rate_of` gives the learning rate of a step, which counts from 0, where that is not the schedule's. The state is
    always that after some whole step. Raises DivergedError at numbers that are not finite, unless only a loss or
    gradient is and such steps are to be skipped; and Stopped when a step was dropped because the run is to stop, with
    the state of the step before.
    """
    network, steps_per_epoch = work.network, work.steps_per_epoch
    began = time.monotonic() - state.seconds
    state.parameters = server.home(state.parameters)
    rate_of = rate_of or _scheduled(config, steps_per_epoch)
    while state.epoch < config.train.epochs and not state.out_of(config.train.patience):
        while state.index < steps_per_epoch:
            gradient_sum, sums = server.gradient(state.parameters, state.epoch, state.index)
            rate = rate_of(state.step)
            trouble = _trouble(gradient_sum, sums.loss, network)
            if trouble is None:
                with np.errstate(all="ignore"):  # what overflows here is named by the next step's check
                    _update(config, network, state, gradient_sum, sums.count, rate)
                state.advance(sums, time.monotonic() - began)
                observer.step_done(state, sums, rate)
            else:
                _require_skippable(trouble, config, network, state, rate)
                state.skip(sums.count, time.monotonic() - began)
                observer.step_skipped(state, sums.count, trouble, rate)
            if stopped():
                return
        if state.sums.count == 0:
            raise DivergedError(
                f"epoch {state.epoch + 1}: not one of its {steps_per_epoch} steps had a finite loss and gradient, and "
                f"all were skipped; {_ADVICE}"
            )
        with state.evaluation_weights() as weights:
            validation = server.evaluate(weights, Kind.VALIDATION).sums if Kind.VALIDATION in work.samples else None
        record = state.finish_epoch(validation, time.monotonic() - began)
        observer.epoch_done(state, record)


def _update(config: Config, network: Network, state: TrainState, gradient_sum: Vector, count: int, rate: float) -> None:
    """One optimizer step, in place, of all that is not frozen."""
    layout, trained = network.layout, network.layout.trained  # numbers; behind them come the buffers
    divisor = optim.clip(config.train, gradient_sum[:trained], count)
    for part, shapes in layout.trainable_segments:
        optim.update(
            config.optimizer,
            {name: vector[part] for name, vector in state.optimizer.items()},
            state.parameters[part],
            gradient_sum[part],
            divisor,
            rate,
            state.step,
            shapes,
        )
    network.update_buffers(state.parameters[trained:], gradient_sum[trained:], count)
    if state.average is not None:
        for part, _ in layout.updated_segments:
            optim.update_ema(state.average[part], state.parameters[part], config.train.ema_decay, state.step)


def _scheduled(config: Config, steps_per_epoch: int) -> Callable[[int], float]:
    """The learning rate of a step as the settings have it."""
    total_steps = config.train.epochs * steps_per_epoch
    base = config.optimizer.learning_rate
    return lambda step: learning_rate(config.schedule, base, step, steps_per_epoch, total_steps)


def _trouble(gradient: Vector, loss: float, network: Network) -> str | None:
    """What of a step is not finite; None in nearly all cases. The loss is computed first, the first layer's last."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(loss) and np.isfinite(gradient @ gradient):
            return None
    if not np.isfinite(loss):
        return "the loss is not finite"
    bad = _not_finite(gradient, network)
    return f"the gradient of {bad[-1]} is not finite" if bad else None


def _require_skippable(trouble: str, config: Config, network: Network, state: TrainState, rate: float) -> None:
    """Stop the run, and say where its numbers left the float32 range, unless it is to skip such steps."""
    where = f"step {state.step + 1} (learning rate {rate:.4g})"
    bad = _not_finite(state.parameters, network)
    if bad:
        raise DivergedError(f"{where}: the weights {bad[0]} are not finite since the update before; {_ADVICE}")
    if config.train.on_nonfinite == "stop":
        sizes = {name: float(np.abs(view).max()) for name, view in network.layout.views(state.parameters).items()}
        largest = max(sizes, key=lambda name: sizes[name])
        raise DivergedError(f"{where}: {trouble}; the largest weight is {sizes[largest]:.3g} in {largest}; {_ADVICE}")


def _not_finite(vector: Vector, network: Network) -> list[str]:
    """The parts of a vector that hold bad numbers, in network order."""
    return [name for name, view in network.layout.views(vector).items() if not np.isfinite(view).all()]
