"""`metrics.jsonl` after crashes, resumes and disk errors."""

import json
import math
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest

from cnnpar.report.metrics import MetricsLog


@pytest.fixture
def warnings() -> list[str]:
    return []


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the records as a strict reader of JSON lines sees them."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def steps(path: Path) -> list[int]:
    return [record["step"] for record in lines(path)]


def written(path: Path, last: int, warnings: list[str]) -> None:
    log = MetricsLog(path, None, warnings.append)
    for step in range(1, last + 1):
        log.write({"step": step, "loss": 1 / step})


def test_records_come_back_exactly_and_in_order(tmp_path: Path, warnings: list[str]) -> None:
    records: list[dict[str, Any]] = [
        {"step": 50, "loss": 0.1 + 0.2, "accuracy": 0.5, "samples_per_second": 1e-300},
        {"step": 100, "epoch": 1, "validation_accuracy": None, "digest": "00ff", "note": 'a "quote"\nand é 中'},
    ]
    log = MetricsLog(tmp_path / "metrics.jsonl", None, warnings.append)
    for record in records:
        log.write(record)
    assert lines(tmp_path / "metrics.jsonl") == records
    assert warnings == []


def test_write_returns_with_one_compact_line_in_the_file(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, None, warnings.append)
    log.write({"step": 1, "note": "two\nlines"})
    assert path.read_bytes() == b'{"step":1,"note":"two\\nlines"}\n'


def test_nan_and_infinities_become_null(tmp_path: Path, warnings: list[str]) -> None:
    log = MetricsLog(tmp_path / "m", None, warnings.append)
    log.write({"step": 1, "loss": math.nan, "nested": [math.inf, {"x": -math.inf}]})
    assert lines(tmp_path / "m") == [{"step": 1, "loss": None, "nested": [None, {"x": None}]}]


def test_a_new_run_starts_an_empty_file(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, 3, warnings)
    MetricsLog(path, None, warnings.append).write({"step": 9})
    assert steps(path) == [9]


@pytest.mark.parametrize("resume_step", [0, 1, 4, 5, 99])
def test_resuming_drops_the_steps_that_are_done_again(tmp_path: Path, warnings: list[str], resume_step: int) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, 5, warnings)
    log = MetricsLog(path, resume_step, warnings.append)
    assert steps(path) == [step for step in range(1, 6) if step <= resume_step]
    log.write({"step": resume_step + 1})
    assert steps(path)[-1] == resume_step + 1


def test_an_epochs_record_is_dropped_with_the_step_before_it(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step":10}\n{"step":10,"epoch":1}\n{"step":15}\n{"epoch":2}\n')
    MetricsLog(path, 10, warnings.append)
    assert lines(path) == [{"step": 10}, {"step": 10, "epoch": 1}]


def test_resuming_at_any_cut_of_the_file_keeps_the_whole_lines(tmp_path: Path, warnings: list[str]) -> None:
    """A crash can end the file at any byte."""
    whole = tmp_path / "whole"
    written(whole, 3, warnings)
    data = whole.read_bytes()
    path = tmp_path / "metrics.jsonl"
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        MetricsLog(path, 3, warnings.append).write({"step": 4})
        complete = data[:length].count(b"\n")
        assert steps(path) == [*range(1, complete + 1), 4]
    assert warnings == []


def test_resuming_keeps_lines_that_are_no_records(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step":1}\n\xff not json\n[1]\n{"step":"x"}\n{"step":2}\n{"step":3}\n')
    MetricsLog(path, 2, warnings.append)
    assert path.read_bytes() == b'{"step":1}\n\xff not json\n[1]\n{"step":"x"}\n{"step":2}\n'


def test_a_line_nested_too_deep_is_no_record(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "metrics.jsonl"
    content = b'{"step":1}\n{"step":1,"x":' + b"[" * 100_000 + b"\n"
    path.write_bytes(content + b'{"step":3}\n')
    MetricsLog(path, 2, warnings.append)
    assert path.read_bytes() == content


def test_resuming_without_a_file_starts_one(tmp_path: Path, warnings: list[str]) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", 7, warnings.append)
    log.write({"step": 8})
    assert steps(tmp_path / "metrics.jsonl") == [8]
    assert warnings == []


def test_a_full_disk_warns_once_and_training_goes_on(tmp_path: Path, warnings: list[str]) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", None, warnings.append)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        for step in range(3):
            log.write({"step": step})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert warnings == [f"{tmp_path}/metrics.jsonl: cannot write metrics: File too large; training goes on"]


def test_a_deleted_folder_warns_once_and_a_new_one_is_used(tmp_path: Path, warnings: list[str]) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    log = MetricsLog(folder / "metrics.jsonl", None, warnings.append)
    log.write({"step": 1})
    shutil.rmtree(folder)
    log.write({"step": 2})
    log.write({"step": 3})
    assert len(warnings) == 1
    assert "No such file" in warnings[0]
    folder.mkdir()
    log.write({"step": 4})
    assert steps(folder / "metrics.jsonl") == [4]
    assert len(warnings) == 1


def test_a_disk_that_fills_up_within_a_line_leaves_no_half_line(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, None, warnings.append)
    log.write({"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, hard))  # the system takes 5 bytes more
    try:
        log.write({"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(warnings) == 1
    log.write({"step": 3})
    assert steps(path) == [1, 3]


@pytest.mark.parametrize("resume_step", [None, 5])
def test_a_path_that_cannot_be_a_file_warns_once(tmp_path: Path, warnings: list[str], resume_step: int | None) -> None:
    log = MetricsLog(tmp_path, resume_step, warnings.append)
    log.write({"step": 6})
    assert len(warnings) == 1
    assert "\n" not in warnings[0]
