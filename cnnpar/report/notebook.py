"""What a notebook shows below a cell: the progress of a run, and tables."""

import html
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from cnnpar.report.display import Part, fit

FIRST, LAST = 10, 20  # lines that are shown: a run of a thousand epochs has no room for all
_BAR = 30  # columns


class Cell:
    """The display of a cell: the lines, and below them a status that each new one replaces, as one output.

    It is updated by Jupyter's own messages, which all frontends know; control characters are not used. Of many lines
    those in the middle make room; the run's metrics.jsonl has them all.
    """

    interval = 0.5  # seconds
    lines_are_enough = False
    width = 100  # columns, which a cell shows without a break

    def __init__(self) -> None:
        self._first: list[str] = []
        self._last: list[str] = []
        self._left_out = 0
        self._handle: Any = None  # IPython's, of the output

    def line(self, text: str) -> None:
        """Add a line."""
        if len(self._first) < FIRST:
            self._first.append(text)
        else:
            self._last.append(text)
        if len(self._last) > LAST:
            del self._last[0]
            self._left_out += 1
        self._show()

    def status(self, share: float, parts: Sequence[Part]) -> None:
        """Show the state, with a bar, below the lines."""
        (_, head), *rest = parts
        done = round(_BAR * share)
        bar = "━" * done + "─" * (_BAR - done)
        self._show(f"{head} {bar} {fit(rest, self.width - len(head) - _BAR - 2)}")

    def close(self) -> None:
        """Remove the status."""
        self._show()

    def text(self, *status: str) -> str:
        """Return what is shown: the lines, and the status where there is one."""
        gap = [f"... {self._left_out:,} lines ..."] if self._left_out else []
        return "\n".join([*self._first, *gap, *self._last, *status])

    def _show(self, *status: str) -> None:
        from IPython.display import display

        output = {"text/plain": self.text(*status)}
        if self._handle is None:
            self._handle = display(output, raw=True, display_id=True)
        else:
            self._handle.update(output, raw=True)


def in_kernel() -> bool:
    """Tell whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


def html_table(rows: Iterable[tuple[str, str]]) -> str:
    """Return rows of a name and a value as a table in HTML; both are escaped."""
    cells = "".join(
        f'<tr><th style="text-align: left">{html.escape(name)}</th>'
        f'<td style="text-align: left">{html.escape(value)}</td></tr>'
        for name, value in rows
    )
    return f"<table>{cells}</table>"
