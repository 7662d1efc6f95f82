"""Moments that faults are aimed at: the driver is stopped at them, with SIGSTOP."""

import signal
from collections.abc import Callable
from contextlib import suppress

from scripts.chaos import records
from scripts.chaos.settings import EPOCH
from scripts.chaos.training_run import Run

_LOOK = 0.0003  # seconds


def stop_as_it_saves(run: Run) -> None:
    """Stop the driver while half a checkpoint is on the disk."""
    _stop(run, (run.directory / ".model.json.tmp").exists, "write a checkpoint")


def stop_as_it_evaluates(run: Run) -> None:
    """Stop the driver within the validation after an epoch: all steps of the epoch are done, it is not."""

    def evaluates() -> bool:
        with suppress(OSError, ValueError, IndexError):
            record = records.last(run.metrics)
            return record.step % EPOCH == 0 and not record.of_epoch
        return False

    _stop(run, evaluates, "evaluate")


def _stop(run: Run, now: Callable[[], bool], what: str) -> None:
    def caught() -> bool:
        if now():
            run.driver.send_signal(signal.SIGSTOP)
            if now():
                return True
            run.driver.send_signal(signal.SIGCONT)
        return False

    run.until(caught, what, look=_LOOK)
