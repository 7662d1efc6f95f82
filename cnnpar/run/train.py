"""Train a prepared run, with workers and files as configured, until its end or until it is stopped."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from cnnpar import optim
from cnnpar.config import Config
from cnnpar.config.resolve import to_toml
from cnnpar.errors import DivergedError, RunError, Stopped, reason
from cnnpar.fingerprint import differences
from cnnpar.nn.sums import Sums
from cnnpar.parallel.server import Server
from cnnpar.parallel.start import start
from cnnpar.parallel.work import Kind
from cnnpar.report.announced import announced
from cnnpar.report.progress import Progress
from cnnpar.run.first_epoch import FirstEpoch
from cnnpar.run.headline import headline
from cnnpar.run.prepare import Run
from cnnpar.run.recorder import Recorder, begin_saving
from cnnpar.run.stop import StopSignal
from cnnpar.run.summary import Summary, UnsavedError, options_to_go_on, summarise
from cnnpar.storage.atomic import may_replace, write
from cnnpar.storage.checkpoint import Payload
from cnnpar.storage.lock import DirectoryLock, locked
from cnnpar.storage.packing import pack
from cnnpar.storage.rundir import CONFIG_HEAD, RunFiles, new_run, resumed_run
from cnnpar.training import loop
from cnnpar.training.state import TrainState


def train_run(run: Run, progress: Progress, stop: StopSignal) -> Summary:
    """Train, or go on training, until the end or the stop, and test the model that has come of it.

    Raises RunError when the run could not start, or not go on (the newest state is saved then, if it is any good);
    UnsavedError when its newest state could not be saved.
    """
    config = run.config
    rules = partial(optim.compiled_rules, run.network.layout.trained)
    server = start(config.engine, run.work, run.data, progress.note, stop, rules)
    run.data.clear()  # they are in shared memory now, or with the in-process worker
    try:
        stop.notice()
        files = _files(run)
        elsewhere = files.model if files.model.parent.resolve() != files.directory.resolve() else None
        with locked(files.directory, progress.note, elsewhere, run.state.run_id) as claim:
            packed, folder_of = _packing(run, server), claim.folder_of
            saver = begin_saving(files, run.state, packed, run.origin, progress.note, folder_of)
            _write_config(files.config, folder_of(files.config), config, run.state.run_id, progress.note)
            steps, epochs = run.work.steps_per_epoch, config.train.epochs
            progress.start([*stop.notes(), *headline(run, files)], epochs * steps, epochs, steps)
            first = FirstEpoch(config, run.network.layout, run.state.parameters) if run.state.step == 0 else None
            recorder = Recorder(
                config,
                files,
                progress,
                packed,
                saver,
                run.origin,
                stop,
                folder_of=folder_of,
                place_of=claim.place_of,
                first=first,
            )
            try:
                test = _train_and_test(run, server, recorder, stop)
            except BaseException as error:
                may_go_on = isinstance(error, RunError) and not isinstance(error, DivergedError)
                if may_go_on:
                    recorder.save(run.state)
                if unsaved := _close(recorder, run.state, stop):
                    progress.note(unsaved)
                if not may_go_on:
                    raise
                there = _where(files, claim)
                how = options_to_go_on(str(there.model), str(there.directory), run.place.to_path, config.engine)
                raise RunError(f"{error}; {how} goes on") from error
            unsaved = _close(recorder, run.state, stop)
            files = _where(files, claim)
    finally:
        stop.waiting_for = "the workers to end"
        workers = server.workers if config.engine.workers else 0
        with announced(progress.note, "ending the workers"):
            server.close()
    stopped_by = stop.received.name if stop.received else None
    summary = summarise(run.state, config.train, files, workers, test, stopped_by, [*run.doubts, *run.notes])
    if unsaved:
        raise UnsavedError(unsaved, summary)
    return summary


def _files(run: Run) -> RunFiles:
    """Return the files of a run, and make its folders. Raises InputError where it would overwrite another run."""
    if run.origin is None or run.origin.begins_at(run.place):
        return new_run(run.place)
    return resumed_run(run.origin.path, run.place, run.state.run_id)


def _packing(run: Run, server: Server) -> Callable[[TrainState], Payload]:
    """Return the function that copies a state of the run into the payload of a checkpoint.

    Until a step has been computed, it says of the state what the checkpoint said that the run was resumed from; only
    the form of the file may be another.
    """
    origin = run.origin
    alike = origin is None or not differences(origin.fingerprint, run.fingerprint)

    def packed(state: TrainState) -> Payload:
        config: Config = run.config
        fingerprint: Mapping[str, str] = run.fingerprint
        if origin is not None and state.step == origin.position.step:
            config, fingerprint = replace(origin.config, checkpoint=config.checkpoint), origin.fingerprint
        else:
            state.exact &= server.exact and alike
        return pack(config, run.network, run.preprocessing, state, fingerprint, run.data_fingerprint)

    return packed


def _train_and_test(run: Run, server: Server, recorder: Recorder, stop: StopSignal) -> Sums | None:
    """Train, save, and return the sums over the test data; None where there are none, or the run was stopped."""
    with suppress(Stopped):
        loop.train(run.config, run.work, server, run.state, recorder, stop)
    stop.waiting_for = "the newest checkpoint to be written"
    recorder.save(run.state)
    if not stop() and Kind.TEST in run.work.samples:
        with suppress(Stopped), run.state.evaluation_weights() as weights:
            return server.evaluate(weights, Kind.TEST).sums
    return None


def _close(recorder: Recorder, state: TrainState, stop: StopSignal) -> str:
    """Finish the files of a run; return what could not be saved, and why, in a line, or an empty text."""
    stop.waiting_for = "the newest checkpoint to be written"
    try:
        recorder.close(state)
    except RunError as error:
        return str(error)
    return ""


def _where(files: RunFiles, claim: DirectoryLock) -> RunFiles:
    """Return the files of a run where they are at its end: somebody may have moved its folders."""
    return RunFiles(claim.place_of(files.config).parent, claim.place_of(files.model))


def _write_config(path: Path, folder: int, config: Config, run_id: str, warn: Callable[[str], None]) -> None:
    """Write the settings as resolved, but not over a file of the user's that happens to have that name."""
    try:
        if may_replace(path, CONFIG_HEAD, len(CONFIG_HEAD), folder):
            head = CONFIG_HEAD + f"# run id: {run_id}\n".encode()
            write(path, head + to_toml(config).encode(), folder=folder)
        else:
            warn(f"{path}: is not of a run, and stays as it is")
    except OSError as error:
        warn(f"{path}: cannot write: {reason(error)}")
