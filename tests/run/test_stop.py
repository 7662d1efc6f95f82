"""SIGINT, SIGTERM and SIGHUP, once or many times, at any moment: a good checkpoint and the right exit code."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from cnnpar.config.resolve import to_toml
from cnnpar.parallel.server import Server
from cnnpar.parallel.work import Kind
from cnnpar.storage.checkpoint import read
from cnnpar.storage.packing import unpack
from cnnpar.storage.saver import Saver
from cnnpar.training import loop
from scripts.chaos.processes import descendants
from tests.helpers.commands import call, read_until, start
from tests.helpers.limits import HANGING
from tests.helpers.observers import Stopping
from tests.helpers.run_files import assert_same_run
from tests.helpers.tiny_runs import ROOT, settings, train, write_csv

# The process signals itself, from a moment of the run on, whenever it opens, renames or removes a file or imports a
# module, in whatever thread, and once more when Python itself ends.
STORM = """
import atexit, os, signal, sys
begin, number = sys.argv[1], int(sys.argv[2])
def storm(event, arguments):
    global begin
    if event == "os.rename" and str(arguments[1]).endswith(begin):
        begin = ""
    if not begin and event in ("open", "os.rename", "os.remove", "import"):
        os.kill(os.getpid(), number)
sys.addaudithook(storm)
atexit.register(lambda: os.kill(os.getpid(), number))
from cnnpar.cli import programs
sys.argv = ["cnnpar-train", *sys.argv[3:]]
programs.main_train()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    wanted = settings(write_csv(Path("train.csv")), train={"epochs": 10_000})
    Path("tiny.toml").write_text(to_toml(wanted))
    return tmp_path


@pytest.mark.parametrize(
    ("moment", "number", "code"),
    [
        ("model.json", signal.SIGTERM, 143),
        pytest.param("config.toml", signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param("accuracy.png", signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param("model.json", signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_storm_of_signals_leaves_a_good_checkpoint(
    here: Path, moment: str, number: signal.Signals, code: int
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", STORM, moment, str(int(number)), "--config", "tiny.toml", "--run-dir", "run"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=HANGING)
    assert done.returncode == code
    assert re.fullmatch(rf"{number.name} once more: waiting for the [a-z, ]+; then the run ends\n", done.stderr)
    assert f"stopped by {number.name} after step " in done.stdout
    assert "weights sha256" in done.stdout
    state = unpack(read("run/model.json"), "")[1]
    assert f"{state.step:,}; go on with" in done.stdout
    assert {path.name for path in Path("run").iterdir()} <= {
        *("model.json", "model.prev.json", "best.json", "metrics.jsonl", "config.toml", "accuracy.png")
    }


def test_a_signal_saves_and_prints_the_command_that_resumes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = ["--epochs", 3000, "--run-dir", "my run", "--to-path", "my model.json"]
    with start("cnnpar-train", "--config", "tiny.toml", *changes, cwd=here) as process:
        read_until(process, "epoch    2/")
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        out, err = process.communicate(timeout=HANGING)
    assert (process.returncode, err) == (130, "")
    assert time.monotonic() - began < 3  # then `ray job stop` kills
    stopped = read("my model.json").state
    assert Path("my run/accuracy.png").read_bytes().startswith(b"\x89PNG")
    lines = out.splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("stopped by SIGINT after step "))
    program, *arguments = shlex.split(lines[place + 1])
    assert call(program, *arguments, "--epochs", stopped.epoch + 1, "--json") == 0
    out, err = capsys.readouterr()
    summary: dict[str, Any] = json.loads(out)
    assert (summary["epochs"], summary["run_dir"], summary["checkpoint"]) == (
        stopped.epoch + 1,
        "my run",
        "my model.json",
    )
    assert f"resumed from my model.json after {stopped.epoch} epochs, step {stopped.step:,}" in err


@pytest.mark.parametrize(
    ("number", "code", "told"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_signals_before_training_end_the_command_in_one_line(
    here: Path, number: signal.Signals, code: int, told: str
) -> None:
    os.mkfifo("slow.csv")  # nobody writes into it: loading waits
    arguments = ["--workers", 0, "--train-data", "slow.csv", "--run-dir", "r"]
    with start("cnnpar-train", *arguments, cwd=here) as process:
        descriptor = os.open("slow.csv", os.O_WRONLY)  # returns when the process has begun to read
        for _ in range(3):
            process.send_signal(number)
        out, err = process.communicate(timeout=HANGING)
        os.close(descriptor)
    assert (process.returncode, out, err) == (code, "", f"cnnpar-train: {told}\n")
    assert not Path("r").exists()


@pytest.mark.parametrize("kind", [Kind.VALIDATION, Kind.TEST])
def test_an_evaluation_that_was_stopped_is_repeated(here: Path, kind: Kind) -> None:
    wanted = settings(Path("train.csv"), data={"test": "train.csv"})
    whole = train(wanted, Path("whole"))

    def stop(frame: FrameType, event: str, _: object) -> None:
        """Raise a signal when that evaluation has begun."""
        if frame.f_code is Server.evaluate.__code__ and event == "call" and frame.f_locals["kind"] is kind:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGTERM)

    sys.setprofile(stop)
    try:
        part = train(wanted, Path("cut"))
    finally:
        sys.setprofile(None)
    assert (part.stopped_by, part.steps, part.test_accuracy) == ("SIGTERM", 5 if kind is Kind.VALIDATION else 15, None)
    assert part.epochs == (0 if kind is Kind.VALIDATION else 3)
    last = train(wanted, None, Path("cut/model.json"))
    assert (last.stopped_by, last.test_accuracy) == (None, whole.test_accuracy)
    assert_same_run(Path("whole"), Path("cut"))


@pytest.mark.parametrize(
    ("closing", "what"),
    [
        (loop.train, "the step under way, and then for its checkpoint"),
        (Saver.close, "the newest checkpoint to be written"),
        (Server.close, "the workers to end"),
    ],
)
def test_a_second_signal_says_once_what_is_waited_for(
    here: Path, capfd: pytest.CaptureFixture[str], closing: Any, what: str
) -> None:
    wanted = settings(Path("train.csv"), train={"epochs": 10_000})

    def insist(frame: FrameType, event: str, _: object) -> None:
        """Raise signals when that function has begun."""
        if frame.f_code is closing.__code__ and event == "call":
            sys.setprofile(None)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.raise_signal(number)

    sys.setprofile(insist)
    try:
        stopped = train(wanted, Path("cut"), progress=Stopping(7))
    finally:
        sys.setprofile(None)
    name = "SIGTERM" if closing is not loop.train else "SIGINT"
    assert stopped.stopped_by == name
    second = {"the step": "SIGTERM"}.get(what[:8], "SIGINT")
    assert capfd.readouterr() == ("", f"{second} once more: waiting for {what}; then the run ends\n")
    assert read("cut/model.json").state.step == stopped.steps


def test_an_ignored_sigint_is_told_in_the_first_line(here: Path) -> None:
    begin = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    code = "import sys; from cnnpar.cli import programs; programs.main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", begin + code, "train", "--config", "tiny.toml", "--epochs", "3000"]
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = f"SIGINT is ignored, as it was when the command started; `kill -TERM {process.pid}` stops the run\n"
        assert process.stdout.readline() == told
        process.send_signal(signal.SIGINT)
        read_until(process, "epoch    9/")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=HANGING)
    assert process.returncode == 143
    assert "stopped by SIGTERM" in out


def test_an_ignored_sighup_stays_ignored(here: Path) -> None:
    ignoring = (
        "import os, signal, sys\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\nos.execv(sys.argv[1], sys.argv[1:])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [
        sys.executable,
        "-c",
        ignoring,
        sys.executable,
        "-m",
        "cnnpar",
        "train",
        "--config",
        "tiny.toml",
        "--epochs",
        "3000",
    ]
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True) as process:  # as nohup does
        read_until(process, "epoch    2/")
        process.send_signal(signal.SIGHUP)
        read_until(process, "epoch    9/")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=HANGING)
    assert process.returncode == 143
    assert "stopped by SIGTERM" in out


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_ray_starts_ends_with_one_line(tmp_path: Path, number: signal.Signals, code: int) -> None:
    line = [sys.executable, "-m", "cnnpar", "train", "--workers", "1", "--run-dir", "run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(line, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while not any("raylet/raylet" in child.title for child in descendants(process.pid)):
            assert process.poll() is None
        process.send_signal(number)
        _, err = process.communicate(timeout=HANGING)
    assert process.returncode == code
    assert err == f"cnnpar: {'terminated' if number is signal.SIGTERM else 'interrupted'}\n"
    assert not (tmp_path / "run").exists()
