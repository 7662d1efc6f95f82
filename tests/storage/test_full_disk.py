"""Disks that fail during a run: it goes on, warns once, keeps the last good checkpoint, and saves when it can again."""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import msgspec
import pytest

from cnnpar.cli import console
from cnnpar.cli.commands import train_app
from cnnpar.config.resolve import to_toml
from cnnpar.config.sections import Config
from cnnpar.errors import RunError
from cnnpar.report.progress import Progress
from cnnpar.run.recorder import Recorder
from cnnpar.storage.checkpoint import read
from cnnpar.storage.packing import unpack
from cnnpar.storage.rundir import RunFiles
from cnnpar.storage.saver import Saver
from cnnpar.training import loop
from tests.helpers.checkpoints import made_state, packed
from tests.helpers.limits import HANGING
from tests.helpers.observers import wait_for_step
from tests.helpers.run_files import assert_same_run
from tests.helpers.tiny_runs import ROOT, settings, train, write_csv

Change = Callable[[Path], contextlib.AbstractContextManager[object]]
BEGIN, SEEN, END = 6, 8, 12  # steps of 15: the trouble begins, is noticed, and ends where it ends


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the states of runs that cannot be saved in their place go to a folder of the test's."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def wanted(tmp_path: Path) -> Config:
    """Return settings of a run that is saved after every step."""
    return settings(write_csv(tmp_path / "train.csv"), checkpoint={"every_seconds": 1e-9})


class Troubled(Progress):
    """Begin a disk error in the middle of a run, and end it there or at the end of a `with`."""

    def __init__(self, run: Path, change: Change, ends: bool) -> None:
        super().__init__("quiet")
        self.run, self.change, self.ends = run, change, ends
        self.trouble = contextlib.ExitStack()
        self.notes: list[str] = []
        self.noticed = threading.Event()

    def __enter__(self) -> "Troubled":
        return self

    def __exit__(self, *_: object) -> None:
        self.trouble.close()

    def step(self, epoch: int, step: int, *rest: object) -> None:
        if step == BEGIN - 1:
            wait_for_step(self.run / "model.json", 1, lambda: None)
        if step == BEGIN:
            while read(self.run / "model.json").state.epoch == 0:  # then all that was to be saved is
                os.sched_yield()
            self.trouble.enter_context(self.change(self.run))
        if step == SEEN:
            assert self.noticed.wait(HANGING)
        if step == END and self.ends:
            self.trouble.close()

    def note(self, text: str) -> None:
        self.notes.append(text)
        if "cannot write the checkpoint" in text:
            self.noticed.set()

    def about(self, words: str) -> list[str]:
        return [note for note in self.notes if words in note]


@contextlib.contextmanager
def full(run: Path) -> Iterator[None]:
    """Limit the size of files to 5 bytes more than the metrics have: writing fails half way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    metrics = run / "metrics.jsonl"
    resource.setrlimit(resource.RLIMIT_FSIZE, ((metrics.stat().st_size if metrics.exists() else 0) + 5, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def gone(run: Path) -> Iterator[None]:
    """Remove the run's directory, of which a copy is kept."""
    shutil.copytree(run, run.with_name("kept"))
    shutil.rmtree(run)
    yield
    shutil.move(run.with_name("kept"), run)


@contextlib.contextmanager
def parent_is_a_file(run: Path) -> Iterator[None]:
    """Remove the run's directory with its parent, in whose place a file is put."""
    shutil.copytree(run.parent, run.parent.with_name("kept"))
    shutil.rmtree(run.parent)
    run.parent.write_text("")
    yield
    run.parent.unlink()
    shutil.move(run.parent.with_name("kept"), run.parent)


@contextlib.contextmanager
def immutable(run: Path) -> Iterator[None]:
    """Make files that not even root may replace, as on a read-only mount."""
    files = [run / "model.json", run / "metrics.jsonl"]
    if subprocess.run(["chattr", "+i", *files], capture_output=True, check=False).returncode:
        pytest.skip("files cannot be made immutable here")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *files], check=True)


TROUBLES = {
    "full": (full, "File too large"),
    "gone": (gone, "No such file or directory"),
    "parent is a file": (parent_is_a_file, "Not a directory"),
    "immutable": (immutable, "Operation not permitted"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_lasting_disk_error_keeps_the_last_good_checkpoint(
    tmp_path: Path, temporary_folder: Path, wanted: Config, trouble: str
) -> None:
    change, reason = TROUBLES[trouble]
    run = tmp_path / "parent" / "run"
    with (
        Troubled(run, change, ends=False) as progress,
        pytest.raises(RunError, match=rf"^{run}/model\.json: cannot write the newest checkpoint: {reason}") as caught,
    ):
        train(wanted, run, progress=progress)
    places = [*temporary_folder.glob("model-*-step-15.json"), *run.glob("model-*-step-15.json")]
    assert bool(places) == (trouble != "full")  # there no file can be written anywhere
    for place in places:
        assert str(caught.value).endswith(f"it is {place} now")
        assert unpack(read(place), "")[1].step == 15
        place.unlink()
    assert unpack(read(run / "model.json"), "")[1].step == BEGIN - 1
    assert len(progress.about("cannot write the checkpoint")) == 1
    assert len(progress.about("cannot write metrics")) <= 1
    assert not list(run.glob(".*.tmp"))


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_passing_disk_error_changes_no_checkpoint(tmp_path: Path, wanted: Config, trouble: str) -> None:
    change, reason = TROUBLES[trouble]
    run = tmp_path / "parent" / "run"
    with Troubled(run, change, ends=True) as progress:
        summary = train(wanted, run, progress=progress)
    assert train(wanted, tmp_path / "whole").weights_sha256 == summary.weights_sha256
    assert len(progress.about(f"cannot write the checkpoint: {reason}; training goes on")) == 1
    assert len(progress.about("checkpoints are written again")) == 1
    assert progress.about("cannot write metrics")  # its lines are lost
    shutil.copy(tmp_path / "whole" / "metrics.jsonl", run)
    assert_same_run(tmp_path / "whole", run)


@contextlib.contextmanager
def unwritable(run: Path) -> Iterator[None]:
    """Let writing of the metrics fail, and that of checkpoints succeed: no link is followed."""
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").symlink_to("/dev/full")
    yield


def test_unwritable_config_and_metrics_lose_no_checkpoint(tmp_path: Path, wanted: Config) -> None:
    run = tmp_path / "run"
    (run / "config.toml").mkdir(parents=True)
    with Troubled(run, unwritable, ends=False) as progress:
        progress.noticed.set()  # the checkpoints are not what is in trouble
        train(wanted, run, progress=progress)
    assert unpack(read(run / "model.json"), "")[1].epoch == 3
    assert [note.rpartition("/")[2] for note in progress.about("cannot")] == [
        "config.toml: cannot write: Is a directory",
        "metrics.jsonl: cannot write metrics: Too many levels of symbolic links; training goes on",
    ]


def test_unwritable_picture_is_warned_of_once_per_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    progress, state, now = Troubled(tmp_path, contextlib.nullcontext, ends=False), made_state(), 0.0
    files = RunFiles.at(tmp_path / "run", None)
    saver = Saver(progress.note)
    recorder = Recorder(Config(), files, progress, packed, saver, None, lambda: False, lambda: now)
    for occupied in (None, None, files.picture, files.picture):
        now += 1e6
        if occupied:
            occupied.mkdir(parents=True, exist_ok=True)
        recorder.epoch_done(state, state.history[-1])
    recorder.close(state)
    assert [note.rpartition(": ")[2] for note in progress.about("cannot draw")] == [
        "No such file or directory",
        "Is a directory",
    ]


def test_full_disk_at_the_start_exits_with_2_untrained(
    tmp_path: Path, wanted: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.toml").write_text(to_toml(wanted))
    run = tmp_path / "run"
    run.mkdir()
    with full(run):
        options = ["--config", tmp_path / "tiny.toml", "--run-dir", run, "--resume", "auto", "--json"]
        assert console.run(train_app, [str(option) for option in options]) == 2
    error = (
        f"cnnpar-train: error: {run}/model.json: cannot write checkpoints there: File too large; nothing was trained"
    )
    assert capsys.readouterr() == ("", f"{error}\n")
    assert list(run.iterdir()) == []


def test_full_disk_at_the_end_exits_with_1(tmp_path: Path, wanted: Config, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.toml").write_text(to_toml(wanted))
    run = tmp_path / "run"
    with contextlib.ExitStack() as trouble:

        def begin(frame: FrameType, event: str, _: object) -> None:
            """Fill the disk when the first checkpoint is written, and training begins."""
            if frame.f_code is loop.train.__code__ and event == "call":
                sys.setprofile(None)
                trouble.enter_context(full(run))

        options = ["--config", tmp_path / "tiny.toml", "--run-dir", run, "--resume", "auto", "--json"]
        sys.setprofile(begin)
        try:
            assert console.run(train_app, [str(option) for option in options]) == 1
        finally:
            sys.setprofile(None)
    out, err = capsys.readouterr()
    assert msgspec.json.decode(out)["steps"] == 15  # the result is told all the same
    last = err.splitlines()[-1]
    assert last.startswith(f"cnnpar-train: error: {run}/model.json: cannot write the newest checkpoint: File too large")
    assert err.count("cannot write the checkpoint") <= 1
    assert {path.name for path in run.iterdir()} == {"model.json", "config.toml", "metrics.jsonl"}
    assert read(run / "model.json").state.step == 0


# In a name space of its own this process may mount a disk so small that the checkpoints fit, and little else.
SMALL_DISK = """
import contextlib, shutil, sys
from pathlib import Path
from cnnpar.errors import RunError
from cnnpar.storage.checkpoint import read
from tests.helpers import tiny_runs
from tests.storage import test_full_disk

run = Path(sys.argv[1]) / "run"

@contextlib.contextmanager
def filled(run):
    with contextlib.suppress(OSError), (run / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(512)):
            pass
    yield
    (run / "filler").unlink()

wanted = tiny_runs.settings(tiny_runs.write_csv(Path("train.csv")), checkpoint={"every_seconds": 1e-9})
with test_full_disk.Troubled(run, filled, ends=False) as progress:
    try:
        tiny_runs.train(wanted, run, progress=progress)
    except RunError as error:
        print(error)
    print(read(run / "model.json").state.step, len(progress.about("cannot write the checkpoint")))
print(tiny_runs.train(wanted, None, run / "model.json").weights_sha256)
"""


@pytest.mark.slow
def test_a_run_resumes_on_a_disk_that_was_full(tmp_path: Path, wanted: Config) -> None:
    (tmp_path / "small").mkdir()
    words = 'mount -t tmpfs -o size=200k small small && exec "$0" -c "$1" small'
    line = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", words, sys.executable, SMALL_DISK]
    if not shutil.which("unshare") or subprocess.run([*line[:4], "true"], capture_output=True, check=False).returncode:
        pytest.skip("no name spaces for users here")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    error, saved, digest = done.stdout.splitlines()
    assert error.startswith("small/run/model.json: cannot write the newest checkpoint: No space left on device")
    assert saved == f"{BEGIN - 1} 1"
    assert digest == train(wanted, tmp_path / "whole").weights_sha256
