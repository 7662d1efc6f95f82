"""The progress bar of a terminal, drawn by rich."""

import sys
import textwrap
from collections.abc import Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from cnnpar.report.display import Part, fit

NARROWEST, WIDEST = 10, 50  # columns of the bar itself
_BETWEEN_WORDS: Any = {
    "expand_tabs": False,
    "replace_whitespace": False,
    "break_long_words": False,
    "break_on_hyphens": False,
}


class Bar:
    """The display of a terminal: one line at the bottom with text, a bar, and as much more text as there is room for.

    Only calls redraw it, not a thread. Whatever else the process prints to the terminal appears above it.
    """

    interval = 0.1  # seconds
    lines_are_enough = False

    def __init__(self, stream: TextIO) -> None:
        # A terminal that hung up is none any more: with `force_terminal` writing to it is an error, and not ignored.
        self._console = Console(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)
        # Only output to a terminal may pass through the bar: the rest goes to files and pipes unchanged.
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )

    @property
    def width(self) -> int:
        """Columns of the terminal now."""
        return self._console.width

    def line(self, text: str) -> None:
        """Print text above the bar, broken between words where it is too long; a longer word, such as a path, stays."""
        for line in text.split("\n"):
            if len(line) > self.width:
                line = textwrap.fill(line, self.width, subsequent_indent="  ", **_BETWEEN_WORDS)
            self._console.print(line, soft_wrap=True)

    def status(self, share: float, parts: Sequence[Part]) -> None:
        """Draw the bar, `share` of it filled, between the first part and the others."""
        (_, head), *rest = parts
        tail = fit(rest, self.width - len(head) - NARROWEST - 3)  # a space each side of the bar, one at the end
        columns = self.width - len(head) - len(tail) - 3
        row = Table.grid(padding=(0, 1), pad_edge=False)
        for _ in range(3):
            row.add_column(no_wrap=True)
        bar = ProgressBar(
            total=1.0,
            completed=share,
            width=min(columns, WIDEST),
            style="bright_black",
            complete_style="green",
            finished_style="green",
        )
        row.add_row(head, bar, tail)
        if not self._live.is_started:
            self._live.start()
        self._live.update(row, refresh=True)

    def close(self) -> None:
        """Remove the bar, show the cursor again, and restore standard output and error."""
        self._live.stop()
