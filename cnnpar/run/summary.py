"""The result of a run, for programs and for people."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from cnnpar.config.sections import BestBy, Engine, Train
from cnnpar.errors import RunError
from cnnpar.nn.sums import Sums
from cnnpar.run.resume import beyond_this_machine
from cnnpar.storage.rundir import RunFiles, exists
from cnnpar.training.state import TrainState


class Summary(msgspec.Struct, frozen=True):
    """Result of a run: accuracies in 0..1; `seconds` of training in all, resumed parts included."""

    epochs: int
    steps: int
    skipped_steps: int
    samples: int
    train_loss: float | None
    validation_accuracy: float | None
    best_validation_accuracy: float | None
    best_validation_loss: float | None
    best_epoch: int | None
    test_accuracy: float | None
    weights_sha256: str
    exact: bool
    workers: int
    seconds: float
    samples_per_second: float
    run_dir: str
    checkpoint: str
    best_checkpoint: str | None = None  # None too where the run went on in another directory since
    best_by: BestBy = "accuracy"
    ended_by: Literal["epochs", "patience"] | None = None  # which limit the run has reached
    stopped_by: str | None = None
    notes: tuple[str, ...] = ()  # what is odd about the data or the start of the run, a line each


class UnsavedError(RunError):
    """The error of a run that came to its end, or was stopped, but whose state is not where it should be."""

    def __init__(self, text: str, summary: Summary) -> None:
        """Take the text for the user, and the result."""
        super().__init__(text)
        self.summary = summary


def summarise(
    state: TrainState,
    train: Train,
    files: RunFiles,
    workers: int,
    test: Sums | None,
    stopped_by: str | None,
    notes: Sequence[str],
) -> Summary:
    """Summarise a run at its end, or where the signal `stopped_by` stopped it."""
    ended_by: Literal["epochs", "patience"] = "epochs" if state.epoch >= train.epochs else "patience"
    last = state.history[-1] if state.history else None
    return Summary(
        epochs=state.epoch,
        steps=state.step,
        skipped_steps=state.skipped,
        samples=state.samples,
        train_loss=last.train_loss if last else None,
        validation_accuracy=last.validation_accuracy if last else None,
        best_validation_accuracy=state.best.validation_accuracy if state.best else None,
        best_validation_loss=state.best.validation_loss if state.best else None,
        best_epoch=state.best.epoch if state.best else None,
        test_accuracy=test.correct / test.count if test else None,
        weights_sha256=state.digest,
        exact=state.exact,
        workers=workers,
        seconds=round(state.seconds, 3),
        samples_per_second=round(state.samples / max(state.seconds, 1e-9), 1),
        run_dir=str(files.directory),
        checkpoint=str(files.model),
        best_checkpoint=str(files.best) if state.best and exists(files.best) else None,
        best_by=state.best_by,
        ended_by=ended_by if stopped_by is None else None,
        stopped_by=stopped_by,
        notes=tuple(notes),
    )


def facts(summary: Summary) -> list[tuple[str, str]]:
    """Return the names and values of the table that a notebook shows."""
    best = f" (best {summary.best_validation_accuracy:.2%} in epoch {summary.best_epoch})" if summary.best_epoch else ""
    accuracies = {"test": summary.test_accuracy, "validation": summary.validation_accuracy}
    rows = {f"{name} accuracy": f"{share:.2%}" for name, share in accuracies.items() if share is not None}
    if best:
        rows["validation accuracy"] += best
    stopped = f", stopped by {summary.stopped_by}" if summary.stopped_by else ""
    rows |= {
        "epochs": f"{summary.epochs:,} ({summary.steps:,} steps, {summary.seconds:.1f} s{stopped})",
        "weights sha256": summary.weights_sha256 + ("" if summary.exact else " (not exact)"),
        "checkpoint": summary.checkpoint,
    }
    return [*rows.items(), *(("note", note) for note in summary.notes)]


def options_to_go_on(checkpoint: str, run_dir: str, to_path: Path | None, engine: Engine) -> str:
    """Return the options of `cnnpar-train` that go on with the run; `to_path`, `engine`: as they were given."""
    options = ["--resume", checkpoint]
    if to_path is not None:
        options += ["--run-dir", run_dir, "--to-path", checkpoint]
    if engine.address:
        options += ["--address", engine.address]
    if beyond_this_machine(engine):
        options += ["--workers", str(engine.workers)]
    return shlex.join(options)


def as_text(summary: Summary, to_path: Path | None, engine: Engine, *, saved: bool = True) -> str:
    """Return the lines that a run ends with; `to_path`, `engine`: as they were given."""
    lines = []
    if summary.stopped_by is not None and saved:
        lines.append(f"stopped by {summary.stopped_by} after step {summary.steps:,}; go on with")
        lines.append(f"  cnnpar-train {options_to_go_on(summary.checkpoint, summary.run_dir, to_path, engine)}")
    if summary.skipped_steps:
        lines.append(f"{summary.skipped_steps:,} steps were skipped: their loss or gradient was not finite")
    if summary.ended_by == "patience":
        since = f"since epoch {summary.best_epoch}" if summary.best_epoch else "at all"
        lines.append(f"out of patience after epoch {summary.epochs}: no better validation {summary.best_by} {since}")
    if summary.best_validation_accuracy is not None:
        best = f"best validation accuracy {summary.best_validation_accuracy:.2%} in epoch {summary.best_epoch}"
        if summary.best_by == "loss":
            best = f"lowest validation loss {summary.best_validation_loss:.4g} in epoch {summary.best_epoch}"
        lines.append(f"{best}: {shlex.quote(summary.best_checkpoint)}" if summary.best_checkpoint else best)
    if summary.test_accuracy is not None:
        lines.append(f"test accuracy {summary.test_accuracy:.2%}")
    exact = "" if summary.exact else " (not exact: workers or machines of unlike fingerprints took part)"
    lines.append(f"weights sha256 {summary.weights_sha256}{exact}")
    if saved:
        lines.append(f"saved as {summary.checkpoint}")
    return "\n".join(lines)
