"""Signals that end a run: they are noticed between two steps, so that it saves first."""

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignal:
    """SIGINT, SIGTERM and SIGHUP: until `notice` they end the command at once; from then on they ask the run to stop.

    A context manager, which restores the handlers. A signal that is ignored when the command starts, as by nohup or
    for a job in the background, stays ignored. A second signal while the run ends prints what is waited for; further
    ones do nothing: a save is never broken off.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None  # the first one
        self.waiting_for = "the step under way, and then for its checkpoint"  # for people, after a second one
        self._told = False
        self._before: dict[signal.Signals, Any] = {}
        self._ignored: list[signal.Signals] = []

    def __call__(self) -> bool:
        """Tell whether a signal has come."""
        return self.received is not None

    def notice(self) -> None:
        """Note signals from now on instead of ending: the run looks between two steps, and saves first."""
        for number in SIGNALS:
            if signal.getsignal(number) is signal.SIG_IGN:
                self._ignored.append(number)
            else:
                self._before[number] = signal.signal(number, self._notice)

    def notes(self) -> list[str]:
        """Return a line for people where Ctrl-C will do nothing, and nobody sits at a terminal to find that out."""
        if signal.SIGINT not in self._ignored or sys.stdout.isatty():
            return []
        return [f"SIGINT is ignored, as it was when the command started; `kill -TERM {os.getpid()}` stops the run"]

    def __enter__(self) -> "StopSignal":
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _notice(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.received is None:
            self.received = signal.Signals(number)
        elif not self._told:
            self._told = True
            # Not through sys.stderr, which the interrupted code may be writing to.
            line = f"{signal.Signals(number).name} once more: waiting for {self.waiting_for}; then the run ends\n"
            with contextlib.suppress(OSError):
                os.write(2, line.encode())
