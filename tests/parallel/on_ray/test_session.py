"""The private directory of a Ray of our own: where it is, who may enter, what ends with it, and what a kill leaves."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnnpar.errors import RunError
from cnnpar.parallel.on_ray import session as session_module
from cnnpar.parallel.on_ray.session import Session, end_abandoned

pytestmark = pytest.mark.usefixtures("in_time")

LONGEST_SOCKET = 107  # bytes of a Unix socket's path (unix(7))
KEEP_OPEN = "import sys; file = open(sys.argv[1], sys.argv[2]); print(flush=True); sys.stdin.read()"


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder of a short name for directories, and no other."""
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as name:
        monkeypatch.setattr(session_module, "_bases", lambda: [Path(name)])
        yield Path(name)


def with_file_open(path: Path, mode: str) -> subprocess.Popen[bytes]:
    """Start a process that has a file open until its standard input is closed."""
    command = [sys.executable, "-c", KEEP_OPEN, str(path), mode]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_only_this_user_can_enter_the_directory(base: Path) -> None:
    before = os.umask(0)
    try:
        session = Session()
    finally:
        os.umask(before)
    assert session.directory.parent == base
    assert stat.S_IMODE(session.directory.stat().st_mode) == 0o700
    assert session.temporary.parent == session.directory, "Ray lets everybody write to its own"
    session.end()
    assert not list(base.iterdir())


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_sockets_fit_whatever_the_environment_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setenv(name, str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)
    session = Session()
    socket = session.temporary / "session_2026-11-28_18-12-50_729639_4194304" / "sockets" / "plasma_store"
    assert len(os.fsencode(socket)) <= LONGEST_SOCKET
    session.end()


def test_a_folder_that_others_can_rename_in_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="o", dir="/tmp") as name:
        monkeypatch.setenv("RAY_TMPDIR", name)
        assert session_module._bases()[0] == Path(name)
        Path(name).chmod(0o777)
        assert Path(name) not in session_module._bases()
        Path(name).chmod(0o1777)
        assert session_module._bases()[0] == Path(name)


def test_without_a_folder_the_error_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "_bases", list)
    with pytest.raises(RunError, match="set TMPDIR to one, or use --workers 0"):
        Session()


@pytest.mark.usefixtures("base")
def test_processes_that_write_there_end_and_readers_do_not() -> None:
    session = Session()
    log = session.temporary / "log"
    writer, reader = with_file_open(log, "w"), with_file_open(log, "r")
    session.end()
    assert writer.wait() == -9
    assert reader.poll() is None
    reader.communicate()
    writer.communicate()


def test_the_next_start_ends_what_a_killed_run_has_left(base: Path) -> None:
    living = Session()
    dead = Session()
    left = with_file_open(dead.temporary / "log", "w")
    os.close(dead.lock)  # as the system does when the last process that has it is killed
    (base / "cnnpar-ray-elses").symlink_to("/")
    (base / "other").mkdir()
    end_abandoned()
    assert left.wait() == -9
    assert sorted(path.name for path in base.iterdir()) == sorted([living.directory.name, "cnnpar-ray-elses", "other"])
    living.end()
    left.communicate()


def test_a_directory_whose_start_has_only_begun_is_left_alone(base: Path) -> None:
    begun = base / ".cnnpar-ray-12345678"
    begun.mkdir()
    end_abandoned()
    assert begun.exists()
    os.utime(begun, (0, 0))
    end_abandoned()
    assert not begun.exists()


def test_a_directory_that_was_removed_half_way_is_removed(base: Path) -> None:
    session = Session()
    os.close(session.lock)
    (session.directory / "lock").unlink()
    end_abandoned()
    assert not list(base.iterdir())


def test_a_file_that_is_closed_meanwhile_hides_no_process(base: Path) -> None:
    file = base / "r" / "log"
    file.parent.mkdir()
    with file.open("w") as log:
        entry = Path(f"/proc/self/fd/{log.fileno()}")
        assert session_module._is_written(entry, f"{base}/r/")
    assert not session_module._is_written(entry, f"{base}/r/")


def test_without_a_folder_of_pythons_the_others_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)  # as when all disks are full
    assert Path("/tmp") in session_module._bases()


def test_a_pipe_in_place_of_the_lock_holds_nothing_up(base: Path) -> None:
    odd = base / "cnnpar-ray-12345678"
    odd.mkdir()
    os.mkfifo(odd / "lock")
    end_abandoned()
    assert odd.exists()
