"""Signals that end a run: they are noticed between two steps, so that it saves first."""

import signal
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignal:
    """SIGINT, SIGTERM and SIGHUP: until `notice` they end the command at once; from then on they ask the run to stop.

    A context manager, which restores the handlers. A signal that is ignored when the command starts, as by nohup or
    for a job in the background, stays ignored.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None  # the first one
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        """Tell whether a signal has come."""
        return self.received is not None

    def notice(self) -> None:
        """Note signals from now on instead of ending: the run looks between two steps, and saves first."""
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._notice)

    def __enter__(self) -> "StopSignal":
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _notice(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.received = self.received or signal.Signals(number)
