"""A finished run that is resumed computes nothing, and what its checkpoint says of it stays as it is."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cnnpar.config.resolve import to_toml
from cnnpar.storage.checkpoint import encode, read
from tests.helpers.commands import call
from tests.helpers.observers import Stopping
from tests.helpers.tiny_runs import settings, train, write_csv

MODEL = Path("run/model.json")
INEXACT = ["--set", "engine.allow_inexact=true"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a finished run."""
    monkeypatch.chdir(tmp_path)
    wanted = settings(write_csv(Path("train.csv")), data={"test": str(write_csv(Path("test.csv"), 12, seed=1))})
    Path("tiny.toml").write_text(to_toml(wanted))
    train(wanted, Path("run"))
    train(wanted, Path("part"), progress=Stopping(7))


def made_elsewhere(path: Path, **keys: str) -> dict[str, str]:
    """Give a checkpoint another fingerprint."""
    payload = read(path)
    other = {**payload.fingerprint, **keys}
    path.write_bytes(encode(msgspec.structs.replace(payload, fingerprint=other)))
    return other


def resumed(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[dict[str, Any], str]:
    assert call("cnnpar-train", "--resume", *options, "--json") == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


@pytest.mark.parametrize("options", [[], INEXACT, ["--run-dir", "elsewhere", *INEXACT]])
@pytest.mark.parametrize("key", ["code", "numpy"])
def test_a_finished_run_of_other_code_repeats_its_result(
    capsys: pytest.CaptureFixture[str], options: list[str], key: str
) -> None:
    other = made_elsewhere(MODEL, **{key: "another"})
    before = read(MODEL)
    summary, _ = resumed(capsys, "run", *options)
    assert (summary["exact"], summary["steps"]) == (True, 15)
    assert summary["test_accuracy"] is not None
    after = read("elsewhere/model.json" if "elsewhere" in options else MODEL)
    assert (after.fingerprint, after.state, after.config) == (other, before.state, before.config)


def test_a_finished_run_may_get_another_form(capsys: pytest.CaptureFixture[str]) -> None:
    before = read(MODEL)
    resumed(capsys, "run", "--set", "checkpoint.arrays=decimal")
    after = read(MODEL)
    assert (after.config.checkpoint.arrays, after.state) == ("decimal", before.state)
    assert b'"data":[' in MODEL.read_bytes()


def test_a_run_stopped_before_its_next_step_is_not_marked() -> None:
    other = made_elsewhere(Path("part/model.json"), code="another")
    allowed = settings(Path("train.csv"), data={"test": "test.csv"}, engine={"allow_inexact": True})

    class AtOnce(Stopping):
        def start(self, *_: Any) -> None:
            self.step(0, self.at)

    summary = train(allowed, None, Path("part/model.json"), AtOnce(8))
    assert (summary.steps, summary.stopped_by, summary.exact) == (7, "SIGTERM", True)
    assert read("part/model.json").fingerprint == other


def test_going_on_elsewhere_marks_the_run_from_its_first_step(capsys: pytest.CaptureFixture[str]) -> None:
    made_elsewhere(MODEL, code="another")
    summary, _ = resumed(capsys, "run", "--epochs", "4", *INEXACT)
    assert (summary["exact"], summary["steps"]) == (False, 20)
    assert not read(MODEL).state.exact


@pytest.mark.parametrize(
    ("keys", "culprit"),
    [
        ({"code": "another"}, "this version of cnnpar"),
        ({"numpy": "1.0"}, "this machine"),
        ({"layer magnitude": "another"}, "a layer of yours, which has changed,"),
        ({"code": "another", "blas": "none"}, "this version of cnnpar and this machine"),
    ],
)
def test_a_refusal_says_what_differs(capsys: pytest.CaptureFixture[str], keys: dict[str, str], culprit: str) -> None:
    made_elsewhere(Path("part/model.json"), **keys)
    assert call("cnnpar-train", "--resume", "part") == 2
    err = capsys.readouterr().err
    assert f"cannot resume: {culprit} would compute other bits ({sorted(keys)[0]}: " in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("epochs", "line"),
    [
        ("3", "all 3 epochs are done, and the run stays as it is; more --epochs go on with it"),
        ("2", "3 epochs are done, more than 2, and the run stays as it is; more --epochs go on with it"),
    ],
)
def test_no_more_epochs_than_are_done_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], epochs: str, line: str
) -> None:
    before = read(MODEL)
    _, err = resumed(capsys, "run", "--epochs", epochs)
    lines = err.splitlines()
    assert lines[lines.index("run directory run") + 1 :][:2] == [
        "resumed from run/model.json after 3 epochs, step 15",
        line,
    ]
    assert (read(MODEL).config, read(MODEL).state) == (before.config, before.state)
    summary, err = resumed(capsys, "run", "--epochs", "4")
    assert summary["epochs"] == 4
    assert "train.epochs was 3 and is now 4" in err
