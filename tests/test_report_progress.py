"""What a person sees of a training: on real terminals of several widths, in pipes and files, and when those break."""

import contextlib
import fcntl
import io
import math
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator

import pytest

from cnnpar.report.display import fit
from cnnpar.report.progress import Progress

# A run of three epochs of 30 steps; each look at the clock takes a fifth of a second.
RUN = """
import itertools, os, sys
from cnnpar.report.progress import Progress
progress = Progress("auto", clock=itertools.count(step=0.2).__next__)
progress.start(["a first line", "and a second"], 90, 0, 3, 30)
for epoch in range(1, 4):
    for step in range(30):
        progress.step(epoch, 30 * (epoch - 1) + step + 1, 0.1234, 0.98765, 12345.6)
    if epoch == 2:
        progress.note("a note")
        print("printed by somebody else")
        print("an error of somebody else", file=sys.stderr)
    if sys.argv[1] == "stop-in-epoch-2" and epoch == 2:
        os._exit(0)
    progress.epoch(epoch, 0.4321, 0.97, 0.96, 6.0, 12345.6)
progress.close()
progress.note("done")
"""


class Screen:
    """As much of a terminal as the progress bar uses; any other control sequence is an error."""

    def __init__(self, width: int) -> None:
        self.width, self.row, self.column = width, 0, 0
        self.rows: list[list[str]] = [[]]
        self.cursor_visible = True
        self.colours: set[str] = set()

    def feed(self, text: str) -> None:
        for control, final, character in re.findall(r"\x1b\[([?0-9;]*)([a-zA-Z])|([\s\S])", text):
            if character:
                self._put(character)
            elif final == "m":
                self.colours.add(control)
            elif final == "A":
                self.row -= int(control or 1)
            elif (control, final) == ("2", "K"):
                self.rows[self.row] = []
            elif control == "?25":
                self.cursor_visible = final == "h"
            else:
                raise AssertionError(f"unknown control sequence {control}{final}")

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self._next_row()
        else:
            assert character.isprintable(), character
            if self.column == self.width:  # the right edge wraps
                self._next_row()
                self.column = 0
            row = self.rows[self.row]
            row.extend(" " * (self.column + 1 - len(row)))
            row[self.column] = character
            self.column += 1

    def _next_row(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append([])

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.rows if row]


def on_terminal(width: int, stop: str = "", **environment: str) -> Screen:
    """The screen of a terminal of `width` columns after `RUN` was run in it."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    variables = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    child = subprocess.Popen(
        [sys.executable, "-c", RUN, stop],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=variables | {"TERM": "xterm", "PYTHONIOENCODING": "utf-8"} | environment,
    )
    os.close(slave)
    output = b""
    while True:
        try:
            output += (data := os.read(master, 65536))
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not data:
            break
    os.close(master)
    assert child.wait() == 0, output.decode()
    screen = Screen(width)
    screen.feed(output.decode())
    return screen


def test_a_terminal_of_80_columns_shows_a_line_for_each_epoch_above_the_bar() -> None:
    screen = on_terminal(80, "stop-in-epoch-2")
    *lines, bar = screen.lines
    assert lines == [
        "a first line",
        "and a second",
        "epoch 1/3  loss 0.4321  train  97.00%  val  96.00%   6.0 s  12,346 samples/s",
        "a note",
        "printed by somebody else",
        "an error of somebody else",
    ]
    assert re.fullmatch(r"epoch 2/3 [━╸╺]{20,} +67%  loss 0.1234  train  98.77%  0:0\d left", bar)
    assert screen.colours > {"0"}


def test_a_terminal_of_40_columns_keeps_what_matters_most_on_one_row() -> None:
    screen = on_terminal(40, "stop-in-epoch-2")
    lines = screen.lines
    assert lines[2] == "epoch 1/3  loss 0.4321  val  96.00%"
    assert re.fullmatch(r"epoch 2/3 [━╸╺]{10,} +67%  0:0\d left", lines[-1])


def test_a_wide_terminal_shows_everything() -> None:
    bar = on_terminal(160, "stop-in-epoch-2").lines[-1]
    assert re.fullmatch(
        r"epoch 2/3 [━╸╺]{50} step 30/30   67%  loss 0.1234  train  98.77%  12,346 samples/s  0:0\d left", bar
    )


@pytest.mark.parametrize("width", [20, 80])
def test_closing_leaves_the_lines_and_the_cursor_and_no_bar(width: int) -> None:
    screen = on_terminal(width)
    assert screen.cursor_visible
    assert not any("━" in line for line in screen.lines)
    assert screen.lines[-1] == "done"
    assert sum(line.startswith("epoch") for line in screen.lines) == 3


def test_no_color_takes_the_colours_and_leaves_the_bar() -> None:
    screen = on_terminal(80, "stop-in-epoch-2", NO_COLOR="1")
    assert screen.colours == set()
    assert "━" in screen.lines[-1]


def test_a_dumb_terminal_gets_plain_lines() -> None:
    screen = on_terminal(80, TERM="dumb")
    assert screen.colours == set()
    assert sum(line.startswith("epoch") and "val" in line for line in screen.lines) == 3


class Time:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def begun(epochs: int = 3, total_steps: int = 300, first_step: int = 0) -> tuple[Progress, io.StringIO, Time]:
    stream, clock = io.StringIO(), Time()
    progress = Progress("auto", stream, clock)
    progress.start([], total_steps, first_step, epochs, total_steps // epochs)
    return progress, stream, clock


def test_without_a_terminal_a_short_epoch_is_one_line() -> None:
    progress, stream, clock = begun(epochs=12, total_steps=120)
    for step in range(10):
        clock.now += 0.5
        progress.step(1, step + 1, 0.5, 0.9, 100)
    progress.epoch(1, 0.5, 0.9123, 0.8, 5.04, 1234.5)
    progress.close()
    assert stream.getvalue() == ("epoch  1/12  loss 0.5000  train  91.23%  val  80.00%   5.0 s  1,234 samples/s\n")


def test_without_a_terminal_a_long_epoch_speaks_every_ten_seconds() -> None:
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


def test_time_left_counts_only_the_steps_of_this_process() -> None:
    progress, stream, clock = begun(first_step=200)
    clock.now += 60
    progress.step(3, 250, 0.5, 0.9, 100)
    assert stream.getvalue() == "epoch 3/3  step 50/100   83%  loss 0.5000  train  90.00%  100 samples/s  1:00 left\n"


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
    progress.start(["line"], 10, 0, 1, 10)
    clock.now += 100
    progress.step(1, 1, 0.5, 0.9, 100)
    progress.epoch(1, 0.5, 0.9, 0.9, 5.0, 100)
    progress.note("note")
    progress.close()
    assert stream.getvalue() == ""


def test_plain_on_a_terminal_is_plain_and_standard_output_is_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        progress = Progress("plain")
        progress.note("hello")
        monkeypatch.undo()
    assert os.read(master, 100) == b"hello\r\n"
    os.close(master)


def everything(progress: Progress, clock: Time) -> None:
    progress.start(["line"], 10, 0, 1, 10)
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


def test_a_terminal_that_hangs_up_in_the_middle_gives_standard_output_back() -> None:
    clock = Time()
    master, slave = pty.openpty()
    stdout, stderr = sys.stdout, sys.stderr
    with unbuffered(slave) as stream:
        progress = Progress("auto", stream, clock)
        progress.start(["line"], 10, 0, 1, 10)
        clock.now += 1
        progress.step(1, 1, 0.5, 0.9, 100)
        os.close(master)
        for step in range(1, 10):
            clock.now += 1
            progress.step(1, step + 1, 0.5, 0.9, 100)
        progress.close()
    assert sys.stdout is stdout
    assert sys.stderr is stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_note_may_hold_what_the_stream_cannot_encode(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    Progress("plain", stream).note("file 中 \udcff [red]")
    shown = raw.getvalue().decode(encoding)
    assert shown.startswith("file ")
    assert shown.endswith("\\udcff [red]\n")


def test_a_step_costs_microseconds() -> None:
    progress = Progress("plain", io.StringIO())
    progress.start([], 10**6, 0, 1, 10**6)
    begin = time.perf_counter()
    for step in range(20_000):
        progress.step(1, step + 1, 0.5, 0.9, 100)
    assert (time.perf_counter() - begin) / 20_000 < 20e-6


def test_fitting_leaves_out_the_highest_ranks_and_keeps_the_order() -> None:
    parts = [(0, "head"), (3, "third"), (1, "first"), (2, "second")]
    assert fit(parts, 100) == "head  third  first  second"
    assert fit(parts, 25) == "head  first  second"
    assert fit(parts, 12) == "head  first"
    assert fit(parts, 1) == "head"


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, cnnpar.report.progress, cnnpar.report.metrics, cnnpar.report.plots as plots\n"
        "cnnpar.report.progress.Progress('plain').note('x')\n"
        "print([m for m in ('rich', 'matplotlib', 'PIL', 'numpy') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "x\n[]\n"
