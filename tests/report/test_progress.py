"""Progress as lines in pipes and files: its numbers, its cost, and streams that break."""

import contextlib
import io
import math
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from cnnpar.report.display import fit
from cnnpar.report.progress import Progress


class Time:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def begun(epochs: int = 3, total_steps: int = 300) -> tuple[Progress, io.StringIO, Time]:
    stream, clock = io.StringIO(), Time()
    progress = Progress("auto", stream, clock)
    progress.start([], total_steps, epochs, total_steps // epochs)
    return progress, stream, clock


def test_without_a_terminal_a_short_epoch_is_one_line() -> None:
    progress, stream, clock = begun(epochs=12, total_steps=120)
    for step in range(10):
        clock.now += 0.5
        progress.step(1, step + 1, 0.5, 0.9, 100)
    progress.epoch(1, 0.5, 0.9123, 0.8, 5.04, 1234.5)
    progress.close()
    assert stream.getvalue() == ("epoch  1/12  loss 0.5000  train  91.23%  val  80.00%   5.0 s  1,234 samples/s\n")


def test_without_a_terminal_a_long_epoch_has_a_line_every_10_s() -> None:
    progress, stream, clock = begun()
    for step in range(100):
        clock.now += 1
        progress.step(1, step + 1, 0.5, 0.9, 100)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0] == "epoch 1/3  step 10/100    3%  loss 0.5000  train  90.00%  100 samples/s  4:50 left"
    assert lines[-1].startswith("epoch 1/3  step 100/100   33%")


def test_an_epochs_line_starts_the_ten_seconds_anew() -> None:
    progress, stream, clock = begun()
    clock.now += 9
    progress.epoch(1, 0.5, 0.9, None, 9.0, 100)
    clock.now += 9
    progress.step(2, 101, 0.5, 0.9, 100)
    assert stream.getvalue().count("\n") == 1
    clock.now += 1
    progress.step(2, 102, 0.5, 0.9, 100)
    assert stream.getvalue().count("\n") == 2


def test_a_bar_moves_however_short_the_epochs_are() -> None:
    master, slave = pty.openpty()
    clock = Time()
    with os.fdopen(slave, "w") as terminal:
        progress = Progress("auto", terminal, clock)
        progress.start([], 20, 20, 1)
        for epoch in range(1, 21):
            clock.now += 0.03
            progress.step(epoch, epoch, 0.5, 0.9, 100)
            progress.epoch(epoch, 0.5, 0.9, 0.8, 0.03, 100)
        progress.close()
        shown = ""
        while select.select([master], [], [], 0)[0]:  # a read gives what was written at a time, not all
            shown += os.read(master, 1 << 16).decode()
    os.close(master)
    shares = re.findall(r"([0-9]+)%.{0,20}loss", shown)
    assert 4 <= len(set(shares)) <= 7
    assert int(shares[-1]) >= 80


def test_time_left_is_that_of_steps_after_the_first_one() -> None:
    progress, stream, clock = begun()
    clock.now += 30  # the first one of this process waited for workers
    progress.step(3, 201, 0.5, 0.9, 100)
    clock.now += 49
    progress.step(3, 250, 0.5, 0.9, 100)
    line = "loss 0.5000  train  90.00%  100 samples/s"
    assert stream.getvalue().splitlines() == [
        f"epoch 3/3  step 1/100   67%  {line}",
        f"epoch 3/3  step 50/100   83%  {line}  0:50 left",
    ]


@pytest.mark.parametrize(
    ("loss", "seconds", "expected"),
    [
        (0.0, 0.04, "loss 0.0000  train  50.00%   0.0 s"),
        (12.3456, 99.94, "loss 12.3456  train  50.00%  99.9 s"),
        (1234.5, 99.96, "loss   1234  train  50.00%    1:40"),
        (1e20, 3599.6, "loss  1e+20  train  50.00%  1:00:00"),
        (math.nan, 86400.0, "loss    nan  train  50.00%  24:00:00"),
        (math.inf, 61.0, "loss    inf  train  50.00%  61.0 s"),
    ],
)
def test_odd_losses_and_long_times_stay_readable(loss: float, seconds: float, expected: str) -> None:
    progress, stream, _ = begun()
    progress.epoch(2, loss, 0.5, None, seconds, 7)
    assert stream.getvalue() == f"epoch 2/3  {expected}  7 samples/s\n"


def test_quiet_says_nothing() -> None:
    stream = io.StringIO()
    clock = Time()
    progress = Progress("quiet", stream, clock)
    progress.start(["line"], 10, 1, 10)
    clock.now += 100
    progress.step(1, 1, 0.5, 0.9, 100)
    progress.epoch(1, 0.5, 0.9, 0.9, 5.0, 100)
    progress.note("note")
    progress.close()
    assert stream.getvalue() == ""


def test_standard_output_is_the_default_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setenv("TERM", "dumb")
        progress = Progress("auto")
        progress.note("hello")
        monkeypatch.undo()
    assert os.read(master, 100) == b"hello\r\n"
    os.close(master)


def everything(progress: Progress, clock: Time) -> None:
    progress.start(["line"], 10, 1, 10)
    for step in range(10):
        clock.now += 20
        progress.step(1, step + 1, 0.5, 0.9, 100)
    progress.epoch(1, 0.5, 0.9, 0.9, 5.0, 100)
    progress.note("note")
    progress.close()


@contextlib.contextmanager
def unbuffered(descriptor: int) -> Iterator[io.TextIOWrapper]:
    """A text stream whose every write reaches the system, and whose end may fail like the rest."""
    with io.FileIO(descriptor, "w") as raw:
        stream = io.TextIOWrapper(raw, write_through=True)
        yield stream
        with contextlib.suppress(OSError):
            stream.close()


def closed_pipe() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


def hung_up_terminal() -> int:
    master, slave = pty.openpty()
    os.close(master)
    return slave


@pytest.mark.parametrize(
    "broken", [closed_pipe, hung_up_terminal, lambda: os.open("/dev/full", os.O_WRONLY)], ids=["pipe", "tty", "full"]
)
def test_a_broken_stream_ends_the_report_and_not_the_run(broken: Callable[[], int]) -> None:
    clock = Time()
    with unbuffered(broken()) as stream:
        everything(Progress("auto", stream, clock), clock)


def test_a_terminal_that_hangs_up_gives_standard_output_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Time()
    master, slave = pty.openpty()
    with unbuffered(slave) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        progress = Progress("auto", stream, clock)
        progress.start(["line"], 10, 1, 10)
        clock.now += 1
        progress.step(1, 1, 0.5, 0.9, 100)
        assert sys.stdout is not stream  # prints go through the bar
        os.close(master)
        for step in range(1, 10):
            clock.now += 1
            progress.step(1, step + 1, 0.5, 0.9, 100)
        assert sys.stdout is stream
        progress.close()
        monkeypatch.undo()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_note_may_hold_what_the_stream_cannot_encode(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    Progress("auto", stream).note("file 中 \udcff [red]")
    shown = raw.getvalue().decode(encoding)
    assert shown.startswith("file ")
    assert shown.endswith("\\udcff [red]\n")


def test_a_step_costs_microseconds() -> None:
    progress = Progress("auto", io.StringIO())
    progress.start([], 10**6, 1, 10**6)
    begin = time.thread_time()  # of this thread on a core: on a busy machine others have the cores for most of the time
    for step in range(20_000):
        progress.step(1, step + 1, 0.5, 0.9, 100)
    assert (time.thread_time() - begin) / 20_000 < 20e-6


def test_fit_leaves_out_the_highest_ranks_and_keeps_the_order() -> None:
    parts = [(0, "head"), (3, "third"), (1, "first"), (2, "second")]
    assert fit(parts, 100) == "head  third  first  second"
    assert fit(parts, 25) == "head  first  second"
    assert fit(parts, 12) == "head  first"
    assert fit(parts, 1) == "head"


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, cnnpar.report.progress, cnnpar.report.metrics, cnnpar.report.plots as plots\n"
        "cnnpar.report.progress.Progress('auto').note('x')\n"
        "print([m for m in ('rich', 'matplotlib', 'PIL', 'numpy') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "x\n[]\n"
