"""`cnnpar cv`: each fold is the run of `data.fold`, is kept once it is finished, and goes on where it was stopped."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from cnnpar.config.resolve import to_toml
from cnnpar.data import load
from cnnpar.storage.checkpoint import read
from cnnpar.training import loop
from tests.helpers.commands import call, command, read_until, start
from tests.helpers.limits import HANGING
from tests.helpers.observers import Stopping
from tests.helpers.run_files import assert_same_run
from tests.helpers.tiny_runs import settings, train, write_csv

CV = ["cv", "--config", "tiny.toml", "--folds", "3"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    wanted = settings(write_csv(Path("train.csv")), data={"test": str(write_csv(Path("test.csv"), 12, seed=1))})
    Path("tiny.toml").write_text(to_toml(wanted))
    return tmp_path


def result(capsys: pytest.CaptureFixture[str], *options: str, code: int = 0) -> tuple[dict[str, Any], str]:
    """Return the JSON of `cnnpar` with these arguments, and its standard error."""
    capsys.readouterr()
    assert call("cnnpar", *options, "--json") == code
    out, err = capsys.readouterr()
    return json.loads(out), err


def digests(found: dict[str, Any]) -> list[str]:
    return [fold["weights_sha256"] for fold in found["folds"]]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def train_fold(fold: str, *options: str) -> list[str]:
    return ["train", "--config", "tiny.toml", "--set", f"data.fold={fold}", *options]


def test_each_fold_is_the_run_of_data_fold(capsys: pytest.CaptureFixture[str]) -> None:
    found, err = result(capsys, *CV)
    assert [fold["fold"] for fold in found["folds"]] == ["1/3", "2/3", "3/3"]
    assert [fold["run_dir"] for fold in found["folds"]] == [f"runs/tiny-cv-1/fold-{part}" for part in (1, 2, 3)]
    accuracies = [fold["validation_accuracy"] for fold in found["folds"]]
    assert found["validation_accuracy"] == pytest.approx(sum(accuracies) / 3)
    low, high = found["interval"]
    assert low <= found["validation_accuracy"] <= high
    assert (found["confidence"], found["run_dir"], found["exact"]) == (0.95, "runs/tiny-cv-1", True)
    assert "fold 2/3\ncnnpar " in err
    alone, _ = result(capsys, *train_fold("2/3", "--run-dir", "alone"))
    assert alone["weights_sha256"] == digests(found)[1]
    assert len(set(digests(found))) == 3
    assert_same_run(Path("alone"), Path("runs/tiny-cv-1/fold-2"))
    again, _ = result(capsys, *CV)
    assert again["run_dir"] == "runs/tiny-cv-2"
    assert digests(again) == digests(found)


def test_a_fold_goes_on_with_the_same_digest(capsys: pytest.CaptureFixture[str]) -> None:
    whole, _ = result(capsys, *train_fold("2/3", "--run-dir", "whole"))
    wanted = settings(Path("train.csv"), data={"test": "test.csv", "fold": "2/3"})
    train(wanted, Path("cut"), progress=Stopping(7))
    resumed, err = result(capsys, "train", "--resume", "cut")
    assert "resumed from cut/model.json" in err
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    assert call("cnnpar", "train", "--resume", "cut", "--epochs", "9", "--set", "data.fold=1/3") == 2
    assert "the training or validation data are not those the run began with" in capsys.readouterr().err


def test_text_ends_with_mean_and_interval(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("cnnpar", *CV) == 0
    *_, third, mean, interval = capsys.readouterr().out.splitlines()
    assert third.startswith("fold 3/3: validation accuracy ")
    assert ", the mean of 3 folds (standard deviation " in mean
    assert interval.startswith("95% interval ")
    assert call("cnnpar", *CV, "--quiet", "--run-dir", "quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_finished_folds_are_kept_and_a_begun_one_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    whole, _ = result(capsys, *CV, "--run-dir", "whole")
    path = str(Path("train.csv").absolute())
    for part, progress in ((1, None), (2, Stopping(7))):
        wanted = settings(Path(path), data={"test": str(Path("test.csv").absolute()), "fold": f"{part}/3"})
        train(wanted, Path(f"cv/fold-{part}"), progress=progress)
    before = contents(Path("cv/fold-1"))
    found, err = result(capsys, "cv", "--resume", "cv")
    assert "fold 1/3 is finished in cv/fold-1\nfold 2/3\n" in err
    assert "resumed from cv/fold-2/model.json after 1 epochs, step 7" in err
    assert digests(found) == digests(whole)
    assert contents(Path("cv/fold-1")) == before
    for part in (1, 2, 3):
        assert_same_run(Path(f"whole/fold-{part}"), Path(f"cv/fold-{part}"))
    again, err = result(capsys, *CV, "--resume", "auto", "--run-dir", "cv")
    assert again == found
    assert err.count("is finished in") == 3
    longer, _ = result(capsys, "cv", "--resume", "--run-dir", "cv", "--epochs", "4")
    assert [fold["epochs"] for fold in longer["folds"]] == [4, 4, 4]


def test_no_step_of_a_finished_fold_is_computed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = result(capsys, *CV, "--run-dir", "cv")
    monkeypatch.setattr(loop, "train", None)
    monkeypatch.setattr("cnnpar.run.train.start", None)
    assert result(capsys, "cv", "--resume", "cv")[0] == found


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow)]
)
def test_a_stopped_cross_validation_goes_on(
    capsys: pytest.CaptureFixture[str], here: Path, number: signal.Signals, code: int
) -> None:
    constant = ["--set", "schedule.type=constant"]  # the end of others moves with the number of epochs
    options = ["--config", "tiny.toml", "--folds", "3", "--run-dir", "cv", *constant]
    with start("cnnpar", "cv", *options, "--epochs", 3000, cwd=here) as process:
        read_until(process, "epoch    2/")
        process.send_signal(number)
        out, err = process.communicate(timeout=HANGING)
    assert process.returncode == code
    if number == signal.SIGINT:
        assert err == ""
        assert out.endswith("stopped by SIGINT; go on with\n  cnnpar cv --resume cv\n")
        assert not Path("cv/fold-2").exists()
    epochs = read(Path("cv/fold-1/model.json")).state.epoch + 1
    again, err = result(capsys, "cv", "--resume", "cv", "--epochs", str(epochs))
    assert "resumed from cv/fold-1/model.json" in err
    whole, _ = result(capsys, *CV, "--run-dir", "whole", "--epochs", str(epochs), *constant)
    assert digests(again) == digests(whole)


def test_ctrl_c_in_a_later_fold_stops_all(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = result(capsys, *CV, "--run-dir", "whole")
    before, steps = loop.train, []

    def interrupted(*arguments: Any, **named: Any) -> None:
        steps.append(1)
        if len(steps) == 2:
            signal.raise_signal(signal.SIGINT)
        before(*arguments, **named)

    monkeypatch.setattr(loop, "train", interrupted)
    found, _ = result(capsys, *CV, "--run-dir", "cv", code=130)
    assert (found["stopped_by"], found["validation_accuracy"], found["interval"]) == ("SIGINT", None, None)
    assert [fold["epochs"] for fold in found["folds"]] == [3, 0]
    monkeypatch.setattr(loop, "train", before)
    again, _ = result(capsys, "cv", "--resume", "cv")
    assert digests(again) == digests(whole)


def test_a_fault_of_the_data_leaves_no_directory(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("cnnpar", *CV, "--train-data", "absent.csv") == 2
    assert capsys.readouterr().err == f"cnnpar: error: {Path('absent.csv').absolute()}: no such file or folder\n"
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("--run-dir cv", "cv: holds folds already; --resume goes on with them, another --run-dir starts anew"),
        ("--run-dir cv --resume --folds 4", "cv/fold-1/model.json: is of fold 1/3, not 1/4; give another --run-dir"),
        ("--resume absent", "--resume: no fold has begun in absent"),
        ("--resume auto", "--resume: say where the folds are, with --resume DIR or --run-dir DIR"),
        ("--resume", "--resume: say where the folds are, with --resume DIR or --run-dir DIR"),
        ("--resume cv --run-dir other", "--resume cv and --run-dir other: the folds go on where they are"),
        ("--resume plain", "plain/fold-1/model.json: is of a run without data.fold; choose another --run-dir"),
        ("--set data.fold=1/3", "--fold 1/3: cnnpar cv sets it for each fold; leave it out"),
        ("--resume cv --seed 4", "cv/fold-1/model.json: cannot resume: train.seed was 0 and is now 4"),
        ("--folds 1", "--folds"),
        ("--folds 9999", "samples to share out, so take at most so many parts"),
        ("--train-data pipe", "pipe: is a pipe, and each fold reads the data anew; write them to a file"),
    ],
)
def test_impossible_cross_validations_exit_with_2(capsys: pytest.CaptureFixture[str], options: str, what: str) -> None:
    os.mkfifo("pipe")
    for place, fold in (("cv", "1/3"), ("plain", "")):
        wanted = settings(Path("train.csv").absolute(), data={"fold": fold})
        train(wanted, Path(place, "fold-1"), progress=Stopping(7))
    before = contents(Path("cv/fold-1"))
    assert call("cnnpar", "cv", "--config", "tiny.toml", *options.split()) == 2
    err = capsys.readouterr().err
    assert what in err
    assert err.count("\n") <= 2
    assert contents(Path("cv/fold-1")) == before


def test_data_are_loaded_once_for_each_fold(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, sources = load.load_splits, []

    def counted(*arguments: Any) -> Any:
        sources.append(arguments[0].fold)
        return before(*arguments)

    monkeypatch.setattr("cnnpar.run.prepare.load_splits", counted)
    result(capsys, *CV)
    assert sources == ["1/3", "2/3", "3/3"]


@pytest.mark.slow
def test_workers_leave_the_digests_of_folds_unchanged(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    alone, _ = result(capsys, *CV, "--run-dir", "alone")
    done = command("cnnpar", *CV, "--workers", 2, "--run-dir", "ray", "--json", cwd=here)
    assert done.returncode == 0, done.stderr
    assert digests(json.loads(done.stdout)) == digests(alone)
