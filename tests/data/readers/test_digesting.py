"""Digests of many files: the same from any number of processes, and none for what cannot be read."""

import hashlib
import os
from pathlib import Path

import pytest

from cnnpar.data.readers import digester, digesting

MOST = 3 << 20  # bytes of a file


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Files of all sizes around the buffer's, one of them empty; and more than there are blocks."""
    sizes = [0, 1, *(digester._PIECE + more for more in (-1, 0, 1)), MOST, *range(2, 600)]
    paths = [tmp_path / f"{number} é\n" for number in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        path.write_bytes(os.urandom(size))
    return paths


def digest(files: list[Path], processes: int, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    monkeypatch.setattr(digesting, "usable_cores", lambda: processes)
    monkeypatch.setattr(digesting, "_ALONE", 0.0)
    found = digesting.digest_all(map(str, files), len(files), MOST)
    return [found[begin : begin + 32] for begin in range(0, len(found), 32)]


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_digests_are_those_of_the_files(files: list[Path], processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [hashlib.sha256(path.read_bytes()).digest() for path in files]
    assert digest(files, processes, monkeypatch) == expected


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("fault", ["gone", "folder", "pipe", "device", "too large"])
def test_what_is_no_picture_has_no_digest(
    files: list[Path], processes: int, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files[-1]
    path.unlink()
    if fault == "folder":
        path.mkdir()
    elif fault == "pipe":
        os.mkfifo(path)
    elif fault == "device":
        path.symlink_to("/dev/zero")
    elif fault == "too large":
        path.write_bytes(bytes(MOST + 1))
    with pytest.raises(OSError, match=r"."):
        digest(files, processes, monkeypatch)


def test_process_that_fails_is_an_error(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digesting, "_BOOT", "raise SystemExit(1)")
    with pytest.raises(OSError, match="a process that digested files has failed"):
        digest(files, 2, monkeypatch)
