"""`cnnpar train`: a network is trained, or a run goes on."""

import signal
import sys
from typing import TYPE_CHECKING, Annotated

from cnnpar.cli.console import say, say_json
from cnnpar.cli.options import (
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
    option,
)
from cnnpar.cli.settings import chosen, resolve_options, take_words
from cnnpar.errors import InputError
from cnnpar.files import expanded
from cnnpar.run.stop import StopSignal

if TYPE_CHECKING:
    from cnnpar.report.progress import Progress
    from cnnpar.run.prepare import Run
    from cnnpar.run.summary import Summary, UnsavedError


def train(
    *paths: DataWords,
    config: ConfigFile = None,
    options: TrainOptions = TRAIN_DEFAULTS,
    set_: Assignments = (),
    run_dir: Annotated[Place | None, option("Folder for the run's files (default: runs/NAME-N).", FILES)] = None,
    to_path: Annotated[
        Place | None, option("File for the newest checkpoint, instead of model.json there.", FILES)
    ] = None,
    resume: Annotated[
        str | None,
        option(
            "Go on from a checkpoint: FILE, DIR, nothing for --run-dir or the newest run; auto: if there is one.", FILES
        ),
    ] = None,
    dry_run: Annotated[bool, option("Check everything, show the network, and start nothing.", OUTPUT)] = False,
    quiet: Annotated[bool, option("Show nothing but errors.", OUTPUT)] = False,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001  # looked for by `console.run`
) -> int:
    """Train a network; without options on the embedded digits, for a few seconds.

    The weights depend on settings and data alone, not on the workers.
    Stopped with Ctrl-C, or killed, a run goes on with --resume as if nothing
    had happened.
    """
    config, options = take_words(paths, config, options, resume)
    if resume == "auto":
        run_dir = run_dir or (to_path.parent if to_path else None)
        if run_dir is None:
            raise InputError("--resume auto: say where to look and where to begin, with --run-dir or --to-path")
    from cnnpar.report.progress import Progress
    from cnnpar.run.resume import find
    from cnnpar.storage import rundir

    resumed = find(expanded(resume), run_dir, to_path) if resume is not None else None
    resolved = resolve_options(config, resumed, chosen(options), set_)
    from cnnpar.run.prepare import prepare
    from cnnpar.run.summary import as_text

    stream = sys.stderr if json else sys.stdout
    place = rundir.Place(run_dir, to_path, config.stem if config else resolved.data.title)
    with StopSignal() as stop:
        report = Progress("quiet" if quiet else "auto", stream)
        run = prepare(resolved, place, resumed, note=report.note)
        del resumed  # its arrays need not stay in memory
        if dry_run:
            _show(run, quiet, json, report)
            return 0
        summary, unsaved = _trained(run, report, stop)
        if not quiet:
            say(as_text(summary, to_path, resolved.engine, saved=unsaved is None), stream)
        if json:
            say_json(summary)
        if unsaved:
            raise unsaved
    return 0 if summary.stopped_by is None else 128 + signal.Signals[summary.stopped_by]


def _trained(run: "Run", progress: "Progress", stop: StopSignal) -> "tuple[Summary, UnsavedError | None]":
    """Train; return the result, and the error where it could not be saved."""
    from cnnpar.run.summary import UnsavedError
    from cnnpar.run.train import train_run

    try:
        return train_run(run, progress, stop), None
    except UnsavedError as error:
        return error.summary, error


def _show(run: "Run", quiet: bool, json: bool, report: "Progress") -> None:
    """Show what a run would compute, for `--dry-run`: its first lines, and the table of its layers."""
    from cnnpar.report.inspection import outline, outline_facts
    from cnnpar.run.headline import facts

    stream = sys.stderr if json else sys.stdout
    if not quiet:
        for line in (*facts(run.config, run.network, run.work.samples, run.understood), *run.doubts, *run.notes):
            report.note(line)
        say(f"{outline(run.network)}\nall fits; nothing was started", stream)
    if json:
        say_json({"dry_run": True, "exact": run.state.exact, **outline_facts(run.network)})
