"""Writing beside the training: whole files at any moment, the newest state, and disks that fail."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cnnpar.storage.checkpoint import Payload, encode, read
from cnnpar.storage.packing import unpack
from cnnpar.storage.saver import Saver
from tests.helpers.checkpoints import made_state, packed
from tests.helpers.limits import HANGING
from tests.helpers.tiny_runs import ROOT


def payload(step: int) -> Payload:
    state = made_state()
    state.parameters[0] = state.step = step
    return packed(state)


def step_of(path: Path) -> int:
    _, state = unpack(read(path), str(path))
    assert state.parameters[0] == state.step
    return state.step


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def saver(notes: list[str]) -> Iterator[Saver]:
    """A saver that the test closes; threads of failed tests end with the process."""
    yield Saver(notes.append)
    assert "cnnpar saver" not in [thread.name for thread in threading.enumerate()]


def test_a_kill_at_any_moment_leaves_whole_files(tmp_path: Path) -> None:
    code = (
        "import itertools, sys\nfrom pathlib import Path\nfrom cnnpar.storage.atomic import write\n"
        "path = Path(sys.argv[1])\ncontents = [path.with_name(name).read_bytes() for name in '56']\n"
        "for number in itertools.count():\n"
        "    write(path, contents[number % 2], path.with_name('model.prev.json'))\n"
        "    print(number, flush=True)"
    )
    path, previous = tmp_path / "model.json", tmp_path / "model.prev.json"
    for step in (5, 6):
        (tmp_path / str(step)).write_bytes(encode(payload(step)))
    for kill in range(8):
        line = [sys.executable, "-S", "-c", code, str(path)]
        with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(2 + 5 * kill):
                assert process.stdout.readline()
            process.kill()  # in the middle of something
        assert {step_of(path), step_of(previous)} <= {5, 6}


def test_newest_state_is_written_and_the_one_before_is_whole(tmp_path: Path, saver: Saver, notes: list[str]) -> None:
    path, previous = tmp_path / "model.json", tmp_path / "model.prev.json"
    for step in range(5, 30):
        saver.save(path, payload(step), previous)
    saver.close()
    assert step_of(path) == 29
    assert not previous.exists() or 5 <= step_of(previous) < 29
    assert notes == []


def test_saving_the_same_state_again_keeps_the_one_before(tmp_path: Path, notes: list[str]) -> None:
    path, previous = tmp_path / "model.json", tmp_path / "model.prev.json"
    for step in (5, 6, 6):
        saver = Saver(notes.append)
        saver.save(path, payload(step), previous)
        saver.close()
    assert (step_of(path), step_of(previous)) == (6, 5)


def test_a_damaged_file_of_the_same_beginning_is_replaced(tmp_path: Path, saver: Saver) -> None:
    path = tmp_path / "model.json"
    saver.save(path, payload(5))
    saver.close()
    path.write_bytes(path.read_bytes()[:-100])
    again = Saver(pytest.fail)
    again.save(path, payload(5))
    again.close()
    assert step_of(path) == 5


def test_a_disk_error_is_warned_of_and_the_next_save_succeeds(tmp_path: Path) -> None:
    told = threading.Event()
    notes: list[str] = []

    def warn(text: str) -> None:
        notes.append(text)
        told.set()

    path = tmp_path / "gone" / "model.json"
    saver = Saver(warn)
    saver.save(path, payload(5))
    assert told.wait(HANGING)
    path.parent.mkdir()
    saver.save(path, payload(6))
    saver.close()
    assert step_of(path) == 6
    assert notes == [
        f"{path}: cannot write the checkpoint: No such file or directory; training goes on, and tries again",
        f"{path}: checkpoints are written again",
    ]


def test_closing_raises_if_the_last_save_failed(tmp_path: Path, saver: Saver) -> None:
    path = tmp_path / "gone" / "model.json"
    saver.save(path, payload(5))
    ((file, (unsaved, why)),) = saver.close().items()
    assert (file, unsaved.state.step, why) == (path, 5, "No such file or directory")


def test_failed_save_is_retried_with_the_next_save_of_any_file(tmp_path: Path) -> None:
    told = threading.Event()
    notes: list[str] = []

    def warn(text: str) -> None:
        notes.append(text)
        told.set()

    saver = Saver(warn)
    best, model = tmp_path / "gone" / "best.json", tmp_path / "gone" / "model.json"
    saver.save(best, payload(5))
    assert told.wait(HANGING)
    best.parent.mkdir()
    saver.save(model, payload(6))
    saver.close()
    assert (step_of(best), step_of(model)) == (5, 6)
    assert [note.partition(": ")[2].partition(":")[0] for note in notes] == [
        "cannot write the checkpoint",
        "checkpoints are written again",
    ]


def test_failed_save_is_not_retried_once_there_is_a_newer_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(what: Payload) -> bytes:
        """Fails for the first state, and only after the second one has come."""
        if what.state.step == 5:
            entered.set()
            assert go_on.wait(HANGING)
            raise OSError(28, "full")
        return encode(what)

    monkeypatch.setattr("cnnpar.storage.saver.encode", slow)
    path = tmp_path / "model.json"
    saver = Saver(lambda _: None)
    saver.save(path, payload(5))
    assert entered.wait(HANGING)
    saver.save(path, payload(6))
    go_on.set()
    while not path.exists():
        os.sched_yield()
    saver.close()  # does not try the first one
    assert step_of(path) == 6


def test_a_failure_at_close_is_an_error_without_a_warning(tmp_path: Path, saver: Saver, notes: list[str]) -> None:
    with saver._changed:  # the thread cannot begin before the end has begun
        saver.save(tmp_path / "gone" / "model.json", payload(5))
        saver._closing = True
    assert saver.close()
    assert notes == []


def test_a_damaged_file_does_not_replace_the_one_before(tmp_path: Path, saver: Saver) -> None:
    path, previous = tmp_path / "model.json", tmp_path / "model.prev.json"
    path.write_bytes(encode(payload(7))[:-100])
    previous.write_bytes(encode(payload(6)))
    saver.save(path, payload(8), previous)
    saver.close()
    assert (step_of(path), step_of(previous)) == (8, 6)


def test_state_that_cannot_be_encoded_does_not_end_the_thread(tmp_path: Path, saver: Saver) -> None:
    broken = msgspec.structs.replace(payload(5), data_fingerprint="\ud800")
    saver.save(tmp_path / "model.json", broken)
    saver.save(tmp_path / "best.json", payload(6))
    assert saver.close()[tmp_path / "model.json"][1].startswith("Unicode")
    assert step_of(tmp_path / "best.json") == 6


def test_files_are_written_in_the_order_of_their_newest_states(tmp_path: Path) -> None:
    """So a best checkpoint is on disk before any newest one that knows of it."""
    order: list[str] = []
    saver = Saver(lambda text: order.append(Path(text.partition(":")[0]).name))
    with saver._changed:  # the thread cannot begin before all are handed over
        for name, step in (("model", 5), ("best", 6), ("model", 6)):
            saver.save(tmp_path / "gone" / name, payload(step))
    assert [path.name for path in saver.close()] == ["best", "model"]
    assert order == ["best"]
