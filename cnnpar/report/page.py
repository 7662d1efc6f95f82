"""Tables as plain text, for terminals and files alike."""

import io

from rich.console import Console
from rich.table import Table

WIDTH = 80  # columns


def page(*parts: Table | str) -> str:
    """Return the parts one below another as text, in at most WIDTH columns, without colours."""
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
