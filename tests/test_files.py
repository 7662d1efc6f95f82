"""Opening of files that others may have shaped: only regular files, no waiting, and no more than a size."""

import os
from pathlib import Path

import pytest

from cnnpar.errors import InputError
from cnnpar.files import expanded, open_regular, read_regular

pytestmark = pytest.mark.usefixtures("in_time")


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_APPEND])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "device"])
def test_only_a_regular_file_is_opened(tmp_path: Path, kind: str, flags: int) -> None:
    path, precious = tmp_path / "file", tmp_path / "precious"
    precious.write_text("mine")
    if kind == "link":
        path.symlink_to(precious)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(OSError, match=r"not a regular file|symbolic links|Is a directory|No such device"):
        open_regular("/dev/zero" if kind == "device" else path, flags)
    assert precious.read_text() == "mine"


def test_a_link_is_followed_where_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to("data")
    assert read_regular(tmp_path / "link", 10, follow=True) == b"0123456789"


def test_a_larger_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"0123456789")
    with pytest.raises(OSError, match="larger than 9 bytes"):
        read_regular(tmp_path / "data", 9)


def test_a_file_is_found_in_the_opened_folder_when_it_was_moved(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "data").write_bytes(b"here")
    folder = os.open(tmp_path / "one", os.O_RDONLY)
    (tmp_path / "one").rename(tmp_path / "two")
    (tmp_path / "one").mkdir()
    assert read_regular("data", 10, directory=folder) == b"here"
    os.close(folder)


def test_a_new_file_has_the_users_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        os.close(open_regular(tmp_path / "new", os.O_WRONLY | os.O_CREAT))
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("", ""),
        ("plain/x.csv", "plain/x.csv"),
        ("~", "/home/me"),
        ("~/x.csv", "/home/me/x.csv"),
        ("a/~/x", "a/~/x"),
        ("~nobody-of-that-name/x", "~nobody-of-that-name/x"),
        ("$A/${B}.csv", "one/two.csv"),
        ("~/$A", "/home/me/one"),
        ("5$", "5$"),
        ("a$-b", "a$-b"),
        ("./x", "./x"),
    ],
)
def test_paths_are_expanded_as_a_shell_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (("HOME", "/home/me"), ("A", "one"), ("B", "two")):
        monkeypatch.setenv(name, value)
    assert expanded(path) == meant


def test_a_path_that_exists_is_not_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("~", "$A", "$NOWHERE"):
        Path(name).touch()
        assert expanded(name) == name
    with pytest.raises(InputError, match=r"^\$NOWHERE/x: no such path, and the environment has no variable NOWHERE$"):
        expanded("$NOWHERE/x")
