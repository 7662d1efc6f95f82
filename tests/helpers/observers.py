"""Progress objects that stop a run at a step, or make it wait for its checkpoints."""

import os
import signal
from pathlib import Path
from typing import Any

from cnnpar.report.progress import Progress
from cnnpar.storage.checkpoint import read


class Stopping(Progress):
    """Raise a signal during one step, which asks the run to stop."""

    def __init__(self, at: int, number: signal.Signals = signal.SIGTERM) -> None:
        super().__init__("quiet")
        self.at, self.number = at, number

    def step(self, epoch: int, step: int, *rest: Any) -> None:
        if step == self.at:
            signal.raise_signal(self.number)


class Notes(Progress):
    """Progress that keeps its notes."""

    def __init__(self) -> None:
        super().__init__("quiet")
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Patient(Progress):
    """Begin an epoch only when the checkpoint of the one before is written, as fast runs skip some."""

    def __init__(self, model: Path) -> None:
        super().__init__("quiet")
        self.model = model

    def step(self, epoch: int, step: int, *rest: Any) -> None:
        if step % 5 == 1 and step > 1:
            wait_for_step(self.model, step - 1, lambda: None)


def wait_for_step(path: Path, step: int, finished: Any) -> None:
    """Wait until the checkpoint has reached a step."""
    while not (path.exists() and read(path).state.step >= step):
        assert finished() is None, "the run ended before it was killed"
        os.sched_yield()
