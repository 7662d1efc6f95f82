"""Train a prepared run in memory: no directory, no files, no progress. The weights are those of any other run."""

from functools import partial

from cnnpar import optim
from cnnpar.nn.sums import Sums
from cnnpar.parallel.start import start
from cnnpar.run.prepare import Run
from cnnpar.run.stop import StopSignal
from cnnpar.storage.checkpoint import Payload
from cnnpar.storage.packing import pack
from cnnpar.training import loop
from cnnpar.training.state import EpochRecord, TrainState


def train_in_memory(run: Run) -> Payload:
    """Train until the end, and return the checkpoint of the last step.

    Signals do what they do elsewhere: Ctrl-C raises KeyboardInterrupt, and nothing is kept. Raises InputError or
    RunError as `cnnpar.run.train.train_run`.
    """
    stop = StopSignal()  # which takes no notice of signals
    rules = partial(optim.compiled_rules, run.network.layout.trained)
    server = start(run.config.engine, run.work, run.data, _not_told, stop, rules)
    run.data.clear()
    try:
        loop.train(run.config, run.work, server, run.state, _Unobserved(), stop)
        run.state.exact &= server.exact
    finally:
        server.close()
    return pack(run.config, run.network, run.preprocessing, run.state, run.fingerprint, run.data_fingerprint)


def _not_told(text: str) -> None:
    """Leave out what people are told about workers."""


class _Unobserved:
    """The observer that does nothing."""

    def step_done(self, state: TrainState, sums: Sums, rate: float) -> None:
        """Do nothing."""

    def step_skipped(self, state: TrainState, count: int, reason: str, rate: float) -> None:
        """Do nothing."""

    def epoch_done(self, state: TrainState, record: EpochRecord) -> None:
        """Do nothing."""
