"""The training loop: have the gradient of each batch computed, update the weights, evaluate, report.

It does not know the number or place of the workers, nor any files.
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
from cnnpar.training.advice import against_divergence
from cnnpar.training.microbatch import Training
from cnnpar.training.state import EpochRecord, TrainState


class Observer(Protocol):
    """Interface for what follows a run: progress, metrics, checkpoints."""

    def step_done(self, state: TrainState, sums: Sums, rate: float) -> None:
        """Record an optimizer step: the state after it, the sums of its batch, and its learning rate."""

    def step_skipped(self, state: TrainState, count: int, reason: str, rate: float) -> None:
        """Record a step over `count` samples that changed no weights, as its loss or gradient was not finite."""

    def epoch_done(self, state: TrainState, record: EpochRecord) -> None:
        """Record an epoch: the state after it, and its means."""


def train(
    config: Config,
    work: Training,
    server: Server,
    state: TrainState,
    observer: Observer,
    stopped: Callable[[], bool],
    rate_of: Callable[[int], float] | None = None,
) -> None:
    """Train `state`, in place, until its last epoch, until patience has run out, or until `stopped()`.

    `rate_of` gives the learning rate of a step (from 0); by default it is the schedule's. At any time, also after an
    error, the state is that after a whole step. Raises DivergedError for numbers that are not finite: for weights
    always, for a loss or gradient unless `train.on_nonfinite` is "skip". Raises RunError when too few workers are left,
    and Stopped when the server gave a step up because the run is to stop.
    """
    network, steps_per_epoch = work.network, work.steps_per_epoch
    began = time.monotonic() - state.seconds
    state.parameters = server.adopt(state.parameters)  # (size,) float32, from now on where workers read it
    rate_of = rate_of or _scheduled(config, steps_per_epoch)
    while not state.has_ended(config.train):
        while state.index < steps_per_epoch:
            gradient_sum, sums = server.gradient(state.parameters, state.epoch, state.index)  # (size,) float32
            rate = rate_of(state.step)
            trouble = _trouble(gradient_sum, sums.loss, network)
            if trouble is None:
                with np.errstate(all="ignore"):  # an overflow here is reported by the next step's check
                    _update(config, network, state, gradient_sum, sums.count, rate)
                state.advance(sums, time.monotonic() - began)
                observer.step_done(state, sums, rate)
            else:
                _require_skippable(trouble, config, network, state, rate)
                state.skip(sums.count, time.monotonic() - began)
                observer.step_skipped(state, sums.count, trouble, rate)
            if stopped():
                return  # after a whole step, which a checkpoint can hold
        if state.sums.count == 0:
            raise DivergedError(
                f"epoch {state.epoch + 1}: not one of its {steps_per_epoch} steps had a finite loss and gradient, and "
                f"all were skipped; {against_divergence(config, state)}"
            )
        with state.evaluation_weights() as weights:  # the EMA, where there is one
            validation = server.evaluate(weights, Kind.VALIDATION).sums if Kind.VALIDATION in work.samples else None
        record = state.finish_epoch(validation, time.monotonic() - began)
        observer.epoch_done(state, record)


def _update(config: Config, network: Network, state: TrainState, gradient_sum: Vector, count: int, rate: float) -> None:
    """Do one optimizer step, in place, on all that is not frozen.

    `gradient_sum`: (size,) float32, sums over `count` samples; it may be overwritten.
    """
    # (size,) vectors hold the parameters, `trained` numbers, and behind them the buffers.
    layout, trained = network.layout, network.layout.trained
    # Sums are divided here, once, by the number of samples; the divisor also clips the norm.
    divisor = optim.clip(config.train, gradient_sum[:trained], count)
    for part, shapes in layout.trainable_segments:  # slices without frozen parameters
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
    if state.ema is not None:
        for part, _ in layout.updated_segments:  # buffers too
            optim.update_ema(state.ema[part], state.parameters[part], config.train.ema_decay, state.step)


def _scheduled(config: Config, steps_per_epoch: int) -> Callable[[int], float]:
    """Return the function from a step (from 0) to the learning rate of the settings' schedule."""
    total_steps = config.train.epochs * steps_per_epoch
    base = config.optimizer.learning_rate
    return lambda step: learning_rate(config.schedule, base, step, steps_per_epoch, total_steps)


def _trouble(gradient: Vector, loss: float, network: Network) -> str | None:
    """Return which of a step's numbers are not finite, for the user; None if all are, as in nearly all steps."""
    with np.errstate(over="ignore", invalid="ignore"):
        # One dot product instead of a look at each number; it may overflow, so a second look follows.
        if np.isfinite(loss) and np.isfinite(gradient @ gradient):
            return None
    if not np.isfinite(loss):
        return "the loss is not finite"
    bad = _not_finite(gradient, network)  # the last layer's gradient is computed first
    return f"the gradient of {bad[-1]} is not finite" if bad else None


def _require_skippable(trouble: str, config: Config, network: Network, state: TrainState, rate: float) -> None:
    """Raise DivergedError, which names the layer, unless the step may be skipped: only loss or gradient are bad."""
    where = f"step {state.step + 1} (learning rate {rate:.4g})"
    advice = against_divergence(config, state)
    bad = _not_finite(state.parameters, network)
    if bad:
        raise DivergedError(f"{where}: the weights {bad[0]} are not finite since the update before; {advice}")
    if config.train.on_nonfinite == "stop":
        sizes = {name: float(np.abs(view).max()) for name, view in network.layout.views(state.parameters).items()}
        largest = max(sizes, key=lambda name: sizes[name])
        raise DivergedError(f"{where}: {trouble}; the largest weight is {sizes[largest]:.3g} in {largest}; {advice}")


def _not_finite(vector: Vector, network: Network) -> list[str]:
    """Return the names of the arrays in a vector (size,) that hold numbers that are not finite, in network order."""
    return [name for name, view in network.layout.views(vector).items() if not np.isfinite(view).all()]
