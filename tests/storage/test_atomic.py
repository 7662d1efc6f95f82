"""Atomic writes: at any moment a file has all of its old or all of its new content."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cnnpar.storage.atomic import may_replace, replaced, write
from tests.helpers.tiny_runs import ROOT


def test_writing_replaces_the_file_and_keeps_the_one_before(tmp_path: Path) -> None:
    path, previous = tmp_path / "model.json", tmp_path / "model.prev.json"
    for number in range(4):
        write(path, b"%d" % number, previous)
        assert path.read_bytes() == b"%d" % number
        assert previous.exists() == (number > 0)
        assert not number or previous.read_bytes() == b"%d" % (number - 1)
    assert sorted(tmp_path.iterdir()) == [path, previous]


def test_files_have_the_permissions_that_the_user_asks_for(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "model.json", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model.json").stat().st_mode) == 0o640


def test_a_stale_temporary_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".model.json.tmp").write_bytes(b"long and stale")
    (tmp_path / ".model.prev.json.tmp").write_bytes(b"stale")
    for content in (b"old", b"new"):
        write(tmp_path / "model.json", content, tmp_path / "model.prev.json")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "model.json": b"new",
        "model.prev.json": b"old",
    }


def test_a_link_under_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / ".model.json.tmp").symlink_to(tmp_path / "precious")
    write(tmp_path / "model.json", b"new")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert (tmp_path / "model.json").read_bytes() == b"new"


def test_a_rename_that_fails_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    (path / "inside").mkdir(parents=True)  # a folder that is not empty cannot be replaced
    with pytest.raises(OSError, match="directory"):
        write(path, b"new")
    assert (path / "inside").is_dir()


def test_the_new_file_is_written_if_the_old_cannot_be_kept(tmp_path: Path) -> None:
    path, previous = tmp_path / "model.json", tmp_path / "model.prev.json"
    (previous / "inside").mkdir(parents=True)
    for content in (b"old", b"new"):
        write(path, content, previous)
    assert path.read_bytes() == b"new"


def test_only_files_with_the_mark_of_a_run_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        for content, expected in (
            (None, True),
            (b"# mark\n", True),
            (b"\n# mark", False),
            (b"# mar", False),
            (b"", False),
        ):
            if content is not None:
                path.write_bytes(content)
            assert (
                may_replace(path, b"# mark", 6)
                is may_replace(Path("gone", path.name), b"# mark", 6, folder)
                is expected
            )
            assert may_replace(path, b"# mark", 7) is (expected or content == b"\n# mark")
    finally:
        os.close(folder)
    path.unlink()
    path.symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        may_replace(path, b"# mark", 6)


def test_crash_between_write_and_rename_keeps_the_old_file(tmp_path: Path) -> None:
    path, previous = tmp_path / "model.json", tmp_path / "model.prev.json"
    write(path, b"old")
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom cnnpar.storage.atomic import write\n"
        "def crash(event, arguments):\n"
        "    if event == 'os.rename' and str(arguments[1]).endswith(sys.argv[2]):\n        os._exit(9)\n"
        "sys.addaudithook(crash)\n"
        "path = Path(sys.argv[1])\nwrite(path, b'new', path.with_name('model.prev.json'))"
    )
    for crash_at, kept in (("model.prev.json", False), ("model.json", True)):
        done = subprocess.run([sys.executable, "-S", "-c", code, path, crash_at], cwd=ROOT, check=False)
        assert done.returncode == 9
        assert path.read_bytes() == b"old"
        assert previous.exists() == kept
    write(path, b"new", previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"new", b"old")
    assert sorted(tmp_path.iterdir()) == [path, previous]


def test_a_full_disk_is_an_error_that_keeps_the_old_file(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom cnnpar.storage.atomic import write\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"  # a write beyond fails half way, as on a full disk
        "try:\n    write(Path(sys.argv[1]), bytes(3000))\nexcept OSError as error:\n    print(error.strerror)"
    )
    path = tmp_path / "model.json"
    write(path, b"old")
    line = [sys.executable, "-S", "-c", code, str(path)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_block_that_ends_early_keeps_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a.csv").write_text("old")

    def write_in_part() -> None:
        with replaced(tmp_path / "a.csv") as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        write_in_part()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.csv", "old")]
