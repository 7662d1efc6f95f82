"""The order of files that cannot be written at first: what failed keeps its place, at every moment of the writing."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cnnpar.storage import atomic
from cnnpar.storage.checkpoint import Payload
from cnnpar.storage.saver import Saver
from tests.helpers.limits import HANGING
from tests.storage.test_saver import payload, step_of


class FullDisk:
    """A disk that is full for some tries, with the names of the files that were tried."""

    def __init__(self, failures: int, during: Callable[[], object] = lambda: None) -> None:
        """`during` is called in the middle of each try that fails."""
        self.tries: list[str] = []
        self._failures = failures
        self._during = during

    def write(
        self, path: Path, content: bytes, previous: Path | None = None, folder: int | None = None
    ) -> os.stat_result:
        self.tries.append(path.name)
        if len(self.tries) <= self._failures:
            self._during()
            raise OSError(28, "full")
        return atomic.write(path, content, previous, folder)


class Gate:
    """Point at which the writing thread waits, the first time that it passes."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Event(), threading.Event()

    def wait(self, *_: object) -> None:
        self._reached.set()
        assert self._open.wait(HANGING)

    def reached(self) -> None:
        assert self._reached.wait(HANGING)

    def open(self) -> None:
        self._open.set()


def close_at(gate: Gate, saver: Saver) -> dict[Path, tuple[Payload, str]]:
    """Close the saver while its thread waits at the gate."""
    gate.reached()
    with ThreadPoolExecutor(1) as pool:
        closed = pool.submit(saver.close)
        with saver._changed:
            assert saver._changed.wait_for(lambda: saver._closing, HANGING)
        gate.open()
        return closed.result()


def test_what_fails_under_way_goes_before_a_newer_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    disk = FullDisk(1, gate.wait)
    monkeypatch.setattr("cnnpar.storage.saver.write", disk.write)
    saver = Saver(lambda _: None)
    saver.save(tmp_path / "best", payload(5))
    gate.reached()
    saver.save(tmp_path / "model", payload(6))
    gate.open()
    saver.close()
    assert disk.tries == ["best", "best", "model"]


@pytest.mark.parametrize("moment", ["while it is tried", "once it has failed"])
def test_what_failed_goes_before_what_waits_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    gate = Gate()
    try_waits = moment == "while it is tried"
    disk = FullDisk(1, gate.wait if try_waits else lambda: None)
    monkeypatch.setattr("cnnpar.storage.saver.write", disk.write)
    saver = Saver((lambda _: None) if try_waits else gate.wait)
    with saver._changed:  # the thread cannot begin before both are handed over
        saver.save(tmp_path / "best", payload(5))
        saver.save(tmp_path / "model", payload(6))
    close_at(gate, saver)
    assert disk.tries == ["best", "best", "model"]
    assert (step_of(tmp_path / "best"), step_of(tmp_path / "model")) == (5, 6)


def test_a_full_disk_is_tried_once_a_save_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    disk = FullDisk(1000, lambda: gate.wait() if len(disk.tries) == 3 else None)
    monkeypatch.setattr("cnnpar.storage.saver.write", disk.write)
    told = threading.Event()
    saver = Saver(lambda _: told.set())
    saver.save(tmp_path / "best", payload(5))
    assert told.wait(HANGING)
    saver.save(tmp_path / "model", payload(6))
    assert [(path.name, why) for path, (_, why) in close_at(gate, saver).items()] == [
        ("best", "full"),
        ("model", "full"),
    ]
    assert disk.tries == ["best", "best", "model", "best", "model"]


def test_failures_do_not_keep_a_newer_save_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try of the best checkpoint takes as long as it takes for a newer state of the model to come."""
    written = threading.Event()
    tries: list[str] = []

    def write(path: Path, content: bytes, previous: Path | None = None, folder: int | None = None) -> os.stat_result:
        tries.append(path.name)
        if path.name == "model":
            written.set()
        elif len(tries) < 100:
            saver.save(tmp_path / "model", payload(len(tries)))
            raise OSError(28, "full")
        return tmp_path.stat()

    monkeypatch.setattr("cnnpar.storage.saver.write", write)
    saver = Saver(lambda _: None)
    saver.save(tmp_path / "best", payload(5))
    assert written.wait(HANGING)
    assert tries[:3] == ["best", "best", "model"]
    assert [path.name for path in saver.close()] == ["best"]


@pytest.mark.parametrize("failures", [1, 2])
def test_a_failure_under_way_at_the_end_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """The last try is yet to come; if it fails too, the error tells."""
    gate = Gate()
    disk = FullDisk(failures, gate.wait)
    monkeypatch.setattr("cnnpar.storage.saver.write", disk.write)
    saver = Saver(pytest.fail)
    saver.save(tmp_path / "model", payload(5))
    unsaved = close_at(gate, saver)
    assert [why for _, why in unsaved.values()] == ["full"] * (failures - 1)
    assert disk.tries == ["model", "model"]
