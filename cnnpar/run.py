"""A whole run from its parts: data, network, state, workers, files; and the test of a finished model."""

import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from cnnpar import __version__, optim
from cnnpar.checkpoint import Payload, pack, unpack
from cnnpar.config import Config, Cosine, Engine, OneCycle, to_toml
from cnnpar.data.dataset import Splits
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.data.sources import load, load_for_test
from cnnpar.errors import DivergedError, InputError, RunError, Stopped
from cnnpar.nn.network import Network, Sums
from cnnpar.parallel.fingerprint import fingerprint, use_one_thread
from cnnpar.parallel.start import start
from cnnpar.parallel.work import Kind, Training
from cnnpar.recorder import Recorder
from cnnpar.report.progress import Progress
from cnnpar.resume import Resume, check_resumable
from cnnpar.rundir import RunFiles, check_new, check_resumed, locked, new_run, resumed_run
from cnnpar.state import TrainState
from cnnpar.training import train


class Summary(msgspec.Struct, frozen=True):
    """What a run has come to; accuracies in 0..1, `seconds` of training in all, resumed parts included."""

    epochs: int
    steps: int
    samples: int
    train_loss: float | None
    validation_accuracy: float | None
    best_validation_accuracy: float | None
    best_epoch: int | None
    test_accuracy: float | None
    weights_sha256: str
    exact: bool
    workers: int
    seconds: float
    samples_per_second: float
    run_dir: str
    checkpoint: str
    stopped_by: str | None = None


class StopSignal:
    """Notices SIGINT and SIGTERM, so that the loop can finish its step and save."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        """Whether one has come."""
        return self.received is not None

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _notice(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.received = signal.Signals(number)


def train_run(
    config: Config,
    name: str,
    run_dir: Path | None,
    to_path: Path | None,
    resume: Resume | None,
    progress: Progress,
) -> Summary:
    """Train, or go on training, with files and workers as configured.

    Raises InputError before anything was written when configuration, data or checkpoint do not fit; RunError when
    the run could not start, or not go on (the newest state is saved then, if it is any good).
    """
    use_one_thread()
    splits = load(config.data)
    preprocessing = Preprocessing.of(splits.train)
    own = fingerprint()
    if resume is None:
        network = Network.from_tables(config.model.layers, preprocessing.image_shape, len(preprocessing.class_names))
        parameters = network.init(config.train.seed)
        state = TrainState(parameters, optim.init(config.optimizer, network.layout.size))
        check_new(run_dir, to_path)
    else:
        network, state = unpack(resume.payload, str(resume.path))
        check_resumable(resume, config, splits, own)
        state.exact &= own == resume.payload.fingerprint
        check_resumed(resume.path, run_dir, to_path)

    data = {Kind.TRAIN: splits.train, Kind.VALIDATION: splits.validation, Kind.TEST: splits.test}
    present = {kind: part for kind, part in data.items() if part is not None}
    work = Training(
        network, preprocessing, config.augment, config.train, {kind: len(part) for kind, part in present.items()}
    )
    expected = state.epoch * work.steps_per_epoch + state.index
    if resume and (state.step != expected or state.index > work.steps_per_epoch):
        raise InputError(
            f"{resume.path}: $.payload.state: {work.steps_per_epoch} steps an epoch make epoch {state.epoch}, "
            f"index {state.index} not step {state.step}; the file was changed"
        )
    counts, data_fingerprint = _counts(splits), splits.fingerprint
    stop = StopSignal()
    server, exact = start(config.engine, work, present, progress.note, stop)
    state.exact &= exact
    del splits, data, present  # each node holds the samples once: in Ray's store, or in the in-process worker

    def pack_state(state: TrainState) -> Payload:
        return pack(config, network, preprocessing, state, own, data_fingerprint)

    test: Sums | None = None
    try:
        files = resumed_run(resume.path, run_dir, to_path) if resume else new_run(run_dir, to_path, name)
        with locked(files.directory), stop:
            _write_config(files, config, progress.note)
            progress.start(
                _headline(config, network, counts, files, resume),
                config.train.epochs * work.steps_per_epoch,
                state.step,
                config.train.epochs,
                work.steps_per_epoch,
            )
            recorder = Recorder(config, files, progress, pack_state, resume.payload.state if resume else None)
            try:
                with suppress(Stopped):
                    train(
                        config,
                        network,
                        work.steps_per_epoch,
                        Kind.VALIDATION in work.samples,
                        server,
                        state,
                        recorder,
                        stop,
                    )
                recorder.save(state)
                if not stop() and Kind.TEST in work.samples:
                    with suppress(Stopped):
                        test = server.evaluate(state.parameters, Kind.TEST)
            except DivergedError:
                raise
            except RunError:
                recorder.save(state)
                raise
            finally:
                recorder.close(state)
    finally:
        workers = server.workers if config.engine.workers else 0
        server.close()
    return _summary(state, files, workers, test, stop.received)


def evaluate_run(payload: Payload, source: str | None, engine: Engine, path: str, warn: Callable[[str], None]) -> Sums:
    """Loss, hits and count of the model of checkpoint `path` on the data set or file `source`; None: on its run's own.

    Raises InputError where those do not fit the model, or the run had none.
    """
    use_one_thread()
    network, state = unpack(payload, path)
    known = payload.preprocessing
    data = load_for_test(source, known.image_shape, known.class_names) if source else load(payload.config.data).test
    if data is None:
        raise InputError(f"{path}: the run had no test data; give --test-data PATH or --data NAME")
    if (data.image_shape, data.class_names) != (known.image_shape, known.class_names):
        raise InputError(f"{path}: its run's data have changed; give --test-data PATH or --data NAME")
    samples = {Kind.TRAIN: 0, Kind.TEST: len(data)}
    work = Training(network, payload.preprocessing, payload.config.augment, payload.config.train, samples)
    server, _ = start(engine, work, {Kind.TEST: data}, warn, lambda: False)
    try:
        return server.evaluate(state.parameters, Kind.TEST)
    finally:
        server.close()


def _counts(splits: Splits) -> str:
    """How many samples there are, for people."""
    counts = [f"{len(splits.train):,} training"]
    counts += [
        f"{len(part):,} {what}" for what, part in (("validation", splits.validation), ("test", splits.test)) if part
    ]
    return ", ".join(counts)


def _headline(config: Config, network: Network, counts: str, files: RunFiles, resume: Resume | None) -> list[str]:
    """The lines a run begins with."""
    where = (
        f"{config.engine.workers} worker{'s' * (config.engine.workers > 1)}, {config.engine.transport} transport"
        if config.engine.workers
        else "in this process"
    )
    lines = [
        f"cnnpar {__version__}: {config.data.name or config.data.train}, {counts} images",
        f"{network.layout.size:,} parameters, batches of {config.train.batch_size}, {where}",
        f"run directory {files.directory}",
    ]
    if resume is not None:
        state = resume.payload.state
        lines.append(f"resumed from {resume.path} after {state.epoch} epochs, step {state.step:,}")
        if config.train.epochs != resume.payload.config.train.epochs and isinstance(config.schedule, Cosine | OneCycle):
            lines.append("other epochs stretch its schedule: other weights than with these epochs from the start")
        if state.epoch >= config.train.epochs:
            lines.append(f"all {config.train.epochs} epochs are done; more --epochs go on with it")
    return lines


def _write_config(files: RunFiles, config: Config, warn: Callable[[str], None]) -> None:
    try:
        files.config.write_text(to_toml(config), encoding="utf-8")
    except OSError as error:
        warn(f"{files.config}: cannot write: {error.strerror or error}")


def _summary(
    state: TrainState, files: RunFiles, workers: int, test: Sums | None, stopped: signal.Signals | None
) -> Summary:
    last = state.history[-1] if state.history else None
    return Summary(
        epochs=state.epoch,
        steps=state.step,
        samples=state.samples,
        train_loss=last.train_loss if last else None,
        validation_accuracy=last.validation_accuracy if last else None,
        best_validation_accuracy=state.best.validation_accuracy if state.best else None,
        best_epoch=state.best.epoch if state.best else None,
        test_accuracy=test.correct / test.count if test else None,
        weights_sha256=state.digest,
        exact=state.exact,
        workers=workers,
        seconds=round(state.seconds, 3),
        samples_per_second=round(state.samples / max(state.seconds, 1e-9), 1),
        run_dir=str(files.directory),
        checkpoint=str(files.model),
        stopped_by=stopped.name if stopped else None,
    )
