"""The programs `cnnpar`, `cnnpar-train` and `cnnpar-test`, which this installation's scripts call.

Until a command takes the signals over, Ctrl-C ends the process as the system does: Python would print a traceback out
of the imports, which take a moment.
"""

import gc
import signal
from typing import NoReturn

_CYCLES = 20_000  # objects between searches for cycles; with Python's 700 a tenth of a start is spent on what stays


def main() -> None:
    """Run `cnnpar`, with all its commands."""
    _end("app")


def main_train() -> None:
    """Run `cnnpar-train`, which is `cnnpar train`."""
    _end("train_app")


def main_test() -> None:
    """Run `cnnpar-test`, which is `cnnpar test`."""
    _end("test_app")


def _end(name: str) -> NoReturn:
    interrupts = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interrupts:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.set_threshold(_CYCLES)
    from cnnpar.cli import commands
    from cnnpar.cli.console import end

    if interrupts:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    end(getattr(commands, name))
