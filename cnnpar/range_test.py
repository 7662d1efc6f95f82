"""The learning rate range test (Smith 2017): the rate grows from step to step, and the loss is watched.

The steps are those of a run; the weights are forgotten. What is found is a pure function of settings and data.
"""

import time
from collections.abc import Callable, Sequence

import msgspec

from cnnpar.config.choices import Constant
from cnnpar.config.sections import Config
from cnnpar.errors import DivergedError, Stopped
from cnnpar.nn.network import Network
from cnnpar.nn.sums import Sums
from cnnpar.parallel.server import Server
from cnnpar.report.progress import Progress
from cnnpar.training.loop import train
from cnnpar.training.lr_curve import Curve
from cnnpar.training.state import EpochRecord, TrainState


class _Watch:
    """The observer that keeps the losses."""

    def __init__(self, rates: Sequence[float], progress: Progress) -> None:
        self.losses: list[float] = []
        self._rates = rates
        self._progress = progress
        self._began = time.monotonic()

    @property
    def done(self) -> bool:
        """Whether all rates were tried, or higher ones need not be."""
        return len(self.losses) == len(self._rates) or Curve.of(self._rates, self.losses).hopeless

    def step_done(self, state: TrainState, sums: Sums, rate: float) -> None:  # noqa: ARG002
        """See training.Observer."""
        self.losses.append(sums.loss / sums.count)
        speed = state.samples / max(time.monotonic() - self._began, 1e-9)
        self._progress.step(1, state.step, self.losses[-1], sums.correct / sums.count, speed)

    def step_skipped(self, state: TrainState, count: int, reason: str, rate: float) -> None:
        """No step is."""

    def epoch_done(self, state: TrainState, record: EpochRecord) -> None:
        """It does not matter here where epochs end."""


def range_test(
    config: Config,
    network: Network,
    state: TrainState,
    rates: Sequence[float],
    steps_per_epoch: int,
    server: Server,
    progress: Progress,
    stopped: Callable[[], bool],
) -> Curve:
    """The losses at the rates, one a step from `state` on, until one is much worse than the lowest, or not finite.

    Raises Stopped once `stopped()`, and DivergedError when not even the first loss is finite.
    """
    epochs = -(-len(rates) // steps_per_epoch)
    # A bad loss, which may be skipped in the run, is what is looked for here.
    settings = msgspec.structs.replace(config.train, epochs=epochs, patience=0, on_nonfinite="stop")
    config = msgspec.structs.replace(config, train=settings, schedule=Constant())
    watch = _Watch(rates, progress)
    try:
        train(
            config,
            network,
            steps_per_epoch,
            False,
            server,
            state,
            watch,
            lambda: watch.done or stopped(),
            rate_of=rates.__getitem__,
        )
    except DivergedError:
        if not watch.losses:
            raise
    if stopped():
        raise Stopped
    return Curve.of(rates, watch.losses)
