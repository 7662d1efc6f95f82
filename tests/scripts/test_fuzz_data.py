"""The fuzzer of data files: its short form finds nothing, its judge notices faults, and a case is repeatable."""

import json
import random
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from cnnpar.errors import InputError
from scripts.fuzz import damaged, data
from scripts.fuzz.noise import Case
from tests.helpers.limits import HANGING
from tests.helpers.tiny_runs import ROOT

CSV, METRICS = data.KINDS.index("CSV"), data.KINDS.index("metrics")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", data.KINDS)
def test_a_case_is_the_same_again_and_another_is_not(tmp_path: Path, kind: str) -> None:
    def made(number: int) -> dict[str, bytes]:
        damaged.make(kind, random.Random(number), tmp_path / "case")
        return contents(tmp_path / "case")

    found = [made(number) for number in range(6)]
    assert [made(number) for number in range(6)] == found
    assert any(other != found[0] for other in found)


@pytest.mark.slow
def test_a_few_hundred_damaged_files_break_nothing(tmp_path: Path) -> None:
    options = ["--cases", "220", "--seed", "3", "--failures", str(tmp_path / "failures"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.fuzz.data", *options],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=HANGING,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    files = json.loads(done.stdout.splitlines()[-1])["files"]
    assert files.pop("**all**")["cases"] == 220
    expected = {**dict.fromkeys(data.KINDS, 20), "CSV": 38, data.ONE_ROUND_IN_TEN: 2}
    assert {kind: row["cases"] for kind, row in files.items()} == expected
    assert all(row["failures"] == 0 for row in files.values())
    files.pop(data.ONE_ROUND_IN_TEN)
    assert all(row["accepted"] > 0 for row in files.values())
    assert all(row["refused"] > 0 for kind, row in files.items() if kind != "metrics")
    assert not list(tmp_path.iterdir())


def failure(tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: int) -> str:
    """Read one case with the judge, and return what it says of it; "" if it finds no fault."""
    reader = data.Reader(0, tmp_path / "failures")
    reader.read(kind, tmp_path / "case")
    assert reader.table[kind, data.FAILURES] + reader.table[kind, data.ACCEPTED] + reader.table[kind, data.REFUSED] == 1
    assert (reader.table[kind, data.FAILURES] == 1) == (tmp_path / "failures" / str(kind)).is_dir()
    return capfd.readouterr().err


def faulty(**how: Any) -> Any:
    def read(*_: object, **__: object) -> Any:
        if "warning" in how:
            warnings.warn(how["warning"], stacklevel=1)
        if "error" in how:
            raise how["error"]
        return 0 * len(bytearray(how.get("size", 0)))

    return read


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"error": KeyError("x")}, "KeyError: 'x'"),
        ({"error": InputError("a\nb\nc")}, "an error that is no line or two"),
        ({"error": InputError("\x1b[2J")}, "an error that is no line or two"),
        ({"error": InputError("x" * 2000)}, "an error that is no line or two"),
        ({"warning": "look"}, "UserWarning: look"),
        ({"error": InputError("a: wrong")}, ""),
    ],
)
def test_the_judge_notices_a_faulty_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], how: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(data, "read_data", faulty(**how))
    said = failure(tmp_path, capfd, CSV)
    assert (words in said) if words else said == ""


def test_the_judge_notices_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data, "read_data", faulty(size=150_000_000))
    assert "MB of memory beside 0 MB of data" in failure(tmp_path, capfd, CSV)


def test_the_judge_notices_metrics_that_are_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def make(kind: str, chance: random.Random, folder: Path) -> Case:
        del kind, chance
        folder.mkdir()
        (folder / "metrics.jsonl").write_text('{"step":1}\n{"step":2')
        return Case(folder / "metrics.jsonl")

    monkeypatch.setattr(damaged, "make", make)
    monkeypatch.setattr("os.ftruncate", lambda *_: None)
    assert "what is kept ends with a line's end" in failure(tmp_path, capfd, METRICS)


def test_a_reader_that_ends_is_a_failure_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ends = "import os; os._exit(7)"
    monkeypatch.setattr(data, "read_data", lambda case: exec(ends) if "csv" in case.source.name else 0)
    reader = data.Reader(0, tmp_path / "failures")
    data.read_in_other_processes(reader, 0, len(data.KINDS))
    assert reader.table[:, data.CASES].tolist() == [1] * len(data.KINDS)
    assert reader.table[:, data.FAILURES].sum() == 2
    assert "the reader's process ended with 7" in capfd.readouterr().err
