"""Lines that say what a command does, for whatever takes so long that people would wonder."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SOON = 1.0  # seconds


@contextmanager
def announced(note: Callable[[str], None], text: str) -> Iterator[None]:
    """Pass a text to `note` if the block takes longer than a second, as soon as it has."""
    timer = threading.Timer(_SOON, note, [text])
    timer.daemon = True  # after an error it keeps no command from its end
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
