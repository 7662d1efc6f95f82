"""The cache of decoded data: it is used, and never changes the data, whatever happens to it or to their files."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnpar.config.data import Data
from cnnpar.data.load import load_splits
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
from tests.helpers.data_files import load_test
from tests.helpers.limits import HANGING
from tests.helpers.tiny_runs import ROOT

pytestmark = pytest.mark.usefixtures("cache_folder")
rewrites = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])

WRITERS: dict[str, Callable[[Path, int], Path]] = {
    "a.csv": write_fixed_size_csv,
    "a.csv.gz": write_fixed_size_csv,
    "a": write_class_folders,
}


@pytest.mark.parametrize("name", ["a.csv", "a", pytest.param("a.csv.gz", marks=pytest.mark.slow)])
@given(seed=st.integers(0, 10**9), steps=st.lists(st.sampled_from(["again", "other", "swap"]), max_size=6))
@rewrites
def test_cache_never_changes_the_data(
    tmp_path: Path, cache_folder: Path, name: str, seed: int, steps: list[str]
) -> None:
    """Sources change but keep their size and time of modification; cache entries are exchanged."""
    rng = random.Random(seed)
    for step in ["other", *steps]:
        if step == "other":
            path = WRITERS[name](tmp_path / name, rng.randrange(3))
            for file in (path, *path.rglob("*")):
                os.utime(file, (1e9, 1e9))
        kept = files_in(cache_folder)
        if kept and step == "swap":
            rng.choice(kept).replace(rng.choice(kept))
        expected = read_without_cache(path)
        assert_same_data(read(path), expected)
        assert_same_data(read(path), expected)


@pytest.mark.parametrize("name", WRITERS)
def test_second_read_decodes_no_sample(
    tmp_path: Path, cache_folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = WRITERS[name](tmp_path / name, 0)
    first = read(path)
    (entry,) = files_in(cache_folder)
    monkeypatch.delattr(np, "loadtxt")
    monkeypatch.delattr("PIL.Image.open")
    assert_same_data(read(path.rename(tmp_path / f"moved-{name}")), first)
    assert entry.stat().st_mode & 0o777 == 0o600


def test_source_changed_during_a_read_never_gives_stale_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(write_fixed_size_csv(tmp_path / "a.csv", 2))  # of the same size, so that the next one is looked for
    path = write_fixed_size_csv(tmp_path / "a.csv", 0)
    digest_files = cache._digest_files

    def changed_meanwhile(*arguments: Any) -> None:
        digest_files(*arguments)
        write_fixed_size_csv(path, 1)

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_digest_files", changed_meanwhile)
        read(path)
    for seed in (0, 1):
        assert_same_data(read(write_fixed_size_csv(path, seed)), read_without_cache(path))


def test_source_that_vanishes_while_read_gives_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_fixed_size_csv(tmp_path / "a.csv", 0)
    read(path)
    digest_files = cache._digest_files

    def gone_meanwhile(*arguments: Any) -> None:
        path.unlink()
        digest_files(*arguments)

    monkeypatch.setattr(cache, "_digest_files", gone_meanwhile)
    with pytest.raises(InputError, match=r"a\.csv: cannot be read: No such file or directory"):
        read(path)


def test_bytes_moved_between_pictures_or_classes_are_other_data(tmp_path: Path) -> None:
    path = write_class_folders(tmp_path / "a", 0)
    files = [path / name for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png")]
    one, two, three, four = (file.read_bytes() for file in files)
    for contents in (
        (one, two + three, four, one),
        (one + two, three, four, one),
    ):  # what follows a picture is not seen
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content)
        assert_same_data(read(path), read_without_cache(path))
    (path / "a").rename(path / "z")
    assert read(path).train.class_names == ("b", "z")
    assert_same_data(read(path), read_without_cache(path))


def test_data_shape_setting_is_respected_by_the_cache(tmp_path: Path) -> None:
    path = write_fixed_size_csv(tmp_path / "a.csv", 0)
    assert read(path).train.image_shape == (3, 3, 1)
    assert load_splits(Data(train=str(path), shape=(1, 3, 3))).train.image_shape == (1, 3, 3)


def test_cache_entry_that_others_could_write_is_ignored(tmp_path: Path, cache_folder: Path) -> None:
    path = write_fixed_size_csv(tmp_path / "a.csv", 0)
    truth = read(path)
    (entry,) = files_in(cache_folder)
    forged = cache.Samples(np.zeros((30, 3, 3, 1), np.uint8), np.arange(30) % 3)
    cache._write_entry(entry, forged)
    assert read(path).fingerprint != truth.fingerprint, "a forgery of the user's own is good enough to be believed"
    entry.chmod(0o622)
    assert_same_data(read(path), truth)
    cache._write_entry(entry, forged)
    if os.geteuid() == 0:
        os.chown(entry, 12345, -1)
        assert_same_data(read(path), truth)


@pytest.mark.parametrize("every", [25, pytest.param(3, marks=pytest.mark.slow)])
def test_damaged_cache_entry_is_ignored(tmp_path: Path, cache_folder: Path, every: int) -> None:
    path = write_fixed_size_csv(tmp_path / "a.csv", 0)
    truth = read(path)
    (entry,) = files_in(cache_folder)
    whole = entry.read_bytes()
    for place in range(0, len(whole), every):
        for change in (b"", b"\xff", b"00"):
            entry.write_bytes(whole[:place] + change + whole[place + 1 :])
            assert_same_data(read(path), truth)


@pytest.mark.parametrize(
    "shape", ["[9999999,9999999,999,1]", "[30,3,3,-1]", "[30,3,3]", "[0,3,3,1]", "[30,1,9,1]", '"30"']
)
def test_cache_entry_with_a_wrong_shape_is_ignored(tmp_path: Path, cache_folder: Path, shape: str) -> None:
    path = write_fixed_size_csv(tmp_path / "a.csv", 0)
    truth = read(path)
    (entry,) = files_in(cache_folder)
    header, rest = entry.read_bytes().split(b"\n", 1)
    entry.write_bytes(header[: header.index(b"[")] + shape.encode() + b"}\n" + rest)
    assert_same_data(read(path), truth)


def test_error_of_cached_data_names_the_same_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("label,a,b,c,d\n\n0,1,2,3,4\n\n3,1,2,3,4\n")
    for _ in range(2):
        with pytest.raises(InputError, match="line 5, column 1: label 3 was not in training"):
            load_test(path, (2, 2, 1), ("0", "1", "2"))


LOAD = """
import resource, signal, sys
from cnnpar.config.data import Data
from cnnpar.data.load import load_splits
if sys.argv[2] == "die":
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
print(load_splits(Data(train=sys.argv[1])).fingerprint)
"""


def test_concurrent_and_killed_writers_leave_the_data_unchanged(tmp_path: Path, cache_folder: Path) -> None:
    path = write_fixed_size_csv(tmp_path / "a.csv", 0, rows=30_000)
    told = []
    for fates in (["die"], ["live", "live"]):
        started = [
            subprocess.Popen(
                [sys.executable, "-c", LOAD, str(path), fate],
                env={**os.environ, "PYTHONPATH": str(ROOT), "CNNPAR_CACHE": str(cache_folder)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for fate in fates
        ]
        told += [(process.communicate(timeout=HANGING)[0].strip(), process.returncode) for process in started]
    expected = read_without_cache(path).fingerprint
    assert told == [("", -signal.SIGXFSZ), (expected, 0), (expected, 0)]
    assert [entry.name[:11] for entry in files_in(cache_folder)][1:] == ["unfinished-"]
    assert read(path).fingerprint == expected
