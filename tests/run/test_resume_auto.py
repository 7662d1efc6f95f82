"""`--resume auto`: the same command starts a run, resumes it, and repeats its result, also after faults."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from cnnpar.config.resolve import read_toml, resolve, to_toml
from cnnpar.config.sections import Config
from cnnpar.report.progress import Progress
from cnnpar.storage.checkpoint import read
from cnnpar.storage.lock import locked
from tests.helpers.commands import call
from tests.helpers.observers import Patient, Stopping
from tests.helpers.tiny_runs import settings, train, write_csv

AGAIN = ["--config", "tiny.toml", "--resume", "auto", "--run-dir", "run"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = settings(write_csv(Path("train.csv")), data={"test": str(write_csv(Path("test.csv"), 12, seed=1))})
    Path("tiny.toml").write_text(to_toml(wanted))


@pytest.fixture
def wanted() -> Config:
    return resolve(read_toml("tiny.toml"))


@pytest.fixture
def digest(wanted: Config) -> str:
    """Return the weights' digest of a run without faults."""
    return train(wanted, Path("whole")).weights_sha256


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def result(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[dict[str, Any], str]:
    """Return the JSON of a command that succeeds, and its standard error."""
    capsys.readouterr()
    assert call("cnnpar-train", *options, "--json") == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_the_same_command_starts_and_then_repeats_the_result(capsys: pytest.CaptureFixture[str], digest: str) -> None:
    first, err = result(capsys, *AGAIN)
    assert "resumed" not in err
    before = contents("run")
    second, err = result(capsys, *AGAIN)
    assert "resumed from run/model.json" in err
    assert second == {**first, "samples_per_second": second["samples_per_second"], "seconds": second["seconds"]}
    assert (first["weights_sha256"], first["steps"], first["run_dir"]) == (digest, 15, "run")
    assert contents("run") == before


def test_resume_auto_goes_on_from_a_stop(capsys: pytest.CaptureFixture[str], wanted: Config, digest: str) -> None:
    train(wanted, Path("run"), progress=Stopping(7))
    summary, err = result(capsys, "--resume", "auto", "--run-dir", "run")  # the checkpoint knows its settings
    assert "resumed from run/model.json after 1 epochs, step 7" in err
    assert summary["weights_sha256"] == digest


class Crashing(Progress):
    """Raise in the first epoch."""

    def step(self, epoch: int, step: int, *rest: object) -> None:
        if step == 3:
            raise KeyError("crash")


@pytest.mark.parametrize("end_of_first_epoch", [False, True])
def test_resume_auto_without_newest_checkpoint_repeats_the_run(
    capsys: pytest.CaptureFixture[str], wanted: Config, digest: str, end_of_first_epoch: bool
) -> None:
    if end_of_first_epoch:  # killed between the best checkpoint and the newest one
        train(wanted, Path("run"), progress=Stopping(15))
        for name in ("model.json", "model.prev.json"):
            Path("run", name).unlink(missing_ok=True)
    else:
        with pytest.raises(KeyError, match="crash"):
            train(wanted, Path("run"), progress=Crashing("quiet"))
    note = {"host": socket.gethostname(), "pid": 2**31 - 1, "since": "2026-11-23 21:40+00:00"}
    Path("run/.running").write_text(json.dumps(note))
    Path("run/.model.json.tmp").write_text('{"sha256":"')
    assert "metrics.jsonl" in contents("run")
    if end_of_first_epoch:
        assert not Path("run/model.json").exists()
    else:
        assert read("run/model.json").state.step == 0  # saved before the first step
    summary, err = result(capsys, *AGAIN)
    assert ("resumed from run/best.json" in err) == end_of_first_epoch
    assert summary["weights_sha256"] == digest
    steps = [json.loads(line)["step"] for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted([*range(1, 16), 5, 10, 15])
    assert {".running", ".model.json.tmp"}.isdisjoint(contents("run"))


def damage(path: str) -> None:
    """Flip one bit in the middle of a file, as a bad disk does."""
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 2] ^= 1
    Path(path).write_bytes(content)


def test_resume_auto_falls_back_from_a_damaged_checkpoint(
    capsys: pytest.CaptureFixture[str], wanted: Config, digest: str
) -> None:
    train(wanted, Path("run"), progress=Patient(Path("run/model.json")))
    damage("run/model.json")
    assert call("cnnpar-train", "--resume", "run") == 2
    assert "; the one before is whole: --resume run/model.prev.json\n" in capsys.readouterr().err
    summary, err = result(capsys, *AGAIN)
    told = next(line for line in err.splitlines() if line.startswith("run/model.json: "))
    assert told.endswith("; going on from the one before")
    assert "resumed from run/model.prev.json after 2 epochs" in err
    assert summary["weights_sha256"] == digest
    assert [read(Path("run", name)).state.epoch for name in ("model.json", "model.prev.json")] == [3, 2]


def test_resume_auto_with_only_damaged_checkpoints_exits_with_2(
    capsys: pytest.CaptureFixture[str], wanted: Config
) -> None:
    train(wanted, Path("run"), progress=Patient(Path("run/model.json")))
    damage("run/model.json")
    damage("run/model.prev.json")
    before = contents("run")
    assert call("cnnpar-train", *AGAIN) == 2
    err = capsys.readouterr().err
    for words in ("run/model.json: ", "run/model.prev.json: ", "; move them away to start anew\n"):
        assert words in err
    assert call("cnnpar-train", "--resume", "run") == 2
    assert "the one before is whole" not in capsys.readouterr().err
    assert contents("run") == before


def test_resume_auto_works_with_to_path(capsys: pytest.CaptureFixture[str], digest: str) -> None:
    options = ["--config", "tiny.toml", "--resume", "auto", "--to-path", "out/model_a.json"]
    for words in ("run directory out", "resumed from out/model_a.json"):
        summary, err = result(capsys, *options)
        assert words in err
        assert (summary["checkpoint"], summary["run_dir"]) == ("out/model_a.json", "out")
        assert summary["weights_sha256"] == digest


def test_users_config_in_the_run_directory_is_not_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    text = Path("tiny.toml").rename("run/config.toml").read_text()
    _, err = result(capsys, "--config", "run/config.toml", *AGAIN[2:])
    assert "run/config.toml: is not of a run, and stays as it is" in err
    assert Path("run/config.toml").read_text() == text


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--resume", "auto"], "--resume auto: say where to look and where to begin, with --run-dir or --to-path"),
        (["--resume", "./auto", "--run-dir", "run"], "--resume: no checkpoint at auto"),
        (["--resume", "auto", "--run-dir", "tiny.toml"], "tiny.toml: is no folder"),
        ([*AGAIN, "--seed", "1"], "run/model.json: cannot resume: train.seed was 0 and is now 1"),
        ([*AGAIN, "--to-path", "tiny.toml"], "tiny.toml: no checkpoint"),
    ],
)
def test_impossible_resumes_exit_with_2_and_change_no_file(
    capsys: pytest.CaptureFixture[str], wanted: Config, options: list[str], what: str
) -> None:
    train(wanted, Path("run"), progress=Stopping(7))
    before = contents("run")
    assert call("cnnpar-train", *options) == 2
    assert what in capsys.readouterr().err
    assert contents("run") == before


@pytest.mark.parametrize("options", [AGAIN, ["--resume", "run"], [*AGAIN[:2], "--run-dir", "run"]])
@pytest.mark.parametrize("step", [0, 7])
def test_a_run_directory_in_use_is_refused_and_unchanged(
    capsys: pytest.CaptureFixture[str], wanted: Config, options: list[str], step: int
) -> None:
    if step:
        train(wanted, Path("run"), progress=Stopping(step))
    Path("run").mkdir(exist_ok=True)
    before = contents("run")
    with locked(Path("run"), pytest.fail):
        assert call("cnnpar-train", *options) == 2
    err = capsys.readouterr().err
    if step or options[0] != "--resume":  # else there is nothing to go on from
        assert f"run: another run is under way there (process {os.getpid()} on host {socket.gethostname()}" in err
    assert contents("run") == before
