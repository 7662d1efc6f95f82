"""Locks: one run at a time in a directory, also on file systems without locks, and errors that name the other run."""

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from cnnpar.errors import InputError
from cnnpar.storage.atomic import write
from cnnpar.storage.checkpoint import encode
from cnnpar.storage.lock import locked, require_free
from tests.helpers.checkpoints import made_state, packed
from tests.helpers.run_files import make_odd
from tests.helpers.tiny_runs import ROOT

HOLD = (
    "import sys\nfrom pathlib import Path\nfrom cnnpar.storage.lock import locked\n"
    "with locked(Path(), print):\n    print('locked', flush=True)\n    sys.stdin.read()"
)
# flock fails as on a file system without locks: a system call filter of the kernel says so (x86-64).
WITHOUT_LOCKS = """
import ctypes, struct
FLOCK, ALLOW, FAIL = 73, 0x7FFF0000, 0x00050000
program = b"".join(struct.pack("HBBI", *line) for line in [
    (0x20, 0, 0, 0), (0x15, 0, 1, FLOCK), (0x06, 0, 0, FAIL | %d), (0x06, 0, 0, ALLOW)])
libc, code = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(program)
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(code)))
libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
if libc.prctl(22, 2, filter, 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    print("no filter", flush=True)
    raise SystemExit(3)
"""
HERE = socket.gethostname()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def process(code: str) -> Iterator["subprocess.Popen[str]"]:
    """Run code in another process in this directory, killed at the end of the block."""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, **streams) as other:  # type: ignore[call-overload]
        yield other
        other.kill()


def said(other: "subprocess.Popen[str]") -> str:
    assert other.stdout is not None
    return other.stdout.readline().strip()


def take() -> None:
    with locked(Path(), pytest.fail):
        assert json.loads(Path(".running").read_text())["pid"] == os.getpid()


def test_directory_in_use_is_refused_by_process_host_and_time() -> None:
    with process(HOLD) as other:
        assert said(other) == "locked"
        told = rf"^\.: another run is under way there \(process {other.pid} on host {HERE}, since \d{{4}}-.*; stop it"
        with pytest.raises(InputError, match=told):
            take()
        with pytest.raises(InputError, match=told):
            require_free(Path())
        Path(".running").write_text("{")  # the lock decides, not the note
        with pytest.raises(InputError, match="by whom is not known"):
            take()


def test_the_lock_of_a_killed_process_does_not_hinder_a_run() -> None:
    with process(HOLD) as other:
        assert said(other) == "locked"
        other.kill()
        other.wait()
        assert Path(".running").exists()
        require_free(Path())
        take()
    assert list(Path().iterdir()) == []
    require_free(Path("absent"))


def test_the_running_file_of_another_run_is_not_removed() -> None:
    with locked(Path(), pytest.fail):
        Path(".running").write_text("other")  # as in a directory that has taken the place of this one
    assert Path(".running").read_text() == "other"


def test_an_unwritable_running_file_does_not_hinder_a_run() -> None:
    Path(".running").mkdir()
    with locked(Path(), pytest.fail):
        pass
    assert Path(".running").is_dir()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system calls have other numbers elsewhere")
@pytest.mark.parametrize(
    "error", [pytest.param(errno.ENOTSUP, marks=pytest.mark.slow), errno.EBADF], ids=["none", "nfs"]
)
def test_without_flock_the_process_in_the_running_file_decides(error: int) -> None:
    def outcome(note: str) -> tuple[str, str]:
        Path(".running").write_text(note)
        with process(WITHOUT_LOCKS % error + HOLD) as other:
            out, err = other.communicate("")
        if out == "no filter\n":
            pytest.skip("no system call filters here")
        return out.strip(), err.strip().rpartition("\n")[2]

    def note(host: str, pid: int) -> str:
        return json.dumps({"host": host, "pid": pid, "since": "2026-11-23 21:40+00:00"})

    with process("input()") as living:
        out, err = outcome(note(HERE, living.pid))
        assert out == ""
        assert f"InputError: .: another run is under way there (process {living.pid} on host {HERE}, since 2026" in err
        assert err.endswith("if it does something else, delete .running")
        elsewhere = note("far.example", living.pid)
    assert outcome(note(HERE, living.pid)) == ("locked", "")
    warning = (
        f".: be sure that this is over: process {living.pid} on host far.example, since 2026-11-23 21:40+00:00 "
        "(this file system has no locks that would tell)"
    )
    assert outcome(elsewhere) == (f"{warning}\nlocked", "")
    assert outcome("") == ("locked", "")


def test_a_directory_that_another_run_made_anew_is_not_taken() -> None:
    ours = Path("run")
    ours.mkdir()
    with locked(ours, pytest.fail) as claim:
        claim.folder_of(ours / "model.json")
        ours.joinpath(".running").unlink()
        ours.rmdir()
        with pytest.raises(FileNotFoundError):
            claim.folder_of(ours / "model.json")
        ours.mkdir()
        claim.folder_of(ours / "model.json")  # nobody's: it is ours
        with pytest.raises(InputError, match="another run is under way"):
            require_free(ours)
        shutil.rmtree(ours)
        ours.mkdir()
        with process(HOLD.replace("Path()", "Path('run')")) as other:
            assert said(other) == "locked"
            for _ in range(2):
                with pytest.raises(OSError, match="another run has taken its place"):
                    claim.folder_of(ours / "model.json")
        note = (ours / ".running").read_bytes()
    assert (ours / ".running").read_bytes() == note  # the other's


@pytest.mark.parametrize(
    ("name", "content", "taken"),
    [
        ("best.json", lambda: encode(packed(replace(made_state(), run_id="b" * 32))), False),
        ("best.json", lambda: encode(packed(replace(made_state(), run_id="a" * 32))), True),
        ("model.json", lambda: encode(packed(made_state())), False),
        ("metrics.jsonl", lambda: b"", False),
        ("notes.txt", lambda: b"", True),
    ],
)
def test_a_directory_with_files_of_another_run_is_not_taken(
    name: str, content: Callable[[], bytes], taken: bool
) -> None:
    run = Path("run")
    run.mkdir()
    with locked(run, pytest.fail, run_id="a" * 32) as claim:
        assert json.loads((run / ".running").read_text())["run_id"] == "a" * 32
        shutil.rmtree(run)
        run.mkdir()
        (run / name).write_bytes(content())
        with nullcontext() if taken else pytest.raises(OSError, match="files of another run have taken its place"):
            claim.folder_of(run / "model.json")
        assert (run / ".running").exists() == taken


def test_a_moved_directory_is_written_to_where_it_is() -> None:
    warnings: list[str] = []
    run = Path("run")
    run.mkdir()
    with locked(run, warnings.append) as claim:
        assert claim.place_of(run / "model.json") == run / "model.json"
        run.rename("away")
        for _ in range(2):
            write(run / "model.json", b"ours", folder=claim.folder_of(run / "model.json"))
        run.mkdir()
        write(run / "best.json", b"ours", folder=claim.folder_of(run / "best.json"))
        require_free(run)  # it is not the run's
        assert claim.place_of(run / "model.json") == Path("away/model.json").resolve()
        assert warnings == [
            f"run: was moved, and the run goes on writing its files where they are: {Path('away').resolve()}"
        ]
    assert list(run.iterdir()) == []
    assert {path.name for path in Path("away").iterdir()} == {"model.json", "best.json"}  # and no note


def test_a_directory_in_use_takes_no_checkpoint_of_another_run() -> None:
    """Neither under a name that its own run writes, nor under any other."""
    first, second = Path("first"), Path("second")
    for folder in (first, second):
        folder.mkdir()
    for name in ("model.json", "best.json", "mine.json"):
        with locked(first, pytest.fail), pytest.raises(InputError, match=r"^first: another run .*--to-path"):
            locked(second, pytest.fail, first / name).__enter__()
        told = rf"^first: another run .*process {os.getpid()} .*--run-dir"
        with locked(second, pytest.fail, first / name), pytest.raises(InputError, match=told):
            locked(first, pytest.fail).__enter__()
    assert [list(folder.iterdir()) for folder in (first, second)] == [[], []]


def test_a_removed_folder_of_to_path_is_locked_again() -> None:
    run, other, file = Path("run"), Path("other"), Path("models/m.json")
    for folder in (run, other, file.parent):
        folder.mkdir()
    with locked(run, pytest.fail, file) as claim:
        shutil.rmtree(file.parent)
        with pytest.raises(FileNotFoundError):
            claim.folder_of(file)
        file.parent.mkdir()
        write(file, b"ours", folder=claim.folder_of(file))
        with pytest.raises(InputError, match=rf"^models/m.json: another run .*process {os.getpid()}"):
            locked(other, pytest.fail, file).__enter__()
        shutil.rmtree(file.parent)
        file.parent.mkdir()
        with locked(other, pytest.fail, file):
            for _ in range(2):
                with pytest.raises(OSError, match="another run has taken its place"):
                    claim.folder_of(file)
        write(file, b"ours", folder=claim.folder_of(file))
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("kind", ["link", "broken link", "pipe", "zero"])
def test_what_stands_in_place_of_a_note_is_not_opened(kind: str) -> None:
    run, file = Path("run"), Path("models/m.json")
    for folder in (run, file.parent):
        folder.mkdir()
    Path("precious").write_text("mine")
    for note in (run / ".running", file.parent / ".m.json.running"):
        make_odd(note, kind)
    with locked(run, pytest.fail):
        assert json.loads((run / ".running").read_text())["pid"] == os.getpid()
    with pytest.raises(InputError, match=r"^models/\.m\.json\.running: cannot write there: "):
        locked(run, pytest.fail, file).__enter__()
    require_free(run)
    assert Path("precious").read_text() == "mine"
    assert not Path("nowhere").exists()


def test_a_to_path_file_has_one_run_at_a_time() -> None:
    first, second, file = Path("first"), Path("second"), Path("models") / "best.json"
    for folder in (first, second, file.parent):
        folder.mkdir()
    with locked(first, pytest.fail, file):
        with pytest.raises(InputError, match=rf"models/best.json: another run .*process {os.getpid()} .*--to-path"):
            locked(second, pytest.fail, file).__enter__()
        require_free(second)
        with locked(second, pytest.fail, file.with_name("other.json")):
            pass
    with locked(second, pytest.fail, file):
        pass
    assert list(file.parent.iterdir()) == []
