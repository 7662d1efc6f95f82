"""Early stopping: the best epoch by accuracy or loss, and runs that end after `train.patience` epochs no better."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.config.sections import BestBy, Config, Engine
from cnnpar.errors import InputError
from cnnpar.run.summary import as_text
from cnnpar.storage.checkpoint import read
from cnnpar.training.state import EpochRecord, TrainState
from tests.helpers.commands import call
from tests.helpers.made_runs import fresh
from tests.helpers.observers import Stopping
from tests.helpers.run_files import assert_same_run
from tests.helpers.tiny_runs import Lines, settings, train, write_csv

NAN, INFINITE = float("nan"), float("inf")


def with_history(scores: list[tuple[float, float] | None], best_by: BestBy) -> TrainState:
    """Return a state after epochs of these validation losses and accuracies."""
    state = fresh()
    state.best_by = best_by
    for epoch, score in enumerate(scores, 1):
        loss, accuracy = score or (None, None)
        state.history.append(EpochRecord(epoch, 1.0, 0.5, loss, accuracy, 1.0))
    state.epoch = len(scores)
    return state


scores = st.lists(st.tuples(st.floats(0, 9), st.floats(0, 1)), min_size=1, max_size=12)


@given(scores, st.integers(0, 12))
def test_out_of_patience_when_the_last_epochs_were_no_better(scores: list[tuple[float, float]], patience: int) -> None:
    for best_by, values in (("accuracy", [-pair[1] for pair in scores]), ("loss", [pair[0] for pair in scores])):
        state = with_history(list(scores), "accuracy" if best_by == "accuracy" else "loss")
        assert state.best is state.history[values.index(min(values))]
        late = values[-patience:] if patience else []
        early = values[: len(values) - patience]
        over = 0 < patience < len(values) and min(late) >= min(early)
        assert state.out_of(patience) == over


@pytest.mark.parametrize(
    ("losses", "best"),
    [([0.3, 0.2, 0.2], 2), ([NAN, 0.5, NAN], 2), ([INFINITE, 7.0], 2), ([NAN, INFINITE], None), ([0.1, NAN], 1)],
)
def test_best_epoch_by_loss_is_the_first_of_lowest_finite_loss(losses: list[float], best: int | None) -> None:
    state = with_history([(loss, 0.5) for loss in losses], "loss")
    assert (state.best.epoch if state.best else None) == best
    assert state.out_of(2) == (len(losses) - (best or 0) >= 2)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "train.csv")


def hopeless(csv: Path, **changes: Any) -> Config:
    """Return settings of a run that soon stops getting better."""
    train = {"epochs": 20, "patience": 3, **changes}
    return settings(csv, data={"validation": 0.3}, schedule={"type": "constant"}, train=train)


@pytest.mark.parametrize("best_by", ["accuracy", "loss"])
def test_a_run_without_a_better_epoch_ends_early_and_says_so(tmp_path: Path, csv: Path, best_by: str) -> None:
    wanted = hopeless(csv, best_by=best_by, patience=2, ema_decay=0.0)
    summary = train(wanted, tmp_path / "run")
    assert summary.best_epoch is not None
    assert (summary.ended_by, summary.epochs, summary.stopped_by) == ("patience", summary.best_epoch + 2, None)
    assert summary.epochs < 20
    text = as_text(summary, None, Engine())
    assert f"out of patience after epoch {summary.epochs}: no better validation {best_by} since epoch " in text
    assert f"in epoch {summary.best_epoch}: " in text
    history = read(tmp_path / "run" / "model.json").history
    best = history[summary.best_epoch - 1]
    assert (summary.best_validation_accuracy, summary.best_validation_loss) == (
        best.validation_accuracy,
        best.validation_loss,
    )
    assert read(tmp_path / "run" / "best.json").state.epoch == summary.best_epoch
    whole = train(hopeless(csv, patience=0, ema_decay=0.0, epochs=summary.epochs), tmp_path / "whole")
    assert (whole.weights_sha256, whole.ended_by) == (summary.weights_sha256, "epochs")


def test_stops_and_resumes_do_not_change_when_patience_ends(tmp_path: Path, csv: Path) -> None:
    wanted = hopeless(csv)
    whole = train(wanted, tmp_path / "whole")
    assert whole.ended_by == "patience"
    model = tmp_path / "cut" / "model.json"
    for step in range(1, whole.steps, 3):
        part = train(wanted, tmp_path / "cut", model if step > 1 else None, Stopping(step))
        assert part.ended_by is None
    last = train(wanted, None, model)
    assert (last.weights_sha256, last.ended_by) == (whole.weights_sha256, "patience")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_run_out_of_patience_goes_on_with_more_patience(tmp_path: Path, csv: Path) -> None:
    first = train(hopeless(csv, patience=1), tmp_path / "run")
    model = tmp_path / "run" / "model.json"
    told = Lines()
    again = train(hopeless(csv, patience=1), None, model, told)
    assert (again.steps, again.ended_by) == (first.steps, "patience")
    assert told.lines[-1] == f"out of patience after epoch {first.epochs}; more train.patience goes on with it"
    train(hopeless(csv, patience=3), None, model)
    train(hopeless(csv, patience=3), tmp_path / "whole")
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_patience_needs_validation_data_and_best_by_is_fixed(tmp_path: Path, csv: Path) -> None:
    with pytest.raises(InputError, match=r"train\.patience: needs validation data"):
        train(settings(csv, data={"validation": 0.0}, train={"patience": 1}), tmp_path / "none")
    assert not (tmp_path / "none").exists()
    train(settings(csv), tmp_path / "run", progress=Stopping(7))
    with pytest.raises(InputError, match=r"train\.best_by was accuracy and is now loss"):
        train(settings(csv, train={"best_by": "loss"}), None, tmp_path / "run" / "model.json")


def test_a_run_out_of_patience_exits_with_0(tmp_path: Path, csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--set", "train.patience=1", "--set", "optimizer.learning_rate=1e-9", "--epochs", 9, "--workers", 0]
    assert call("cnnpar-train", "--train-data", csv, "--run-dir", "run", "--quiet", *options) == 0
    assert read("run/model.json").state.epoch < 9
