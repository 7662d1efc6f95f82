"""`cnnpar cv`: k-fold cross-validation."""

import signal
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from cnnpar.cli.console import say, say_json
from cnnpar.cli.options import (
    DATA,
    FILES,
    OUTPUT,
    TRAIN_DEFAULTS,
    Assignments,
    ConfigFile,
    DataWords,
    Debug,
    Json,
    Place,
    TrainOptions,
    Whole,
    option,
)
from cnnpar.cli.settings import chosen, resolve_options, take_words
from cnnpar.errors import InputError
from cnnpar.files import expanded

_FOLDS, _MOST_FOLDS = 5, 9999  # by default, and what `data.fold` takes


def cv(
    *paths: DataWords,
    config: ConfigFile = None,
    options: TrainOptions = TRAIN_DEFAULTS,
    folds: Annotated[
        Whole | None, Parameter(validator=Number(gte=2, lte=_MOST_FOLDS)), option("How many folds (default: 5).", DATA)
    ] = None,
    set_: Assignments = (),
    run_dir: Annotated[Place | None, option("Folder for the folds' runs (default: runs/NAME-cv-N).", FILES)] = None,
    resume: Annotated[
        str | None, option("Go on with the folds in DIR, or in --run-dir; auto: if there are any in --run-dir.", FILES)
    ] = None,
    quiet: Annotated[bool, option("Show nothing but errors.", OUTPUT)] = False,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001  # looked for by `console.run`
) -> int:
    """Cross-validate: train once for each fold of the training data, and validate on that fold.

    Each fold's weights are those of `cnnpar train --set data.fold=2/5`.
    Stopped with Ctrl-C, or killed, it goes on with --resume: finished folds
    are kept.
    """
    config, options = take_words(paths, config, options, resume)
    if resume is not None and run_dir is None and resume not in ("", "auto"):
        run_dir = Path(expanded(resume))
    if resume is not None and run_dir is None:
        raise InputError("--resume: say where the folds are, with --resume DIR or --run-dir DIR")
    if resume not in (None, "", "auto", str(run_dir)):
        raise InputError(f"--resume {resume} and --run-dir {run_dir}: the folds go on where they are; give one of them")
    from cnnpar.report.cross_validation import as_text
    from cnnpar.report.progress import Progress
    from cnnpar.run.cross_validation import cross_validate, first_fold
    from cnnpar.run.summary import options_to_go_on
    from cnnpar.storage.rundir import Place

    resumed = first_fold(run_dir) if resume is not None and run_dir is not None else None
    if resume not in (None, "auto") and resumed is None:
        raise InputError(f"--resume: no fold has begun in {run_dir}; name the folder that has the folder fold-1")
    resolved = resolve_options(config, resumed, chosen(options), set_)
    begun = resumed.payload.config.data if resumed else None
    if resolved.data.fold not in ("", begun.fold if begun and config is None else ""):
        raise InputError(f"data.fold = {resolved.data.fold!r}: cnnpar cv sets it for each fold; leave it out")
    count = folds or (begun.part[1] if begun else _FOLDS)
    stream = sys.stderr if json else sys.stdout
    place = Place(run_dir, name=config.stem if config else resolved.data.title)
    progress = partial(Progress, "quiet" if quiet else "auto", stream)
    found = cross_validate(resolved, count, place, resumed, progress, go_on=resume is not None)
    if not quiet:
        say(as_text(found, progress().width), stream)
        if found.stopped_by is not None:
            how = options_to_go_on(found.run_dir, found.run_dir, None, resolved.engine)
            say(f"stopped by {found.stopped_by}; go on with\n  cnnpar cv {how}", stream)
    if json:
        say_json(found)
    return 0 if found.stopped_by is None else 128 + signal.Signals[found.stopped_by]
