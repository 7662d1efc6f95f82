"""Displays of progress: lines that stay, and a status that each new one replaces.

`Lines` writes both as lines, for files, pipes and logs; `cnnpar.report.bar` is the display of a terminal.
"""

from collections.abc import Sequence
from typing import Protocol, TextIO

Part = tuple[int, str]  # (rank, text): without room for all, parts of the highest rank are left out


class Display(Protocol):
    """Interface of a display; every method may raise OSError."""

    @property
    def interval(self) -> float:
        """Seconds between two statuses."""

    @property
    def lines_are_enough(self) -> bool:
        """True if no status is needed within an interval after a line."""

    @property
    def width(self) -> int:
        """Columns for text."""

    def line(self, text: str) -> None:
        """Show text that stays."""

    def status(self, share: float, parts: Sequence[Part]) -> None:
        """Show the state of the run, of which `share` (0..1) is done."""

    def close(self) -> None:
        """Leave the stream as it was found."""


def fit(parts: Sequence[Part], width: int, between: str = "  ") -> str:
    """Join texts by two spaces, or others, and leave out those of the highest ranks until `width` columns are enough.

    One is left in any case.
    """
    kept = list(parts)
    while len(text := between.join(text for _, text in kept)) > width and len(kept) > 1:
        kept.remove(max(kept))
    return text


class Lines:
    """The display of files, pipes and logs: plain lines without control characters, each flushed."""

    interval = 10.0  # seconds
    lines_are_enough = True
    width = 1000  # files and logs have no right edge

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def line(self, text: str) -> None:
        """Write a line."""
        print(text, file=self._stream, flush=True)

    def status(self, share: float, parts: Sequence[Part]) -> None:  # noqa: ARG002 - a bar needs the share
        """Write the state as a line."""
        self.line(fit(parts, self.width))

    def close(self) -> None:
        """Do nothing: there is nothing to restore."""
