"""Progress on terminals of several widths: what is on their screens."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

# A run of three epochs of 30 steps; each look at the clock takes half a second.
RUN = """
import itertools, os, sys
from cnnpar.report.progress import Progress
progress = Progress("auto", clock=itertools.count(step=0.5).__next__)
progress.start(["a first line", "and a second", *sys.argv[2:]], 90, 3, 30)
for epoch in range(1, 4):
    for step in range(30):
        progress.step(epoch, 30 * (epoch - 1) + step + 1, 0.1234, 0.98765, 12345.6)
    if epoch == 2:
        progress.note("a note [red]")
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


def on_terminal(width: int, stop: str = "", *lines: str, **environment: str) -> Screen:
    """Run `RUN` in a terminal of `width` columns, with further first lines, and return its screen."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    variables = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    child = subprocess.Popen(
        [sys.executable, "-c", RUN, stop, *lines],
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


def test_80_columns_show_a_line_per_epoch_above_the_bar() -> None:
    screen = on_terminal(80, "stop-in-epoch-2")
    *lines, bar = screen.lines
    assert lines == [
        "a first line",
        "and a second",
        "epoch 1/3  loss 0.4321  train  97.00%  val  96.00%   6.0 s  12,346 samples/s",
        "a note [red]",
        "printed by somebody else",
        "an error of somebody else",
    ]
    assert re.fullmatch(r"epoch 2/3 [━╸╺]{20,} +67%  loss 0.1234  train  98.77%  0:\d\d left", bar)
    assert screen.colours > {"0"}


def test_40_columns_keep_each_line_on_one_row() -> None:
    screen = on_terminal(40, "stop-in-epoch-2")
    lines = screen.lines
    assert lines[2] == "epoch 1/3  loss 0.4321  val  96.00%"
    assert re.fullmatch(r"epoch 2/3 [━╸╺]{10,} +67%  0:\d\d left", lines[-1])


def test_long_first_lines_are_broken_between_words() -> None:
    path = f"/tmp/{'a-long-path/' * 8}train"
    understood = "4 classes (ant, bee, cat, dog), 224 x 224 colour, pictures cropped to 224 x 224, folder train"
    screen = on_terminal(80, "stop-in-epoch-2", understood, f"run directory {path}")
    assert screen.lines[2:7] == [
        "4 classes (ant, bee, cat, dog), 224 x 224 colour, pictures cropped to 224 x 224,",
        "  folder train",
        "run directory",
        f"  {path[:78]}",
        path[78:],
    ]


def test_a_wide_terminal_shows_everything() -> None:
    bar = on_terminal(160, "stop-in-epoch-2").lines[-1]
    assert re.fullmatch(
        r"epoch 2/3 [━╸╺]{50} step 30/30   67%  loss 0.1234  train  98.77%  12,346 samples/s  0:\d\d left", bar
    )


@pytest.mark.parametrize("width", [20, 80])
def test_closing_leaves_the_lines_and_the_cursor_and_no_bar(width: int) -> None:
    screen = on_terminal(width)
    assert screen.cursor_visible
    assert not any("━" in line for line in screen.lines)
    assert screen.lines[-1] == "done"
    assert sum(line.startswith("epoch") for line in screen.lines) == 3


def test_no_color_removes_the_colours_and_keeps_the_bar() -> None:
    screen = on_terminal(80, "stop-in-epoch-2", NO_COLOR="1")
    assert screen.colours == set()
    assert "━" in screen.lines[-1]


def test_a_dumb_terminal_gets_plain_lines() -> None:
    screen = on_terminal(80, TERM="dumb")
    assert screen.colours == set()
    kinds = [line.split()[2] for line in screen.lines if line.startswith("epoch")]
    assert kinds == ["step", "loss"] * 3
