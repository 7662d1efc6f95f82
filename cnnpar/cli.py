"""The commands: options to settings, wiring, exit codes.

`cnnpar train|test|inspect`; `cnnpar-train` is `cnnpar train`, `cnnpar-test` is `cnnpar test`. Heavy modules are
imported by the command that needs them, so that `--help` answers at once.
"""

import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from cyclopts import App, Parameter
from cyclopts.validators import Number

from cnnpar import __version__, settings
from cnnpar.config import DATA_NAMES, MOST_WORKERS, Config
from cnnpar.console import StopSignal, end, say
from cnnpar.errors import InputError

if TYPE_CHECKING:
    from cnnpar.resume import Resume


def _option(text: str, name: str | None = None) -> Parameter:
    return Parameter(name=name, help=text, negative="", show_default=False)


Json = Annotated[bool, _option("Print one JSON object as the last line.")]
Debug = Annotated[bool, _option("Show the traceback of an error.")]


def train(
    *,
    config: Annotated[Path | None, _option("Settings of the run, a TOML file.")] = None,
    data: Annotated[str | None, _option("A known data set: digits (embedded; the default) or mnist.")] = None,
    train_data: Annotated[
        Path | None, _option("Training data: .csv[.gz] with the label first, IDX, .npz, or a folder of class folders.")
    ] = None,
    test_data: Annotated[Path | None, _option("Test data, likewise.")] = None,
    workers: Annotated[
        str | None, _option("Ray workers, one core each: N, or LOW:HIGH as there is room; 0: none, without Ray.")
    ] = None,
    min_workers: Annotated[int | None, _option("With fewer the run waits for new ones (default: LOW, or 1).")] = None,
    max_worker_failures: Annotated[
        int | None, _option("With more lost workers the run ends; -1: no limit (default).")
    ] = None,
    epochs: Annotated[int | None, _option("Passes over the training data.")] = None,
    batch_size: Annotated[int | None, _option("Samples of one optimizer step, over all workers together.")] = None,
    microbatch: Annotated[int | None, _option("Samples of one unit of arithmetic.")] = None,
    augmenter_ratio: Annotated[
        Literal[1, 4] | None, _option("4: train on each image and on its four one-pixel shifts.")
    ] = None,
    seed: Annotated[int | None, _option("Decides initial weights, order of samples, augmentation, dropout.")] = None,
    run_dir: Annotated[Path | None, _option("Folder for the run's files (default: runs/NAME-N).")] = None,
    to_path: Annotated[Path | None, _option("File for the newest checkpoint, instead of model.json there.")] = None,
    resume: Annotated[
        str | None,
        _option("Go on from a checkpoint: FILE, DIR, nothing for --run-dir or the newest run; auto: if there is one."),
    ] = None,
    address: Annotated[
        str | None, _option("Ray cluster: auto or HOST:PORT (default: RAY_ADDRESS, or its own).")
    ] = None,
    transport: Annotated[
        Literal["direct", "ray"] | None, _option("How gradients travel: direct (default, faster) or ray.")
    ] = None,
    set_: Annotated[tuple[str, ...], _option("Any setting, as SECTION.KEY=VALUE; may be repeated.", "--set")] = (),
    quiet: Annotated[bool, _option("Show nothing but errors.")] = False,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001  # looked for by `console.run`
) -> int:
    """Train a network; without options on the embedded digits, for a few seconds.

    The weights depend on settings and data alone, not on the workers.
    Stopped with Ctrl-C, or killed, a run goes on with --resume as if nothing
    had happened.
    """
    if data is not None and (train_data or test_data):
        raise InputError("--data names a known data set; it goes without --train-data and --test-data")
    if test_data is not None and train_data is None and config is None and resume is None:
        raise InputError("--test-data goes with --train-data; the known data sets have their own test data")
    if resume == "auto":
        run_dir = run_dir or (to_path.parent if to_path else None)
        if run_dir is None:
            raise InputError("--resume auto: say where to look and where to begin, with --run-dir or --to-path")
    given: list[tuple[str, object, dict[str, dict[str, Any]]]] = [  # an option, its value, and what it sets
        ("--workers", workers, {"engine": {"workers": _number(workers)}}),
        ("--min-workers", min_workers, {"engine": {"min_workers": min_workers}}),
        ("--max-worker-failures", max_worker_failures, {"engine": {"max_worker_failures": max_worker_failures}}),
        ("--address", address, {"engine": {"address": address}}),
        ("--transport", transport, {"engine": {"transport": transport}}),
        ("--epochs", epochs, {"train": {"epochs": epochs}}),
        ("--batch-size", batch_size, {"train": {"batch_size": batch_size}}),
        ("--microbatch", microbatch, {"train": {"microbatch": microbatch}}),
        ("--seed", seed, {"train": {"seed": seed}}),
        ("--augmenter-ratio", augmenter_ratio, {"augment": {"ratio": augmenter_ratio}}),
        ("--train-data", train_data, {"data": {"name": "", "train": str(train_data), "test": ""}}),
        ("--test-data", test_data, {"data": {"test": str(test_data)}}),
        ("--data", data, {"data": {"name": data, "train": "", "test": ""}}),
    ]
    options = [
        settings.Option(f"{name} {value}", section, key, setting)
        for name, value, tables in given
        if value is not None
        for section, table in tables.items()
        for key, setting in table.items()
    ]
    from cnnpar.report.progress import Progress
    from cnnpar.resume import find
    from cnnpar.rundir import Place

    resumed = find(resume, run_dir, to_path) if resume is not None else None
    resolved = _settings(config, resumed, options, set_)
    _enter_portable(resolved)
    from cnnpar.run import train_run
    from cnnpar.summary import as_text

    progress = Progress("quiet" if quiet else "auto", sys.stderr if json else sys.stdout)
    name = config.stem if config else resolved.data.title
    with StopSignal() as stop:
        place = Place(run_dir, to_path, name, may_have_begun=resume == "auto")
        summary = train_run(resolved, place, resumed, progress, stop)
        if not quiet:
            say(as_text(summary, to_path, resolved.engine.address), sys.stderr if json else sys.stdout)
        if json:
            say(msgspec.json.encode(summary).decode(), sys.stdout)
    return 0 if summary.stopped_by is None else 128 + signal.Signals[summary.stopped_by]


def evaluate(
    *,
    from_path: Annotated[Path, _option("The checkpoint: a model.json, or the run's directory.")],
    test_data: Annotated[
        Path | None, _option("Test data (default: those of the run): .csv[.gz], IDX, .npz, folders.")
    ] = None,
    data: Annotated[str | None, _option("A known data set: digits or mnist.")] = None,
    workers: Annotated[
        int, Parameter(validator=Number(gte=0, lte=MOST_WORKERS)), _option("Ray workers; 0: none, without Ray.")
    ] = 0,
    by_class: Annotated[bool, _option("Show precision, recall and confusion of each class.")] = False,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> int:
    """Test the model of a checkpoint; the file alone is enough."""
    if data is not None and test_data is not None:
        raise InputError("--data names a known data set; it goes without --test-data")
    if data is not None and data not in DATA_NAMES:
        raise InputError(f"--data {data}: no known data set; there are {', '.join(DATA_NAMES)}")
    from cnnpar.checkpoint import load
    from cnnpar.rundir import newest_in

    path = newest_in(from_path)
    payload = load(path)
    trained_on = payload.config.data
    source = _as_path(test_data) if test_data else data or trained_on.name or trained_on.test or None
    engine = msgspec.structs.replace(payload.config.engine, workers=workers, min_workers=0, address="")
    from cnnpar.report.scores import as_text
    from cnnpar.run import evaluate_run

    found = evaluate_run(payload, source, engine, str(path), lambda text: say(text, sys.stderr))
    say(msgspec.json.encode(found).decode() if json else as_text(found, by_class), sys.stdout)
    return 0


def inspect(
    file: Annotated[Path, Parameter(help="A checkpoint, a run's directory, or settings (.toml).")],
    /,
    *,
    shape: Annotated[str | None, _option("H,W,C of the images that settings are for (default: those of data).")] = None,
    classes: Annotated[int | None, Parameter(validator=Number(gte=1)), _option("Number of their classes.")] = None,
    set_: Annotated[tuple[str, ...], _option("Any setting, as SECTION.KEY=VALUE; may be repeated.", "--set")] = (),
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> int:
    """Show what a checkpoint holds: position, accuracy, network, digest of the weights.

    Of settings: the network that they describe.
    """
    if file.suffix == ".toml":
        from cnnpar.report.inspection import outline

        say(outline(_settings(file, None, (), set_), shape, classes, json), sys.stdout)
        return 0
    if shape or classes or set_:
        raise InputError(f"{file}: --shape, --classes and --set are for settings, which are a .toml file")
    from cnnpar.checkpoint import load, unpack
    from cnnpar.rundir import newest_in

    path = newest_in(file)
    payload = load(path)
    network, state = unpack(payload, str(path))
    position = payload.state
    if json:
        facts = {
            "weights_sha256": state.digest,
            "epoch": state.epoch,
            "step": state.step,
            "parameters": network.layout.trained,
            "exact": state.exact,
            "skipped_steps": state.skipped,
            "seed": position.seed,
            "samples": state.samples,
            "seconds": state.seconds,
            "best": position.best,
            "fingerprint": payload.fingerprint,
            "data_fingerprint": payload.data_fingerprint,
            "initial_sha256": state.initial_sha256 or None,
        }
        say(msgspec.json.encode(facts).decode(), sys.stdout)
        return 0
    from cnnpar.report.inspection import describe

    say(describe(payload, network, state), sys.stdout)
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
train_app = App(name="cnnpar-train", version=__version__, help_format="plaintext", suppress_keyboard_interrupt=False)
train_app.default(train)
test_app = App(name="cnnpar-test", version=__version__, help_format="plaintext", suppress_keyboard_interrupt=False)
test_app.default(evaluate)


def main() -> None:
    """`cnnpar`: all commands."""
    end(app)


def main_train() -> None:
    """`cnnpar-train`: the command most people need."""
    end(train_app)


def main_test() -> None:
    """`cnnpar-test`: accuracy of a finished model."""
    end(test_app)


def _as_path(path: Path) -> str:
    """The path as text that is not mistaken for the name of a data set."""
    return f"./{path}" if str(path) in DATA_NAMES else str(path)


def _number(text: str | None) -> int | str | None:
    """A number of workers as one; what is none is left to the settings' check."""
    return int(text) if text is not None and re.fullmatch("[0-9]{1,9}", text) else text


def _settings(
    file: Path | None, resumed: "Resume | None", options: Sequence[settings.Option], assignments: Sequence[str]
) -> Config:
    """The settings of the file, or else of the checkpoint, or else the defaults; changed by the options."""
    tables: dict[str, Any] = {}
    source = "settings"
    if file is not None:
        tables, source = settings.read(file), str(file)
    elif resumed is not None:
        tables, source = settings.to_tables(resumed.payload.config), str(resumed.path)
        tables["engine"]["address"] = ""  # whom to connect to is for who types the command to say, not for a file
    return settings.resolve(tables, assignments, source, options).absolute()


def _enter_portable(config: Config) -> None:
    """Start this program anew, once, with the kernels that `engine.portable` pins: they are chosen at numpy's start."""
    if not config.engine.portable:
        return
    from cnnpar.parallel.fingerprint import portable_environment

    environment = portable_environment()
    if environment:
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **environment})
