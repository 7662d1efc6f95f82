"""The commands: options to settings, wiring, exit codes.

`cnnpar train|test|inspect`; `cnnpar-train` is `cnnpar train`, `cnnpar-test` is `cnnpar test`. Heavy modules are
imported by the command that needs them, so that `--help` answers at once.
"""

import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from cyclopts import App, Parameter

from cnnpar import __version__
from cnnpar import config as settings
from cnnpar.console import run, say
from cnnpar.errors import InputError

if TYPE_CHECKING:
    from cnnpar.resume import Resume
    from cnnpar.run import Summary


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
    workers: Annotated[int | None, _option("Ray workers, one core each; 0: in this process, without Ray.")] = None,
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
        str | None, _option("Go on from a checkpoint: FILE, DIR, or nothing for --run-dir or the newest run.")
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
    options: dict[str, Any] = {
        "engine.workers": workers,
        "engine.address": address,
        "engine.transport": transport,
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.microbatch": microbatch,
        "train.seed": seed,
        "augment.ratio": augmenter_ratio,
    }
    if train_data is not None:
        options |= {"data.name": "", "data.train": str(train_data), "data.test": ""}
    if test_data is not None:
        options |= {"data.test": str(test_data)}
    if data is not None:
        options |= {"data.name": data, "data.train": "", "data.test": ""}
    from cnnpar.report.progress import Progress

    resumed = _checkpoint(resume, run_dir, to_path)
    resolved = _settings(config, resumed, options, set_)
    _enter_portable(resolved)
    from cnnpar.run import train_run

    progress = Progress("quiet" if quiet else "auto", sys.stderr if json else sys.stdout)
    name = config.stem if config else resolved.data.name or Path(resolved.data.train).name.partition(".")[0] or "run"
    summary = train_run(resolved, name, run_dir, to_path, resumed, progress)
    if not quiet:
        stream = sys.stderr if json else sys.stdout
        say(_result(summary, to_path), stream)
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
    workers: Annotated[int, _option("Ray workers; 0: in this process, without Ray.")] = 0,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> int:
    """Test the model of a checkpoint; the file alone is enough."""
    if data is not None and test_data is not None:
        raise InputError("--data names a known data set; it goes without --test-data")
    if data is not None and data not in settings.DATA_NAMES:
        raise InputError(f"--data {data}: no known data set; there are {', '.join(settings.DATA_NAMES)}")
    from cnnpar.checkpoint import load

    path = from_path / "model.json" if from_path.is_dir() else from_path
    payload = load(path)
    trained_on = payload.config.data
    source = _as_path(test_data) if test_data else data or trained_on.name or trained_on.test or None
    engine = settings.resolve({"engine": {**settings.to_tables(payload.config)["engine"], "workers": workers}}).engine
    from cnnpar.run import evaluate_run

    sums = evaluate_run(payload, source, engine, str(path), lambda text: say(text, sys.stderr))
    accuracy = sums.correct / sums.count
    if json:
        result = {"accuracy": accuracy, "correct": sums.correct, "total": sums.count, "loss": sums.loss / sums.count}
        say(msgspec.json.encode(result).decode(), sys.stdout)
    else:
        say(
            f"accuracy {accuracy:.2%} ({sums.correct:,} of {sums.count:,}), loss {sums.loss / sums.count:.4f}",
            sys.stdout,
        )
    return 0


def inspect(
    file: Annotated[Path, Parameter(help="A checkpoint, or a run's directory.")],
    /,
    *,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> int:
    """Show what a checkpoint holds: position, accuracy, network, digest of the weights."""
    from cnnpar.checkpoint import load, unpack

    path = file / "model.json" if file.is_dir() else file
    payload = load(path)
    network, state = unpack(payload, str(path))
    position = payload.state
    if json:
        facts = {
            "weights_sha256": state.digest,
            "epoch": state.epoch,
            "step": state.step,
            "parameters": network.layout.size,
            "exact": state.exact,
            "seed": position.seed,
            "samples": state.samples,
            "seconds": state.seconds,
            "best": position.best,
            "fingerprint": payload.fingerprint,
            "data_fingerprint": payload.data_fingerprint,
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
    sys.exit(run(app, sys.argv[1:]))


def main_train() -> None:
    """`cnnpar-train`: the command most people need."""
    sys.exit(run(train_app, sys.argv[1:]))


def main_test() -> None:
    """`cnnpar-test`: accuracy of a finished model."""
    sys.exit(run(test_app, sys.argv[1:]))


def _as_path(path: Path) -> str:
    """The path as text that is not mistaken for the name of a data set."""
    return f"./{path}" if str(path) in settings.DATA_NAMES else str(path)


def _checkpoint(resume: str | None, run_dir: Path | None, to_path: Path | None) -> "Resume | None":
    """The checkpoint to go on from, if any."""
    if resume is None:
        return None
    from cnnpar.checkpoint import load
    from cnnpar.resume import Resume
    from cnnpar.rundir import find_checkpoint

    path = find_checkpoint(resume, run_dir, to_path)
    return Resume(path, load(path))


def _settings(
    file: Path | None, resumed: "Resume | None", options: Mapping[str, Any], assignments: Sequence[str]
) -> settings.Config:
    """The settings of the file, or else of the checkpoint, or else the defaults; changed by the options."""
    tables: dict[str, Any] = {}
    source = "settings"
    if file is not None:
        tables, source = settings.read(file), str(file)
    elif resumed is not None:
        tables, source = settings.to_tables(resumed.payload.config), str(resumed.path)
    for place, value in options.items():
        section, _, key = place.partition(".")
        table = tables.setdefault(section, {})
        if value is not None and isinstance(table, dict):  # else the file is wrong, and `resolve` says so
            table[key] = value
    resolved = settings.resolve(tables, assignments, source)
    data = resolved.data  # a checkpoint must find its data from any folder
    places = {key: str(Path(path).absolute()) for key in ("train", "test") if (path := getattr(data, key))}
    return msgspec.structs.replace(resolved, data=msgspec.structs.replace(data, **places))


def _enter_portable(config: settings.Config) -> None:
    """Start this program anew, once, with the kernels that `engine.portable` pins: they are chosen at numpy's start."""
    if not config.engine.portable:
        return
    from cnnpar.parallel.fingerprint import portable_environment

    environment = portable_environment()
    if environment:
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **environment})


def _result(summary: "Summary", to_path: Path | None) -> str:
    """What a person reads at the end."""
    lines = []
    if summary.stopped_by is not None:
        command = ["cnnpar-train", "--resume", summary.checkpoint]
        if to_path is not None:
            command += ["--run-dir", summary.run_dir, "--to-path", str(to_path)]
        lines.append(f"stopped by {summary.stopped_by} after step {summary.steps:,}; go on with")
        lines.append(f"  {shlex.join(command)}")
    if summary.best_validation_accuracy is not None:
        best = f"{summary.best_validation_accuracy:.2%} in epoch {summary.best_epoch}"
        lines.append(f"best validation accuracy {best}: {shlex.quote(str(Path(summary.run_dir) / 'best.json'))}")
    if summary.test_accuracy is not None:
        lines.append(f"test accuracy {summary.test_accuracy:.2%}")
    exact = "" if summary.exact else " (not exact: workers or machines of unlike fingerprints took part)"
    lines.append(f"weights sha256 {summary.weights_sha256}{exact}")
    lines.append(f"saved as {summary.checkpoint}")
    return "\n".join(lines)
