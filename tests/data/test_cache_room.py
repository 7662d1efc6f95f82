"""Where the cache lies, how much of the disk it takes, and that without a place for it nothing else changes."""

import os
import resource
import threading
import time
from pathlib import Path

import pytest

from cnnpar.data.readers import cache
from cnnpar.errors import InputError
from tests.data.test_cache import assert_same, entries, read, without_cache, write_csv, write_pictures


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, in which the smallest sources are kept."""
    monkeypatch.setenv("CNNPAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_LEAST_BYTES", 0)
    return tmp_path / "cache"


@pytest.mark.parametrize("place", ["file/cache", "/proc/nothing", "off"])
def test_where_nothing_can_be_kept_data_are_read_all_the_same(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    path = write_csv(tmp_path / "a.csv", 0)
    monkeypatch.setenv("CNNPAR_CACHE", place)
    assert read(path).fingerprint == read(path).fingerprint
    assert entries(tmp_path) == [path, tmp_path / "file"]


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path, folder: Path) -> None:
    path = write_csv(tmp_path / "a.csv", 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        found = read(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert entries(folder) == []
    assert_same(read(path), found)


@pytest.mark.parametrize(("limit", "value"), [("_LEAST_BYTES", 1 << 20), ("_SHARE_OF_FREE", 1e-12)])
def test_small_sources_and_what_would_fill_the_disk_are_not_kept(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    monkeypatch.setattr(cache, limit, value)
    read(write_csv(tmp_path / "a.csv", 0))
    assert entries(folder) == []


def test_entries_used_least_recently_make_room_and_nothing_else_is_touched(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_MOST_BYTES", 1800)  # three entries of some 600 bytes each
    paths = [write_csv(tmp_path / f"{seed}.csv", seed) for seed in range(4)]
    old = {}
    for age, path in zip((30, 20, 10), paths, strict=False):
        before = entries(folder)
        read(path)
        (old[path],) = set(entries(folder)) - set(before)
        os.utime(old[path], (time.time() - age,) * 2)
    others = [folder / name for name in ("notes.txt", "2a-short", "unfinished-yet")]
    for other in others:
        other.write_bytes(bytes(5000))
    abandoned = folder / "unfinished-before"
    abandoned.write_text("")
    os.utime(abandoned, (1, 1))
    read(paths[0])  # the oldest one, used again
    read(paths[3])
    assert old[paths[0]].exists()
    assert not old[paths[1]].exists()
    assert not abandoned.exists()
    assert all(other.exists() for other in others)
    assert sum(entry.stat().st_size for entry in entries(folder) if entry not in others) <= 1800 + 200


def test_the_cache_of_the_user_is_the_place_if_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CNNPAR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    read(write_csv(tmp_path / "a.csv", 0))
    assert len(entries(tmp_path / "xdg" / "cnnpar" / "data")) == 1


@pytest.mark.usefixtures("in_time")
def test_a_pipe_is_read_once(tmp_path: Path, folder: Path) -> None:
    content = write_csv(tmp_path / "a.csv", 0).read_text()
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=(content,), daemon=True).start()
    assert_same(read(pipe), without_cache(tmp_path / "a.csv"))
    assert entries(folder) == []


def test_a_broken_link_among_pictures_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "a", 0)
    (path / "b" / "3.png").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"b/3\.png: cannot be read as a picture: .*No such file"):
        read(path)
