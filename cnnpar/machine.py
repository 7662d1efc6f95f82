"""What this process may use: memory and cores, by the system and by its control groups; and folders of modules.

Source: Linux kernel documentation, "Control Group v2" and "Control Groups version 1", memory and cpu controllers.
"""

import os
import sys
from collections.abc import Iterator
from math import ceil
from pathlib import Path

_ROOT = Path("/")
# Limit, use and statistics of a memory group in version 2 and 1; and pages of files, which are given up when needed.
_MEMORY = (
    ("memory.max", "memory.current", ("active_file", "inactive_file")),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")),
)


def available_memory(root: Path = _ROOT) -> int:
    """Return the bytes of memory that this process can still take without swapping.

    That is the least of what the system has available and of what its memory groups, up the tree, leave. `root` is the
    folder that /proc and /sys are in.
    """
    found = [_available_to_all(root)]
    for group in _groups("memory", root):
        for limit, used, of_files in _MEMORY:
            most = _number(group / limit)
            if most is not None:
                statistics = _table(group / "memory.stat")
                kept = (_number(group / used) or 0) - sum(statistics.get(name, 0) for name in of_files)
                found.append(max(0, most - max(0, kept)))
    return min(found)


def usable_cores(root: Path = _ROOT) -> int:
    """Return the number of cores that this process may use: those of its affinity, or fewer by its groups' quota.

    A quota of part of a core counts as a whole one. `root` is the folder that /proc and /sys are in.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in _groups("cpu", root):
        quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
        words = _text(group / "cpu.max").split()  # "max 100000", "150000 100000"
        if len(words) == 2 and all(word.isdigit() for word in words):
            quota, period = int(words[0]), int(words[1])
        if quota and period and quota > 0:  # version 1 has -1 for no quota
            cores = min(cores, ceil(quota / period))
    return cores


def import_path() -> list[str]:
    """Return where this process imports from, as absolute folders, for a process that is to import the same."""
    try:
        current = Path.cwd()
    except FileNotFoundError:  # it was removed, and nothing can be imported from it
        return [folder for folder in sys.path if isinstance(folder, str) and Path(folder).is_absolute()]
    return [str(current / folder) for folder in sys.path if isinstance(folder, str)]  # "" is the current folder


def _available_to_all(root: Path) -> int:
    """Return the bytes that the system has available; its memory where it does not tell (it is no Linux)."""
    kilobytes = _table(root / "proc" / "meminfo").get("MemAvailable:")
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if kilobytes is None else 1024 * kilobytes


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of the groups that this process is in for a controller, from its own up to the first."""
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)  # version 2 names no controllers
        if not controllers or controller in controllers.split(","):
            top = root / "sys" / "fs" / "cgroup" / (controller if controllers else "")
            own = top if ".." in path else top / path.lstrip("/")  # "..": outside of what this container sees
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(top))


def _text(path: Path) -> str:
    """Return the text of a file of the system's; "" if it is not there."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    """Return the number in a file of the system's; None if there is none, as in "max"."""
    try:
        return int(_text(path))
    except ValueError:
        return None


def _table(path: Path) -> dict[str, int]:
    """Return lines of a name and a number, such as `MemAvailable:  1024 kB`."""
    rows = (line.split() for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) >= 2 and row[1].isdigit()}
