"""A whole run from its parts: data, network, state, workers, files; and the test of a finished model."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cnnpar import optim
from cnnpar.checkpoint import Payload, pack, unpack
from cnnpar.config.choices import Cosine, OneCycle, Piecewise
from cnnpar.config.resolve import to_toml
from cnnpar.config.sections import Config, Engine
from cnnpar.console import StopSignal
from cnnpar.data.augment.augmenter import check_augment, plain, plain_from
from cnnpar.data.dataset import Splits
from cnnpar.data.load import load_splits, load_test_set
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.errors import DivergedError, InputError, RunError, Stopped
from cnnpar.fingerprint import differences, fingerprint, use_one_thread
from cnnpar.nn.network import Network
from cnnpar.nn.sums import Sums
from cnnpar.nn.tables import check_statistics
from cnnpar.nn.user_layers import own_layers
from cnnpar.parallel.start import start
from cnnpar.parallel.work import Kind, Step
from cnnpar.range_test import range_test
from cnnpar.recorder import Recorder
from cnnpar.report.progress import Progress
from cnnpar.resume import Resume, check_newest, check_resumable
from cnnpar.rundir import Place, RunFiles, check_new, check_resumed, new_run, resumed_run
from cnnpar.storage.atomic import write
from cnnpar.storage.lock import locked
from cnnpar.summary import Summary, options_to_go_on, summarise
from cnnpar.training.loop import train
from cnnpar.training.lr_curve import Curve, Range
from cnnpar.training.microbatch import Training
from cnnpar.training.state import TrainState, first_state
from cnnpar.transfer import transfer
from cnnpar.version import __version__

if TYPE_CHECKING:
    from cnnpar.report.scores import Scores

_CONFIG_HEAD = b"# The settings of this run, every one spelled out, written by cnnpar.\n"


def train_run(config: Config, place: Place, resume: Resume | None, progress: Progress, stop: StopSignal) -> Summary:
    """Train, or go on training, with files and workers as configured, until the end or the stop.

    Raises InputError before anything was written when configuration, data or checkpoint do not fit; RunError when
    the run could not start, or not go on (the newest state is saved then, if it is any good).
    """
    splits, preprocessing = _data(config)
    if config.train.patience and splits.validation is None:
        raise InputError("train.patience: needs validation data to tell the best epoch by; set data.validation above 0")
    notes: list[str] = []
    if resume is None:
        network = Network.from_config(config, preprocessing.image_shape, len(preprocessing.class_names))
        state = first_state(config, network)
    else:
        network, state = unpack(resume.payload, str(resume.path))
    layers_of_users = own_layers(network.layers)
    own = {**fingerprint(), **layers_of_users}
    if resume is None:
        if config.model.init_from:
            notes += transfer(config.model.init_from, network, state).lines()
        check_new(place)
    else:
        check_resumable(resume, config, splits, own)
        if resume.payload.preprocessing != preprocessing:
            raise InputError(f"{resume.path}: $.payload.preprocessing: not that of the training data; it was changed")
        state.exact &= not differences(resume.payload.fingerprint, own)
        check_newest(resume, check_resumed(resume.path, place))
        if state.epoch < config.train.epochs and state.out_of(config.train.patience):
            notes.append(f"out of patience after epoch {state.epoch}; more train.patience goes on with it")

    data = {Kind.TRAIN: splits.train, Kind.VALIDATION: splits.validation, Kind.TEST: splits.test}
    present = {kind: part for kind, part in data.items() if part is not None}
    sizes = {kind: len(part) for kind, part in present.items()}
    work = Training(network, preprocessing, config.augment, config.train, sizes, config.data.balance)
    if resume is None:
        _check_lone_samples(work)
    expected = state.epoch * work.steps_per_epoch + state.index
    if resume and (state.step != expected or state.index > work.steps_per_epoch):
        raise InputError(
            f"{resume.path}: $.payload.state: {work.steps_per_epoch} steps an epoch make epoch {state.epoch}, "
            f"index {state.index} not step {state.step}; the file was changed"
        )
    if layers_of_users:
        _try_once(work.with_data(present), state)
    counts, data_fingerprint = _counts(splits), splits.fingerprint
    threading.Thread(target=optim.load, args=(network.layout.trained,)).start()  # while workers start
    server = start(config.engine, work, present, progress.note, stop)
    del splits, data, present  # each node holds the samples once: in Ray's store, or in the in-process worker

    def pack_state(state: TrainState) -> Payload:
        state.exact &= server.exact
        return pack(config, network, preprocessing, state, own, data_fingerprint)

    test: Sums | None = None
    try:
        stop.notice()
        files = resumed_run(resume.path, place) if resume else new_run(place)
        elsewhere = files.model if files.model.parent.resolve() != files.directory.resolve() else None
        with locked(files.directory, progress.note, elsewhere) as claim:
            _write_config(files, config, progress.note)
            progress.start(
                _headline(config, network, counts, files, resume, notes),
                config.train.epochs * work.steps_per_epoch,
                state.step,
                config.train.epochs,
                work.steps_per_epoch,
            )
            resumed = resume.payload.state if resume else None
            recorder = Recorder(config, files, progress, pack_state, resumed, stop, require=claim.require)
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
                    with suppress(Stopped), state.judged() as weights:
                        test = server.evaluate(weights, Kind.TEST).sums
            except DivergedError:
                raise
            except RunError as error:
                recorder.save(state)
                how = options_to_go_on(str(files.model), str(files.directory), place.to_path, config.engine.address)
                raise RunError(f"{error}; {how} goes on") from error
            finally:
                recorder.close(state)
    finally:
        workers = server.workers if config.engine.workers else 0
        server.close()
    return summarise(state, config.train, files, workers, test, stop.received.name if stop.received else None)


def rate_run(config: Config, wanted: Range, progress: Progress, stop: StopSignal) -> tuple[Curve, bool]:
    """A learning rate range test with the data, network and workers of a run; and whether it was exact.

    Raises InputError, RunError, or Stopped. Nothing is written.
    """
    splits, preprocessing = _data(config)
    network = Network.from_config(config, preprocessing.image_shape, len(preprocessing.class_names))
    data = {Kind.TRAIN: splits.train}
    state = first_state(config, network)
    notes = transfer(config.model.init_from, network, state).lines() if config.model.init_from else []
    sizes = {Kind.TRAIN: len(splits.train)}
    # Images as in the first epoch, however long the test.
    varied = plain_from(config.augment, config.train.epochs) > 0
    augment = msgspec.structs.replace(config.augment, plain_epochs=0) if varied else plain(config.augment)
    work = Training(network, preprocessing, augment, config.train, sizes, config.data.balance)
    _check_lone_samples(work)
    rates = wanted.rates(work.steps_per_epoch)
    server = start(config.engine, work, data, progress.note, stop)
    try:
        stop.notice()
        progress.start([*_facts(config, network, _counts(splits)), *notes], len(rates), 0, 1, len(rates))
        curve = range_test(config, network, state, rates, work.steps_per_epoch, server, progress, stop)
        return curve, server.exact
    finally:
        progress.close()
        server.close()


def evaluate_run(
    payload: Payload, source: str | None, engine: Engine, path: str, warn: Callable[[str], None]
) -> "Scores":
    """How good the model of checkpoint `path` is on the data set or file `source`; None: on its run's own.

    Raises InputError where those do not fit the model, or the run had none; RunError where its outputs are not finite.
    """
    from cnnpar.report.scores import scores  # it draws tables, which no training does

    use_one_thread()
    network, state = unpack(payload, path)
    known = payload.preprocessing
    data = (
        load_test_set(source, known.image_shape, known.class_names) if source else load_splits(payload.config.data).test
    )
    if data is None:
        raise InputError(f"{path}: the run had no test data; give --test-data PATH or --data NAME")
    if (data.image_shape, data.class_names) != (known.image_shape, known.class_names):
        raise InputError(f"{path}: its run's data have changed; give --test-data PATH or --data NAME")
    samples = {Kind.TRAIN: 0, Kind.TEST: len(data)}
    work = Training(network, payload.preprocessing, payload.config.augment, payload.config.train, samples)
    server = start(engine, work, {Kind.TEST: data}, warn, lambda: False)
    try:
        with state.judged() as weights:
            found = server.evaluate(weights, Kind.TEST)
    finally:
        server.close()
    if not math.isfinite(found.sums.loss):
        raise RunError(f"{path}: the loss of its outputs is {found.sums.loss}; its weights are too large to be judged")
    return scores(found, known.class_names)


def _data(config: Config) -> tuple[Splits, Preprocessing]:
    """The data of a run, and this process ready to compute. Raises InputError where they are not as they must be."""
    use_one_thread()
    splits = load_splits(config.data)
    preprocessing = Preprocessing.of(splits.train)
    check_augment(config.augment, preprocessing.image_shape)
    return splits, preprocessing


def _check_lone_samples(work: Training) -> None:
    """Raises InputError where a microbatch of the run would have no variance to normalise by."""
    if work.smallest_microbatch == 1:
        network = work.network
        check_statistics(network.layers, network.input_shape, network.layout.frozen)


def _try_once(work: Training, state: TrainState) -> None:
    """One gradient here: a fault of a user's layer has its traceback at once, instead of costing all workers."""
    first = Step(Kind.TRAIN, 0, 0)
    work.compute(first, 0, work.prepare(first, 0), state.parameters, np.empty_like(state.parameters))


def _counts(splits: Splits) -> str:
    """How many samples there are, for people."""
    counts = [f"{len(splits.train):,} training"]
    counts += [
        f"{len(part):,} {what}" for what, part in (("validation", splits.validation), ("test", splits.test)) if part
    ]
    return ", ".join(counts)


def _facts(config: Config, network: Network, counts: str) -> list[str]:
    """What is computed, and where, in two lines."""
    engine = config.engine
    where = "in this process"
    if engine.most:
        count = str(engine.most) if engine.fewest == engine.most else f"{engine.fewest} to {engine.most}"
        where = f"{count} worker{'s' * (engine.most > 1)}, {engine.transport} transport"
    return [
        f"cnnpar {__version__}: {config.data.name or config.data.train}, {counts} images",
        f"{network.layout.trained:,} parameters{_frozen(network)}, batches of {config.train.batch_size}, {where}",
    ]


def _headline(
    config: Config, network: Network, counts: str, files: RunFiles, resume: Resume | None, more: Sequence[str] = ()
) -> list[str]:
    """The lines a run begins with."""
    lines = [*_facts(config, network, counts), f"run directory {files.directory}"]
    if resume is not None:
        state = resume.payload.state
        if resume.instead:
            lines.append(f"{resume.instead}; going on from the one before")
        lines.append(f"resumed from {resume.path} after {state.epoch} epochs, step {state.step:,}")
        beside = resume.path.resolve().parent == files.directory.resolve()
        if beside and resume.path.resolve() not in files.checkpoints:
            lines.append(f"its newest checkpoint will be {files.model}; --to-path puts it elsewhere")
        epochs, before = config.train.epochs, resume.payload.config.train.epochs
        if moved := [*_moved(config, before)]:
            lines.append(
                f"train.epochs was {before} and is now {epochs}, which moves {' and '.join(moved)}: other weights than "
                f"with {epochs} from the start"
            )
        if state.epoch >= config.train.epochs:
            lines.append(f"all {config.train.epochs} epochs are done; more --epochs go on with it")
    return [*lines, *more]


def _moved(config: Config, epochs: int) -> Iterator[str]:
    """What comes at another time than in a run of so many epochs."""
    augment, now = config.augment, config.train.epochs
    if epochs != now and isinstance(config.schedule, Cosine | OneCycle | Piecewise):
        yield "the schedule"
    if augment.plain_epochs and plain_from(augment, epochs) != plain_from(augment, now):
        yield "augment.plain_epochs"


def _frozen(network: Network) -> str:
    """How many of the parameters are, for people, if there are any."""
    layout = network.layout
    count = layout.trained - sum(part.stop - part.start for part, _ in layout.learning)
    return f", {count:,} of them frozen" if count else ""


def _write_config(files: RunFiles, config: Config, warn: Callable[[str], None]) -> None:
    """Write the settings as resolved, but not over a file of the user's that happens to have that name."""
    try:
        if not files.config.exists() or files.config.read_bytes().startswith(_CONFIG_HEAD):
            write(files.config, _CONFIG_HEAD + to_toml(config).encode())
        else:
            warn(f"{files.config}: is not of a run, and stays as it is")
    except OSError as error:
        warn(f"{files.config}: cannot write: {error.strerror or error}")
