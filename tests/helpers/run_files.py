"""Metrics and history in the files of a run, without times, and the comparison of two runs by their files."""

import json
import os
from pathlib import Path
from typing import Any

from cnnpar.storage.checkpoint import read
from cnnpar.storage.packing import unpack


def make_odd(path: Path, kind: str) -> None:
    """Put what is no regular file in the place of one: a link to "precious" in the current folder, a pipe, ..."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(
            {"link": Path("precious"), "broken link": Path("nowhere"), "zero": Path("/dev/zero")}[kind].absolute()
        )


TIMES = {"seconds", "samples_per_second"}


def untimed(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record without what depends on the clock."""
    return {key: value for key, value in record.items() if key not in TIMES}


def metrics(directory: Path) -> list[dict[str, Any]]:
    """Return the records of a run's metrics file, untimed."""
    return [untimed(json.loads(line)) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def history(path: Path) -> list[dict[str, Any]]:
    """Return the epochs of a checkpoint, untimed."""
    return [untimed(record) for record in json.loads(path.read_text())["payload"]["history"]]


def assert_same_run(one: Path, other: Path) -> None:
    """Compare weights, history and metrics of two run directories."""
    digests = [unpack(read(path / name), "")[1].digest for path in (one, other) for name in ("model.json", "best.json")]
    assert digests[:2] == digests[2:]
    assert history(one / "model.json") == history(other / "model.json")
    assert metrics(one) == metrics(other)
