"""The progress of a training for people: a bar on a terminal and in a notebook, plain lines elsewhere, or nothing.

epoch  3/30  loss 0.0712  train  97.81%  val  98.04%   1.2 s  52,345 samples/s
epoch  4/30 ━━━━━━━━                        11%  loss 0.0698  train  98.02%  0:31 left
"""

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TextIO

from cnnpar.report.display import Display, Lines, Part, fit
from cnnpar.report.notebook import Cell, in_kernel
from cnnpar.text import harmless


class Progress:
    """The report of a run on `stream` (default: standard output).

    Mode `auto` draws a bar for the whole run if the stream is a terminal, and a line above it for each finished epoch;
    a notebook has both in the output of the cell. Elsewhere there is a line for each epoch, and one every ten seconds
    within long ones. `quiet` shows nothing. A stream that breaks (closed pipe, full disk) ends the report, not the run.

    Epochs count from 1. Steps are finished optimizer steps of the whole run: the first call of `step` in a new run
    passes 1. Accuracies are in 0..1. `clock` returns seconds.
    """

    def __init__(
        self,
        mode: Literal["auto", "quiet"],
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        stream = stream or sys.stdout
        self._encoding = stream.encoding or "utf-8"
        self._clock = clock
        self._display = _display(mode, stream)
        self._epochs = self._total_steps = self._steps_per_epoch = 0
        self._first_done: tuple[int, float] | None = None  # step and clock; it may have compiled and waited for workers
        self._due = math.inf  # clock at which `step` shows a status again

    @property
    def width(self) -> int:
        """Columns for text; of what is no terminal more than any line has."""
        return self._display.width if self._display else Lines.width

    def start(self, lines: Sequence[str], total_steps: int, epochs: int, steps_per_epoch: int) -> None:
        """Show `lines` and begin a run of `total_steps`, those that were done before it was resumed included."""
        for line in lines:
            self.note(line)
        self._epochs, self._total_steps = epochs, total_steps
        self._steps_per_epoch, self._first_done = steps_per_epoch, None
        if self._display:
            self._due = self._clock() + self._display.interval

    def step(self, epoch: int, step: int, loss: float, accuracy: float, samples_per_second: float) -> None:
        """Show a finished step, if it is time for a new status; other calls take less than a microsecond."""
        now = self._clock()
        self._first_done = self._first_done or (step, now)
        if now < self._due or not self._display:
            return
        self._due = now + self._display.interval
        share = step / self._total_steps
        first, since = self._first_done
        step_of_epoch = step - (epoch - 1) * self._steps_per_epoch
        parts = [
            (0, self._epoch(epoch)),
            (5, f"step {step_of_epoch:,}/{self._steps_per_epoch:,}"),
            (0, f"{100 * share:3.0f}%"),
            (2, f"loss {_number(loss)}"),
            (3, f"train {_percent(accuracy)}"),
            (4, f"{samples_per_second:,.0f} samples/s"),
        ]
        if step > first:
            parts.append((1, f"{_clock_time((now - since) / (step - first) * (self._total_steps - step))} left"))
        self._attempt(partial(self._display.status, share, parts))

    def epoch(
        self,
        epoch: int,
        train_loss: float,
        train_accuracy: float,
        validation_accuracy: float | None,
        seconds: float,
        samples_per_second: float,
    ) -> None:
        """Show a finished epoch in a line that stays."""
        if not self._display:
            return
        took = f"{seconds:4.1f} s" if seconds < 99.95 else _clock_time(seconds)
        parts: list[Part] = [
            (0, self._epoch(epoch)),
            (2, f"loss {_number(train_loss)}"),
            (3, f"train {_percent(train_accuracy)}"),
            (5, f"{took:>6}"),
            (4, f"{samples_per_second:,.0f} samples/s"),
        ]
        if validation_accuracy is not None:
            parts.insert(3, (1, f"val {_percent(validation_accuracy)}"))
        self._attempt(partial(self._display.line, fit(parts, self._display.width)))
        if self._display and self._display.lines_are_enough:
            self._due = self._clock() + self._display.interval

    def note(self, text: str) -> None:
        """Show a line of its own, above the bar if there is one."""
        if self._display:
            # Characters that the encoding lacks, and those that control a terminal, are shown escaped.
            shown = harmless(text).encode(self._encoding, "backslashreplace").decode(self._encoding)
            self._attempt(partial(self._display.line, shown))

    def close(self) -> None:
        """Remove the bar; lines stay. Notes may still follow."""
        self._due = math.inf
        if self._display:
            self._attempt(self._display.close)

    def _epoch(self, epoch: int) -> str:
        return f"epoch {epoch:{len(str(self._epochs))}}/{self._epochs}"

    def _attempt(self, show: Callable[[], None]) -> None:
        """Call `show`; if the stream is broken, end the report for good."""
        try:
            show()
        except OSError:
            display, self._display, self._due = self._display, None, math.inf
            if display:
                with contextlib.suppress(OSError):
                    display.close()


def _display(mode: str, stream: TextIO) -> Display | None:
    if mode == "quiet":
        return None
    if mode == "auto" and stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        from cnnpar.report.bar import Bar  # here, as nothing else of this file needs rich

        return Bar(stream)
    if mode == "auto" and stream is sys.stdout and in_kernel():
        return Cell()
    return Lines(stream)


def _number(loss: float) -> str:
    """Return a loss in six characters, or few more; NaN and infinity too."""
    return f"{loss:6.4f}" if abs(loss) < 100 else f"{loss:6.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:6.2f}%"


def _clock_time(seconds: float) -> str:
    """Return seconds as 0:42, 12:03 or 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
