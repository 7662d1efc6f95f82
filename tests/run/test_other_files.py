"""Whose files are in a run's directory: of another run, moved away with it, or no files at all."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from cnnpar.config.resolve import to_toml
from cnnpar.config.sections import Config
from cnnpar.errors import InputError, RunError
from cnnpar.report.progress import Progress
from cnnpar.run.prepare import prepare
from cnnpar.run.stop import StopSignal
from cnnpar.run.train import train_run
from cnnpar.storage.checkpoint import encode, read
from cnnpar.storage.rundir import Place
from tests.helpers.commands import call
from tests.helpers.observers import Patient, Stopping
from tests.helpers.run_files import assert_same_run, make_odd
from tests.helpers.tiny_runs import ROOT, settings, train, write_csv

pytestmark = pytest.mark.usefixtures("in_time")
ODD = ["link", "broken link", "pipe", "zero", "folder"]


@pytest.fixture(autouse=True)
def wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Return settings of a run that is saved after every step, in a folder with a file that nothing may touch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))  # for states that cannot be saved in place
    Path("temporary").mkdir()
    Path("precious").write_text("mine")
    found = settings(write_csv(Path("train.csv")), checkpoint={"every_seconds": 1e-9})
    Path("tiny.toml").write_text(to_toml(found))
    return found


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


class Meanwhile(Progress):
    """Do something to the files after six steps, once the checkpoint of the first epoch is written."""

    def __init__(self, deed: Callable[[], object], model: str = "run/model.json") -> None:
        super().__init__("quiet")
        self.deed, self.model, self.notes = deed, Path(model), list[str]()

    def step(self, epoch: int, step: int, *rest: object) -> None:
        if step == 6:
            while read(self.model).state.epoch == 0:  # then all that was to be saved is
                os.sched_yield()
            self.deed()

    def start(self, lines: Sequence[str], *rest: object) -> None:
        """Begin without a headline."""

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_run_keeps_its_id_over_resumes(wanted: Config, capsys: pytest.CaptureFixture[str]) -> None:
    whole = train(wanted, Path("whole"))
    for step in (3, 7, 11):
        train(wanted, Path("run"), Path("run/model.json") if step > 3 else None, Stopping(step))
    last = train(wanted, None, Path("run/model.json"))
    ids = {read(path).state.run_id for path in Path("run").glob("*.json")}
    assert len(ids) == 1
    assert ids != {read("whole/model.json").state.run_id}
    assert last.weights_sha256 == whole.weights_sha256
    assert call("cnnpar", "inspect", "run", "--json") == 0
    assert {json.loads(capsys.readouterr().out)["run_id"]} == ids


def test_a_run_that_was_moved_away_writes_nothing_into_another(wanted: Config) -> None:
    train(settings(Path("train.csv"), train={"seed": 1}), Path("other"))
    before = contents("other")

    def swap() -> None:
        Path("run").rename("away")
        Path("other").rename("run")

    progress = Meanwhile(swap)
    summary = train(wanted, Path("run"), progress=progress)
    away = Path("away").resolve()
    assert contents("run") == before
    assert progress.notes == [f"run: was moved, and the run goes on writing its files where they are: {away}"]
    assert (summary.run_dir, summary.checkpoint) == (str(away), str(away / "model.json"))
    assert summary.best_checkpoint == str(away / "best.json")
    train(wanted, Path("whole"))
    assert_same_run(Path("whole"), away)
    assert ".running" not in contents("away")


def test_a_moved_folder_of_to_path_is_written_to(wanted: Config) -> None:
    def swap() -> None:
        Path("models").rename("away")
        Path("models").mkdir()
        Path("models/m.json").write_text("mine")

    progress = Meanwhile(swap, "models/m.json")
    summary = train(wanted, Path("run"), progress=progress, to_path=Path("models/m.json"))
    assert contents("models") == {"m.json": b"mine"}
    assert summary.checkpoint == str(Path("away/m.json").resolve())
    assert read(summary.checkpoint).state.step == 15
    assert len(progress.notes) == 1
    assert set(contents("away")) <= {"m.json", "m.prev.json"}


@pytest.mark.parametrize("moved", [True, False])
def test_a_rescued_state_goes_into_no_folder_of_another_run(wanted: Config, moved: bool) -> None:
    train(settings(Path("train.csv"), train={"seed": 1}), Path("other"))
    before = contents("other")

    def swap() -> None:
        Path("run").rename("away")
        Path("other").rename("run")
        Path("away/model.json").unlink()
        Path("away/model.json").mkdir()
        if not moved:
            shutil.rmtree("away")

    with pytest.raises(RunError, match=r"^run/model\.json: cannot write the newest checkpoint: .* now$") as caught:
        train(wanted, Path("run"), progress=Meanwhile(swap))
    assert contents("run") == before
    (rescued,) = Path("away" if moved else "temporary").resolve().glob("model-*-step-15.json")
    assert str(caught.value).endswith(f"; it is {rescued} now")
    assert read(rescued).state.step == 15


@pytest.mark.parametrize("name", ["model.json", "best.json"])
def test_a_checkpoint_of_another_run_is_not_replaced(wanted: Config, name: str) -> None:
    train(settings(Path("train.csv"), train={"seed": 1}), Path("other"))
    other = Path("other", name).read_bytes()
    progress = Meanwhile(lambda: shutil.copy(Path("other", name), "run"))
    with pytest.raises(RunError, match=rf"^run/{name}: cannot write .* checkpoint.*: is the checkpoint of another run"):
        train(wanted, Path("run"), progress=progress)
    assert Path("run", name).read_bytes() == other


def test_the_one_before_of_another_run_is_not_replaced(wanted: Config) -> None:
    train(settings(Path("train.csv"), train={"seed": 1}), Path("other"))
    before = Path("other/model.json").read_bytes()
    progress = Meanwhile(lambda: shutil.copy("other/model.json", "run/model.prev.json"))
    assert train(wanted, Path("run"), progress=progress).steps == 15
    assert Path("run/model.prev.json").read_bytes() == before
    assert read("run/model.json").state.step == 15
    assert [note.partition(",")[0] for note in progress.notes] == [
        "run/model.prev.json: is the checkpoint of another run"
    ]


def test_checkpoints_of_another_run_are_refused_at_the_start(wanted: Config) -> None:
    train(settings(Path("train.csv"), train={"seed": 1}), Path("other"))
    for name in ("best.json", "model.prev.json"):
        Path(name).mkdir()
        shutil.copy("other/model.json", Path(name, name))
        before = contents(name)
        with pytest.raises(InputError, match=f"^{name}/{name}: is there already, of another run"):
            train(wanted, Path(name))
        assert contents(name) == before
        train(wanted, Path("run-" + name), progress=Stopping(7))
        shutil.copy("other/model.json", Path("run-" + name, name))
        with pytest.raises(InputError, match=f"^run-{name}/{name}: .* is the checkpoint of another run; nothing was"):
            train(wanted, None, Path("run-" + name, "model.json"))


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize(
    "name",
    [
        "model.json",
        "metrics.jsonl",
        *(pytest.param(f"{name}.json", marks=pytest.mark.slow) for name in ("model.prev", "best")),
    ],
)
def test_what_is_no_file_of_a_run_is_refused_at_once(
    wanted: Config, capsys: pytest.CaptureFixture[str], name: str, kind: str
) -> None:
    Path("new").mkdir()
    train(wanted, Path("old"), progress=Stopping(7))
    Path("old/model.json").rename("old/best.json")
    resumed = "old/model.prev.json" if name == "best.json" else "old/best.json"
    for folder, options in (("new", ["--config", "tiny.toml", "--run-dir", "new"]), ("old", ["--resume", resumed])):
        odd = Path(folder, name)
        odd.unlink(missing_ok=True)
        if folder == "old" and not Path(resumed).exists():
            shutil.copy("old/best.json", resumed)
        make_odd(odd, kind)
        before = sorted(Path(folder).iterdir())
        assert call("cnnpar-train", *options) == 2
        err = capsys.readouterr().err
        assert err.startswith("cnnpar-train: error: ")
        assert err.count("\n") == 1
        assert folder in err
        assert sorted(Path(folder).iterdir()) == before
    assert Path("precious").read_text() == "mine"
    assert not Path("nowhere").exists()


@pytest.mark.parametrize("kind", ODD)
def test_temporary_names_are_taken_or_refused_at_once(
    wanted: Config, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    for name in ("model.json", "best.json", "model.prev.json"):
        run = Path(f"run-{name}")
        run.mkdir()
        make_odd(run / f".{name}.tmp", kind)
        code = call("cnnpar-train", "--config", "tiny.toml", "--run-dir", run, "--quiet")
        assert code == (2 if kind == "folder" else 0)
        assert capsys.readouterr().err.count("\n") == (kind == "folder")
        assert (run / "model.json").exists() == (kind != "folder")
    assert Path("precious").read_text() == "mine"


@pytest.mark.parametrize("kind", ODD)
def test_what_is_planted_during_a_run_neither_hangs_nor_is_written(wanted: Config, kind: str) -> None:
    def plant() -> None:
        for name in ("model.json", "best.json", "metrics.jsonl", "accuracy.png", "config.toml"):
            path = Path("run", name)
            path.unlink(missing_ok=True)
            make_odd(path, kind)

    progress = Meanwhile(plant)
    if kind == "folder":
        with pytest.raises(RunError, match="cannot write the newest checkpoint: Is a directory"):
            train(wanted, Path("run"), progress=progress)
    else:
        assert train(wanted, Path("run"), progress=progress).steps == 15
        assert read("run/model.json").state.step == 15
        assert not Path("run/model.json").is_symlink()
    assert len([note for note in progress.notes if "cannot write metrics" in note]) == 1
    assert Path("precious").read_text() == "mine"
    assert not Path("nowhere").exists()


def test_class_names_that_no_json_holds_fail_before_a_step(wanted: Config) -> None:
    run = prepare(wanted, Place(Path("run")), None)
    names = ("\udcff", *run.preprocessing.class_names[1:])
    run = replace(run, preprocessing=msgspec.structs.replace(run.preprocessing, class_names=names))
    with StopSignal() as stop, pytest.raises(InputError, match=r"^run/model\.json: .*Unicode.*nothing was trained"):
        train_run(run, Progress("quiet"), stop)
    assert run.state.step == 0
    assert contents("run") == {}


def test_a_run_killed_in_its_first_epoch_resumes_from_step_0(wanted: Config) -> None:
    whole = train(wanted, Path("whole"))
    slow = settings(Path("train.csv"))  # no checkpoint is due before the end of an epoch

    class Killed(Patient):
        def step(self, epoch: int, step: int, *rest: object) -> None:
            if step == 3:
                shutil.copytree("run", "killed")
            super().step(epoch, step, *rest)

    train(slow, Path("run"), progress=Killed(Path("run/model.json")))
    assert read("killed/model.json").state.step == 0
    assert train(slow, None, Path("killed/model.json")).weights_sha256 == whole.weights_sha256
    assert_same_run(Path("run"), Path("killed"))


def test_an_id_that_is_none_is_refused(wanted: Config) -> None:
    train(wanted, Path("run"), progress=Stopping(7))
    payload = read("run/model.json")
    position = msgspec.structs.replace(payload.state, run_id="../" + "0" * 29)
    Path("run/model.json").write_bytes(encode(msgspec.structs.replace(payload, state=position)))
    with pytest.raises(InputError, match=r"\$\.payload\.state\.run_id"):
        read("run/model.json")


# All that a run writes, renames, links and removes in its directory goes through a descriptor, by a bare name.
WATCHED = """
import os, sys
run, by_path, by_name = sys.argv[1], [], set()
def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        paths = [path] if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else []
    elif event in ("os.rename", "os.link", "os.remove", "os.truncate", "os.symlink", "os.rmdir"):
        paths = [argument for argument in arguments if isinstance(argument, (str, os.PathLike))]
    else:
        return
    for path in paths:
        path = os.fsdecode(path) if not isinstance(path, int) else ""
        (by_path.append((event, path)) if path.startswith(run) else by_name.add(path))
sys.addaudithook(watch)
from cnnpar.cli import commands, console
code = console.run(commands.train_app, sys.argv[2:])
assert not by_path, by_path
print(code, *sorted(name for name in by_name if name and "/" not in name))
"""


@pytest.mark.slow
def test_every_write_of_a_run_is_relative_to_its_directory(tmp_path: Path, wanted: Config) -> None:
    run = tmp_path / "run"
    line = [sys.executable, "-c", WATCHED, str(run), "--config", "tiny.toml", "--run-dir", str(run), "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for more in ([], ["--resume", str(run), "--epochs", "4"]):
        done = subprocess.run([*line, *more], env=environment, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        code, *names = done.stdout.split()
        assert code == "0"
        replaced = {"model.json", "accuracy.png", "config.toml", ".running"} | ({"best.json"} if not more else set())
        temporary = {f".{name}.tmp" for name in replaced}
        assert {*replaced, *temporary, "metrics.jsonl", "model.prev.json"} <= set(names)
