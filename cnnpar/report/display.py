"""Where progress appears: lines that stay, and one status that is overtaken by the next.

`Lines` writes both as lines, for files, pipes and logs. `cnnpar.report.bar` holds the terminal's display.
"""

from collections.abc import Sequence
from typing import Protocol, TextIO

Part = tuple[int, str]  # (rank, text): where space is short, higher ranks are left out first


class Display(Protocol):
    """A place for progress; every method may raise OSError."""

    @property
    def interval(self) -> float:
        """Seconds between two statuses."""

    @property
    def lines_are_enough(self) -> bool:
        """Whether a line that stays makes the next status needless for an interval."""

    @property
    def width(self) -> int:
        """Columns for text."""

    def line(self, text: str) -> None:
        """Show text that stays."""

    def status(self, share: float, parts: Sequence[Part]) -> None:
        """Show the state of the run, of which `share` (0..1) is done."""

    def close(self) -> None:
        """Leave the stream as it was found."""


def fit(parts: Sequence[Part], width: int) -> str:
    """The texts with two spaces between them, without the highest ranks as far as `width` columns demand."""
    kept = list(parts)
    while len(text := "  ".join(text for _, text in kept)) > width and len(kept) > 1:
        kept.remove(max(kept))
    return text


class Lines:
    """Plain lines: no colours, no cursor movement, each complete in the stream when written."""

    interval = 10.0
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
        """Nothing to restore."""
