"""The commands: options to settings, wiring, exit codes.

`cnnpar train|test|inspect|lr-find`; `cnnpar-train` is `cnnpar train`, `cnnpar-test` is `cnnpar test`. Heavy modules are
imported by the command that needs them, so that `--help` answers at once.
"""

import signal
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from cyclopts.validators import Number

from cnnpar.cli.console import end, say, say_json
from cnnpar.cli.cv import cv
from cnnpar.cli.options import (
    LR_FIND_DEFAULTS,
    TRAIN_DEFAULTS,
    Assignments,
    ConfigFile,
    Debug,
    Json,
    LrFindOptions,
    TrainOptions,
    Whole,
    check_data,
    chosen,
    option,
    resolve_options,
)
from cnnpar.config.data import DATA_NAMES
from cnnpar.config.sections import MOST_WORKERS
from cnnpar.errors import InputError, Stopped, reason, reason_of_any
from cnnpar.run.stop import StopSignal
from cnnpar.training.lr_curve import Range
from cnnpar.version import __version__


def train(
    *,
    config: ConfigFile = None,
    options: TrainOptions = TRAIN_DEFAULTS,
    run_dir: Annotated[Path | None, option("Folder for the run's files (default: runs/NAME-N).")] = None,
    to_path: Annotated[Path | None, option("File for the newest checkpoint, instead of model.json there.")] = None,
    resume: Annotated[
        str | None,
        option("Go on from a checkpoint: FILE, DIR, nothing for --run-dir or the newest run; auto: if there is one."),
    ] = None,
    set_: Assignments = (),
    quiet: Annotated[bool, option("Show nothing but errors.")] = False,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001  # looked for by `console.run`
) -> int:
    """Train a network; without options on the embedded digits, for a few seconds.

    The weights depend on settings and data alone, not on the workers.
    Stopped with Ctrl-C, or killed, a run goes on with --resume as if nothing
    had happened.
    """
    check_data(options.data, train_data=options.train_data, test_data=options.test_data)
    if options.test_data is not None and options.train_data is None and config is None and resume is None:
        raise InputError("--test-data goes with --train-data; the known data sets have their own test data")
    if resume == "auto":
        run_dir = run_dir or (to_path.parent if to_path else None)
        if run_dir is None:
            raise InputError("--resume auto: say where to look and where to begin, with --run-dir or --to-path")
    from cnnpar.report.progress import Progress
    from cnnpar.run.resume import find
    from cnnpar.storage.rundir import Place

    resumed = find(resume, run_dir, to_path) if resume is not None else None
    resolved = resolve_options(config, resumed, chosen(options), set_)
    from cnnpar.run.prepare import prepare
    from cnnpar.run.summary import UnsavedError, as_text
    from cnnpar.run.train import train_run

    stream = sys.stderr if json else sys.stdout
    name = config.stem if config else resolved.data.title
    place = Place(run_dir, to_path, name)
    with StopSignal() as stop:
        run = prepare(resolved, place, resumed)
        del resumed  # its arrays need not stay in memory
        unsaved: UnsavedError | None = None
        try:
            summary = train_run(run, Progress("quiet" if quiet else "auto", stream), stop)
        except UnsavedError as error:
            unsaved, summary = error, error.summary
        if not quiet:
            say(as_text(summary, to_path, resolved.engine, saved=unsaved is None), stream)
        if json:
            say_json(summary)
        if unsaved:
            raise unsaved
    return 0 if summary.stopped_by is None else 128 + signal.Signals[summary.stopped_by]


def evaluate(
    *,
    from_path: Annotated[Path, option("The checkpoint: a model.json, or the run's directory.")],
    test_data: Annotated[
        Path | None, option("Test data (default: those of the run): .csv[.gz], IDX, .npz, folders.")
    ] = None,
    data: Annotated[str | None, option("A known data set: digits or mnist.")] = None,
    workers: Annotated[
        Whole, Parameter(validator=Number(gte=0, lte=MOST_WORKERS)), option("Ray workers; 0: none, without Ray.")
    ] = 0,
    by_class: Annotated[bool, option("Show precision, recall and confusion of each class.")] = False,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> int:
    """Test the model of a checkpoint; the file alone is enough."""
    check_data(data, test_data=test_data)
    if data is not None and data not in DATA_NAMES:
        raise InputError(f"--data {data}: no known data set; there are {', '.join(DATA_NAMES)}")
    from cnnpar.run.resume import settings_of
    from cnnpar.storage.checkpoint import read
    from cnnpar.storage.rundir import newest_in

    path = newest_in(from_path)
    payload = read(path)
    config = settings_of(payload)
    trained_on = config.data
    source = _as_path(test_data) if test_data else data or trained_on.name or trained_on.test or None
    engine = msgspec.structs.replace(config.engine, workers=workers, min_workers=0)
    from cnnpar.report.scores import as_text
    from cnnpar.run.evaluate import evaluate as evaluate_model

    found = evaluate_model(payload, source, engine, str(path), lambda text: say(text, sys.stderr))
    if json:
        say_json(found)
    else:
        say(as_text(found, by_class), sys.stdout)
    return 0


def inspect(
    file: Annotated[Path, Parameter(help="A checkpoint, a run's directory, or settings (.toml).")],
    /,
    *,
    shape: Annotated[str | None, option("H,W,C of the images that settings are for (default: those of data).")] = None,
    classes: Annotated[Whole | None, Parameter(validator=Number(gte=1)), option("Number of their classes.")] = None,
    set_: Assignments = (),
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> int:
    """Show what a checkpoint holds: position, accuracy, network, digest of the weights.

    Of settings: the network that they describe.
    """
    if file.suffix == ".toml":
        from cnnpar.report.inspection import outline, outline_facts, outlined

        network = outlined(resolve_options(file, None, (), set_), shape, classes)
        if json:
            say_json(outline_facts(network))
        else:
            say(outline(network), sys.stdout)
        return 0
    if shape or classes or set_:
        raise InputError(f"{file}: --shape, --classes and --set are for settings, which are a .toml file")
    from cnnpar.report.inspection import describe, facts
    from cnnpar.storage.checkpoint import read
    from cnnpar.storage.packing import unpack
    from cnnpar.storage.rundir import newest_in

    path = newest_in(file)
    payload = read(path)
    network, state = unpack(payload, str(path))
    if json:
        say_json(facts(payload, network, state))
    else:
        say(describe(payload, network, state), sys.stdout)
    return 0


def lr_find(
    *,
    config: ConfigFile = None,
    options: LrFindOptions = LR_FIND_DEFAULTS,
    from_: Annotated[float, option("The first learning rate (default: 1e-6).", "--from")] = 1e-6,
    to: Annotated[float, option("The last one (default: 10).", "--to")] = 10.0,
    steps: Annotated[Whole | None, option("How many (default: as in an epoch, but 50 to 200).")] = None,
    picture: Annotated[Path, option("File for the picture (default: lr-find.png).")] = Path("lr-find.png"),
    set_: Assignments = (),
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> int:
    """Find a learning rate: raise it from step to step, and watch the loss.

    The steps are those of `cnnpar train`; the weights are forgotten, and
    nothing but the picture is written.
    """
    _check_picture(picture)
    check_data(options.data, train_data=options.train_data)
    wanted = Range(from_, to, steps)
    resolved = resolve_options(config, None, chosen(options), set_)
    from cnnpar.report.lr_find import as_text, draw_curve, facts
    from cnnpar.report.progress import Progress
    from cnnpar.run.lr_find import lr_find as find

    stream = sys.stderr if json else sys.stdout
    with StopSignal() as stop:
        try:
            curve, exact = find(resolved, wanted, Progress("auto", stream), stop)
        except Stopped:
            assert stop.received is not None, "nothing else stops the finder"
            say(f"stopped by {stop.received.name}; nothing was written", stream)
            return 128 + stop.received
    say(as_text(curve), stream)
    drawn: Path | None = picture
    try:
        draw_curve(curve, picture, f"Learning-rate finder of {config.stem if config else resolved.data.title}")
        say(f"drawn as {picture}", stream)
    except Exception as error:  # a broken font of matplotlib must not cost the result either
        drawn = None
        say(f"{picture}: cannot draw the picture: {reason_of_any(error)}", sys.stderr)
    if json:
        say_json(facts(curve, exact, drawn))
    return 0


app = App(
    name="cnnpar",
    version=__version__,
    help="Trains convolutional networks in plain numpy on Ray: the same bits on any number of workers.",
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
app.command(train)
app.command(evaluate, name="test")
app.command(inspect)
app.command(lr_find)
app.command(cv)
train_app = App(name="cnnpar-train", version=__version__, help_format="plaintext", suppress_keyboard_interrupt=False)
train_app.default(train)
test_app = App(name="cnnpar-test", version=__version__, help_format="plaintext", suppress_keyboard_interrupt=False)
test_app.default(evaluate)


def main() -> None:
    """Run `cnnpar`, with all its commands."""
    end(app)


def main_train() -> None:
    """Run `cnnpar-train`, which is `cnnpar train`."""
    end(train_app)


def main_test() -> None:
    """Run `cnnpar-test`, which is `cnnpar test`."""
    end(test_app)


def _check_picture(picture: Path) -> None:
    """Raise InputError where the picture could not be written."""
    if picture.suffix != ".png" or picture.is_dir() or not picture.parent.is_dir():
        raise InputError(f"--picture {picture}: expected FILE.png in a folder that is there")
    try:
        TemporaryFile(dir=picture.parent).close()  # has no name where the system can do without
    except OSError as error:
        raise InputError(f"--picture {picture}: cannot write in its folder: {reason(error)}") from error


def _as_path(path: Path) -> str:
    """Return the path as text that is not mistaken for the name of a data set."""
    return f"./{path}" if str(path) in DATA_NAMES else str(path)
