"""Cross-validate: a run for each fold of the training data, one after another, each in a directory of its own.

The run of fold 2 of 5 is that of `cnnpar-train --set data.fold=2/5`, and has its digest.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from cnnpar.config import Config
from cnnpar.errors import InputError
from cnnpar.report.cross_validation import CrossValidation, Fold
from cnnpar.report.progress import Progress
from cnnpar.run.prepare import Run, prepare
from cnnpar.run.resume import Resume, find
from cnnpar.run.stop import StopSignal
from cnnpar.run.train import train_run
from cnnpar.storage.lock import METRICS, MODEL
from cnnpar.storage.rundir import Place, exists, new_run
from cnnpar.training.state import TrainState


def cross_validate(
    config: Config,
    folds: int,
    place: Place,
    resumed: Resume | None,
    progress: Callable[[], Progress],
    *,
    go_on: bool,
) -> CrossValidation:
    """Train a network for each of so many folds, until the end or until a signal stops the run of one of them.

    `place.run_dir` gets a directory for each fold; None: `runs/<name>-cv-<n>`. Where it shall `go_on`, folds that are
    finished there stay as they are, and one that has begun goes on. `resumed`: the checkpoint of the first fold, if
    it has been read. `progress` returns the report of a fold's run. Raises InputError or RunError.
    """
    for source in (config.data.train, config.data.test):
        if source and Path(source).is_fifo():
            raise InputError(f"{source}: is a pipe, and each fold reads the data anew; write them to a file")
    directory = place.run_dir
    if directory is not None and not go_on:
        _check_new(directory)
    done: list[Fold] = []
    stopped_by: str | None = None
    for part in range(1, folds + 1):
        data = replace(config.data, fold=f"{part}/{folds}")
        with StopSignal() as stop:
            report = progress()
            own = replace(config, data=data)
            run = _prepared(own, directory, place, resumed if part == 1 else None, report.note, go_on=go_on)
            assert run.place.run_dir is not None
            directory, resumed = run.place.run_dir.parent, None
            if run.origin is not None and run.state.has_ended(config.train):
                report.note(f"fold {data.fold} is finished in {run.place.run_dir}")
            else:
                report.note(f"fold {data.fold}")
                stopped_by = train_run(run, report, stop).stopped_by
        done.append(_result(data.fold, run.state, run.place.run_dir))
        del run  # its samples need not stay in memory beside the next fold's
        if stopped_by is not None:
            break
    return CrossValidation.of(done, str(directory), stopped_by)


def first_fold(directory: Path) -> Resume | None:
    """Return the newest checkpoint of the first fold in a directory; None if there is none.

    Raises InputError where it is not of a cross-validation, or cannot be read.
    """
    found = find("auto", directory / "fold-1", None)
    if found is not None and found.payload.config.data.part[1] == 1:
        raise InputError(f"{found.path}: is of a run without data.fold; choose another --run-dir")
    return found


def _check_new(directory: Path) -> None:
    """Raise InputError if a directory holds folds."""
    for fold in directory.glob("fold-*"):
        if exists(fold / MODEL) or exists(fold / METRICS):
            raise InputError(
                f"{directory}: holds folds already; --resume goes on with them, another --run-dir starts anew"
            )


def _prepared(
    config: Config,
    directory: Path | None,
    place: Place,
    resumed: Resume | None,
    note: Callable[[str], None],
    *,
    go_on: bool,
) -> Run:
    """Prepare the run of a fold; without a directory one is made once the run is known to be possible."""
    name = f"fold-{config.data.part[0]}"
    if directory is None:
        run = prepare(config, Place(name=name), None, note=note)
        made = new_run(Place(name=f"{place.name}-cv")).directory
        return dataclasses.replace(run, place=Place(made / name))
    own = Place(directory / name)
    if go_on and resumed is None:
        resumed = find("auto", own.run_dir, None)
    if resumed is not None and (was := resumed.payload.config.data.fold) != config.data.fold:
        raise InputError(f"{resumed.path}: is of fold {was or 'none'}, not {config.data.fold}; give another --run-dir")
    return prepare(config, own, resumed, note=note)


def _result(fold: str, state: TrainState, directory: Path) -> Fold:
    """Return the result of a fold's run."""
    best, last = state.best, state.history[-1] if state.history else None
    return Fold(
        fold=fold,
        epochs=state.epoch,
        validation_accuracy=last.validation_accuracy if last else None,
        best_validation_accuracy=best.validation_accuracy if best else None,
        best_epoch=best.epoch if best else None,
        weights_sha256=state.digest,
        exact=state.exact,
        run_dir=str(directory),
    )
