"""The cache: it is used, and never changes what is read, whatever happened to it or to the files."""

import gzip
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

from cnnpar.config import Data
from cnnpar.data import cache
from cnnpar.data.dataset import Splits
from cnnpar.data.sources import load, load_for_test
from cnnpar.errors import InputError
from tests.conftest import HANGING
from tests.tiny import ROOT

rewrites = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, in which the smallest sources are kept."""
    monkeypatch.setenv("CNNPAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_LEAST_BYTES", 0)
    return tmp_path / "cache"


def write_csv(path: Path, seed: int, rows: int = 30) -> Path:
    """Rows of nine pixels of three digits each: any two such files have the same size."""
    rng = np.random.default_rng(seed)
    table = np.column_stack([np.arange(rows) % 3, rng.integers(100, 256, (rows, 9))])
    text = "".join(",".join(map(str, row)) + "\n" for row in table.tolist())
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode())
    return path


def write_pictures(path: Path, seed: int) -> Path:
    """Two classes of two pictures."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    for name in ("a/1", "a/2", "b/1", "b/2"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (3, 5), dtype=np.uint8)).save(path / f"{name}.png", compress_level=0)
    return path


WRITERS: dict[str, Callable[[Path, int], Path]] = {"a.csv": write_csv, "a.csv.gz": write_csv, "a": write_pictures}


def read(path: Path) -> Splits:
    return load(Data(train=str(path)))


def without_cache(path: Path) -> Splits:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNPAR_CACHE", "off")
        return read(path)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def assert_same(found: Splits, expected: Splits) -> None:
    assert found.fingerprint == expected.fingerprint
    assert found.train.images.flags.c_contiguous
    assert found.train.images.flags.writeable


@pytest.mark.parametrize("name", WRITERS)
@given(seed=st.integers(0, 10**9), steps=st.lists(st.sampled_from(["again", "other", "swap"]), max_size=6))
@rewrites
def test_the_cache_never_changes_what_is_read(tmp_path: Path, folder: Path, name: str, seed: int, steps: list[str]):  # type: ignore[no-untyped-def]
    """Sources of one size and one time change; entries are put into each other's place."""
    rng = random.Random(seed)
    for step in ["other", *steps]:
        if step == "other":
            path = WRITERS[name](tmp_path / name, rng.randrange(3))
            for file in (path, *path.rglob("*")):
                os.utime(file, (1e9, 1e9))
        kept = entries(folder)
        if kept and step == "swap":
            rng.choice(kept).replace(rng.choice(kept))
        expected = without_cache(path)
        assert_same(read(path), expected)
        assert_same(read(path), expected)


@pytest.mark.parametrize("name", WRITERS)
def test_the_second_start_reads_no_sample(
    tmp_path: Path, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = WRITERS[name](tmp_path / name, 0)
    first = read(path)
    (entry,) = entries(folder)
    monkeypatch.delattr(np, "loadtxt")
    monkeypatch.delattr("PIL.Image.open")
    assert_same(read(path.rename(tmp_path / f"moved-{name}")), first)
    assert entry.stat().st_mode & 0o777 == 0o600


def test_a_source_that_changes_while_it_is_read_is_not_kept_as_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(write_csv(tmp_path / "a.csv", 2))  # of the same size, so that the next one is looked for
    path = write_csv(tmp_path / "a.csv", 0)
    feed = cache._feed

    def changed_meanwhile(*arguments: Any) -> None:
        feed(*arguments)
        write_csv(path, 1)

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_feed", changed_meanwhile)
        read(path)
    for seed in (0, 1):
        assert_same(read(write_csv(path, seed)), without_cache(path))


def test_a_source_that_is_gone_when_it_is_read_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_csv(tmp_path / "a.csv", 0)
    read(path)
    feed = cache._feed

    def gone_meanwhile(*arguments: Any) -> None:
        path.unlink()
        feed(*arguments)

    monkeypatch.setattr(cache, "_feed", gone_meanwhile)
    with pytest.raises(InputError, match=r"a\.csv: cannot be read: No such file or directory"):
        read(path)


def test_pictures_cut_elsewhere_or_of_other_classes_are_other_data(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "a", 0)
    files = [path / name for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png")]
    one, two, three, four = (file.read_bytes() for file in files)
    for contents in (
        (one, two + three, four, one),
        (one + two, three, four, one),
    ):  # what follows a picture is not seen
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content)
        assert_same(read(path), without_cache(path))
    (path / "a").rename(path / "z")
    assert read(path).train.class_names == ("b", "z")
    assert_same(read(path), without_cache(path))


def test_rows_of_another_shape_are_other_data(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", 0)
    assert read(path).train.image_shape == (3, 3, 1)
    assert load(Data(train=str(path), shape=(1, 3, 3))).train.image_shape == (1, 3, 3)


def test_an_entry_that_others_could_have_written_is_not_believed(tmp_path: Path, folder: Path) -> None:
    path = write_csv(tmp_path / "a.csv", 0)
    truth = read(path)
    (entry,) = entries(folder)
    forged = cache.Samples(np.zeros((30, 3, 3, 1), np.uint8), np.arange(30) % 3)
    cache._keep(entry, forged)
    assert read(path).fingerprint != truth.fingerprint, "a forgery of the user's own is good enough to be believed"
    entry.chmod(0o622)
    assert_same(read(path), truth)
    cache._keep(entry, forged)
    if os.geteuid() == 0:
        os.chown(entry, 12345, -1)
        assert_same(read(path), truth)


def test_damage_anywhere_in_an_entry_is_seen(tmp_path: Path, folder: Path) -> None:
    path = write_csv(tmp_path / "a.csv", 0)
    truth = read(path)
    (entry,) = entries(folder)
    whole = entry.read_bytes()
    for place in range(0, len(whole), 5):
        for change in (b"", b"\xff", b"00"):
            entry.write_bytes(whole[:place] + change + whole[place + 1 :])
            assert_same(read(path), truth)


@pytest.mark.parametrize(
    "shape", ["[9999999,9999999,999,1]", "[30,3,3,-1]", "[30,3,3]", "[0,3,3,1]", "[30,1,9,1]", '"30"']
)
def test_an_entry_that_claims_other_sizes_is_not_believed(tmp_path: Path, folder: Path, shape: str) -> None:
    path = write_csv(tmp_path / "a.csv", 0)
    truth = read(path)
    (entry,) = entries(folder)
    header, rest = entry.read_bytes().split(b"\n", 1)
    entry.write_bytes(header[: header.index(b"[")] + shape.encode() + b"}\n" + rest)
    assert_same(read(path), truth)


def test_errors_of_kept_data_name_the_same_place(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("label,a,b,c,d\n\n0,1,2,3,4\n\n3,1,2,3,4\n")
    for _ in range(2):
        with pytest.raises(InputError, match="line 5, column 1: label 3 was not in training"):
            load_for_test(str(path), (2, 2, 1), ("0", "1", "2"))


LOAD = """
import resource, signal, sys
from cnnpar.config import Data
from cnnpar.data.sources import load
if sys.argv[2] == "die":
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
print(load(Data(train=sys.argv[1])).fingerprint)
"""


def test_processes_at_once_and_one_that_was_killed_while_it_wrote_agree(tmp_path: Path, folder: Path) -> None:
    path = write_csv(tmp_path / "a.csv", 0, rows=30_000)
    told = []
    for fates in (["die"], ["live", "live"]):
        started = [
            subprocess.Popen(
                [sys.executable, "-c", LOAD, str(path), fate],
                env={**os.environ, "PYTHONPATH": str(ROOT), "CNNPAR_CACHE": str(folder)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for fate in fates
        ]
        told += [(process.communicate(timeout=HANGING)[0].strip(), process.returncode) for process in started]
    expected = without_cache(path).fingerprint
    assert told == [("", -signal.SIGXFSZ), (expected, 0), (expected, 0)]
    assert [entry.name[:11] for entry in entries(folder)][1:] == ["unfinished-"]
    assert read(path).fingerprint == expected
