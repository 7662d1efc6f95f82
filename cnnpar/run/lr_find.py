"""The learning-rate finder (Smith 2017): the rate grows from step to step, and the loss is watched.

The steps are those of a run; the weights are forgotten. What is found is a pure function of settings and data.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from cnnpar import optim
from cnnpar.config import Config
from cnnpar.config.choices import Constant
from cnnpar.data.augment.augmenter import first_plain_epoch, without_resampling
from cnnpar.errors import DivergedError, Stopped
from cnnpar.nn.sums import Sums
from cnnpar.parallel.server import Server
from cnnpar.parallel.start import start
from cnnpar.parallel.work import Kind
from cnnpar.report.progress import Progress
from cnnpar.run.headline import facts
from cnnpar.run.prepare import build_network, by_kind, check_lone_samples, load_data
from cnnpar.run.stop import StopSignal
from cnnpar.run.transfer import transfer
from cnnpar.training import loop
from cnnpar.training.lr_curve import Curve, Range
from cnnpar.training.microbatch import Training
from cnnpar.training.state import EpochRecord, TrainState, first_state


def lr_find(config: Config, wanted: Range, progress: Progress, stop: StopSignal) -> tuple[Curve, bool]:
    """Find the losses at the wanted rates, with the data, network and workers of a run; and whether they are exact.

    Raises InputError, RunError, or Stopped. Nothing is written.
    """
    splits, preprocessing = load_data(config, note=progress.note)
    network = build_network(config, preprocessing)
    state = first_state(config, network)
    notes = [*splits.notes]
    if config.model.init_from:
        notes += transfer(config.model, network, state).lines()
    # Images as in the first epoch, however many steps there are.
    varied = first_plain_epoch(config.augment, config.train.epochs) > 0
    augment = msgspec.structs.replace(config.augment, plain_epochs=0) if varied else without_resampling(config.augment)
    sizes = {Kind.TRAIN: len(splits.train)}
    work = Training(network, preprocessing, augment, config.train, sizes, config.data.balance)
    check_lone_samples(work)
    rates = wanted.rates(work.steps_per_epoch)
    there = {kind: len(part) for kind, part in by_kind(splits).items()}
    rules = partial(optim.compiled_rules, network.layout.trained)
    server = start(config.engine, work, {Kind.TRAIN: splits.train}, progress.note, stop, rules)
    try:
        stop.notice()
        progress.start(
            [*stop.notes(), *facts(config, network, there, splits.understood), *notes], len(rates), 1, len(rates)
        )
        curve = losses_by_rate(config, work, server, state, rates, progress, stop)
        return curve, server.exact
    finally:
        stop.waiting_for = "the workers to end"
        progress.close()
        server.close()


def losses_by_rate(
    config: Config,
    work: Training,
    server: Server,
    state: TrainState,
    rates: Sequence[float],
    progress: Progress,
    stopped: Callable[[], bool],
) -> Curve:
    """Return the losses at the rates, one a step from `state` on, until one is far above the lowest, or not finite.

    Raises Stopped once `stopped()`, and DivergedError when not even the first loss is finite.
    """
    epochs = -(-len(rates) // work.steps_per_epoch)
    # A bad loss, which may be skipped in the run, is what is looked for here.
    settings = msgspec.structs.replace(config.train, epochs=epochs, patience=0, on_nonfinite="stop")
    config = msgspec.structs.replace(config, train=settings, schedule=Constant())
    losses = _Losses(rates, progress)
    try:
        loop.train(config, work, server, state, losses, lambda: losses.enough or stopped(), rate_of=rates.__getitem__)
    except DivergedError:
        if not losses.found:
            raise
    if stopped():
        raise Stopped
    return Curve.of(rates, losses.found)


class _Losses:
    """The observer that keeps the loss of each step."""

    def __init__(self, rates: Sequence[float], progress: Progress) -> None:
        self.found: list[float] = []
        self._rates = rates
        self._progress = progress
        self._began = time.monotonic()

    @property
    def enough(self) -> bool:
        """True once all rates were tried, or the loss has risen so far that higher ones need not be."""
        return len(self.found) == len(self._rates) or Curve.of(self._rates, self.found).diverged

    def step_done(self, state: TrainState, sums: Sums, rate: float) -> None:  # noqa: ARG002
        """Keep the mean loss of the batch, and show progress."""
        self.found.append(sums.loss / sums.count)
        speed = state.samples / max(time.monotonic() - self._began, 1e-9)
        self._progress.step(1, state.step, self.found[-1], sums.correct / sums.count, speed)

    def step_skipped(self, state: TrainState, count: int, reason: str, rate: float) -> None:
        """Do nothing: no step is skipped here."""

    def epoch_done(self, state: TrainState, record: EpochRecord) -> None:
        """Do nothing: only steps matter here."""
