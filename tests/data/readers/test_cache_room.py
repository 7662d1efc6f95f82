"""The cache's folder, its share of the disk, and reading of data where there is no usable folder."""

import os
import resource
import threading
import time
from pathlib import Path

import pytest

from cnnpar.data.readers import cache
from cnnpar.errors import InputError
from tests.helpers.cached_data import (
    assert_same_data,
    files_in,
    read,
    read_without_cache,
    write_class_folders,
    write_fixed_size_csv,
)

pytestmark = pytest.mark.usefixtures("cache_folder")


@pytest.mark.parametrize("place", ["file/cache", "/proc/nothing", "off"])
def test_data_are_read_without_a_usable_cache_folder(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    path = write_fixed_size_csv(tmp_path / "a.csv", 0)
    monkeypatch.setenv("CNNPAR_CACHE", place)
    assert read(path).fingerprint == read(path).fingerprint
    assert files_in(tmp_path) == [path, tmp_path / "file"]


def test_full_disk_leaves_no_cache_entry(tmp_path: Path, cache_folder: Path) -> None:
    path = write_fixed_size_csv(tmp_path / "a.csv", 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        found = read(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files_in(cache_folder) == []
    assert_same_data(read(path), found)


@pytest.mark.parametrize(("limit", "value"), [("_LEAST_BYTES", 1 << 20), ("_SHARE_OF_FREE", 1e-12)])
def test_small_or_disk_filling_sources_are_not_cached(
    tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    monkeypatch.setattr(cache, limit, value)
    read(write_fixed_size_csv(tmp_path / "a.csv", 0))
    assert files_in(cache_folder) == []


def test_least_recently_used_cache_entries_are_removed_first(
    tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_MOST_BYTES", 1800)  # three entries of some 600 bytes each
    paths = [write_fixed_size_csv(tmp_path / f"{seed}.csv", seed) for seed in range(4)]
    old = {}
    for age, path in zip((30, 20, 10), paths, strict=False):
        before = files_in(cache_folder)
        read(path)
        (old[path],) = set(files_in(cache_folder)) - set(before)
        os.utime(old[path], (time.time() - age,) * 2)
    others = [cache_folder / name for name in ("notes.txt", "2a-short", "unfinished-yet")]
    for other in others:
        other.write_bytes(bytes(5000))
    abandoned = cache_folder / "unfinished-before"
    abandoned.write_text("")
    os.utime(abandoned, (1, 1))
    read(paths[0])  # the oldest one, used again
    read(paths[3])
    assert old[paths[0]].exists()
    assert not old[paths[1]].exists()
    assert not abandoned.exists()
    assert all(other.exists() for other in others)
    assert sum(entry.stat().st_size for entry in files_in(cache_folder) if entry not in others) <= 1800 + 200


def test_default_cache_folder_is_that_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CNNPAR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    read(write_fixed_size_csv(tmp_path / "a.csv", 0))
    assert len(files_in(tmp_path / "xdg" / "cnnpar" / "data")) == 1


@pytest.mark.usefixtures("in_time")
def test_pipe_is_read_and_not_cached(tmp_path: Path, cache_folder: Path) -> None:
    content = write_fixed_size_csv(tmp_path / "a.csv", 0).read_text()
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=(content,), daemon=True).start()
    assert_same_data(read(pipe), read_without_cache(tmp_path / "a.csv"))
    assert files_in(cache_folder) == []


def test_broken_link_among_pictures_is_named(tmp_path: Path) -> None:
    path = write_class_folders(tmp_path / "a", 0)
    (path / "b" / "3.png").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"b/3\.png: cannot be read as a picture: .*No such file"):
        read(path)
