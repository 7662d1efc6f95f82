"""Watch over a start of Ray, for the end of a process that it needs: Ray itself waits on, for a minute or more.

It is the run's process that looks, as Ray may keep the interpreter lock of the control process while it waits.
"""

import contextlib
from pathlib import Path

NEEDED = ("gcs_server", "raylet")  # of Ray's processes; without the others workers go on


class StartWatch:
    """Looks at the children of the process that starts Ray; sees nothing on a system without /proc."""

    def __init__(self, parent: int) -> None:
        """Take the number of the process that starts Ray."""
        self._parent = parent
        self._alive: dict[int, str] = {}  # names of processes that Ray needs, by number

    def death(self) -> str | None:
        """Return the reason why this start cannot succeed any more; None while it can."""
        alive: dict[int, str] = {}
        dead: dict[int, str] = {}  # and not waited for yet
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                head, _, rest = (folder / "stat").read_text(errors="replace").rpartition(")")  # proc_pid_stat(5)
                name, (state, parent) = head.partition("(")[2], rest.split()[:2]
                if name in NEEDED and int(parent) == self._parent:
                    (dead if state in "ZX" else alive)[int(folder.name)] = name
        gone = [name for pid, name in {**self._alive, **dead}.items() if pid not in alive]
        self._alive = alive
        return f"Ray has ended as it started (its {gone[0]} process is gone)" if gone else None
