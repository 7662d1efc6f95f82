"""The processes of a run: found in /proc, signalled, slowed down. Linux only.

A run is started with RAY_TMPDIR set to a folder of its own. Its control process and all that Ray starts for it inherit
that, or have log files open in there, so they can be told from all others on this machine, also when their parents are
dead.
"""

import os
import resource
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_TITLES = "ray::Worker", "ray::cnnpar worker"  # of the processes of cnnpar's actors, as Ray sets them
_CONTROL = "cnnpar.parallel.on_ray.control"  # in the command line of a control process
_LISTENS = 0x10000  # a flag in net/unix; accepted connections have the same name
_BUSY = ".serve", ".compute"  # how their titles end during a call in which they compute

Address = str | tuple[str, int]  # of a local socket, or host and port


class Process(NamedTuple):
    """A process; its start distinguishes it from a later one of the same number."""

    pid: int
    started: int  # clock ticks after boot

    @classmethod
    def of(cls, pid: int) -> "Process":
        """Find the process of a number."""
        return cls(pid, _stat(pid)[2])

    @property
    def alive(self) -> bool:
        """Tell whether it still runs: a zombie does not."""
        state, _, started = _stat(self.pid)
        return started == self.started and state not in "ZX"

    @property
    def title(self) -> str:
        """Read its command line, or the title that it has set; empty when it has ended."""
        return _read(self.pid, "cmdline").replace("\0", " ").strip()

    @property
    def is_worker(self) -> bool:
        """Tell whether it is the process of one of cnnpar's actors."""
        return self.title.startswith(_TITLES)

    @property
    def is_control(self) -> bool:
        """Tell whether it is a control process: the child of a driver that talks to Ray."""
        return _CONTROL in self.title

    @property
    def computes(self) -> bool:
        """Tell whether it is a worker in a call in which it computes."""
        return self.is_worker and self.title.endswith(_BUSY)

    def send(self, *numbers: signal.Signals) -> None:
        """Send signals, if it still runs."""
        for number in numbers:
            with suppress(ProcessLookupError):
                if self.alive:
                    os.kill(self.pid, number)


def marked(folder: Path) -> list[Process]:
    """List all processes but this one that have a folder in their environment, command line or open files."""
    return [Process.of(pid) for pid in _pids() if pid != os.getpid() and _refers(pid, str(folder))]


def descendants(pid: int) -> list[Process]:
    """List the children of a process, their children, and so on."""
    parents = {other: _stat(other)[1] for other in _pids()}
    found: list[Process] = []
    last = {pid}
    while last := {child for child, parent in parents.items() if parent in last}:
        found += map(Process.of, last)
    return found


def control_process(driver: int) -> Process | None:
    """Find the control process of a driver; None when it has none now."""
    return next((one for one in descendants(driver) if one.is_control), None)


def workers(roots: Iterable[int]) -> list[Process]:
    """List the workers among the descendants of these processes, oldest first."""
    found = [one for root in roots for one in descendants(root) if one.is_worker]
    return sorted(found, key=lambda one: (one.started, one.pid))


def starve(victim: Process) -> None:
    """Limit a process to the memory that it has: its next allocation fails."""
    with suppress(ProcessLookupError):
        resource.prlimit(victim.pid, resource.RLIMIT_AS, (1 << 20, 1 << 20))


def slow_down(victim: Process, seconds: float) -> None:
    """Let a process run for a tenth of the time, as on an overloaded machine."""
    until = time.monotonic() + seconds
    while victim.alive and time.monotonic() < until:
        victim.send(signal.SIGSTOP)
        time.sleep(0.018)  # nine tenths of 20 ms
        victim.send(signal.SIGCONT)
        time.sleep(0.002)


def listening(pid: int) -> list[Address]:
    """List the addresses at which a process listens now: local ones of cnnpar's server, and all of the network's."""
    found: list[Address] = []
    for line in _read(pid, "net/unix").splitlines()[1:]:
        flags, name = line.split()[3], line.partition("@")[2]
        if int(flags, 16) & _LISTENS and name.startswith(f"cnnpar-{pid}-"):
            found.append("\0" + name)
    sockets = set(_open_files(pid))
    for line in _read(pid, "net/tcp").splitlines()[1:]:
        _, local, _, state, *rest = line.split()
        if state == "0A" and f"socket:[{rest[5]}]" in sockets:
            host, _, port = local.partition(":")
            found.append((".".join(str(byte) for byte in reversed(bytes.fromhex(host))), int(port, 16)))
    return found


def left_in_shm(before: Iterable[str]) -> list[str]:
    """List files in /dev/shm that were not there before, and that no process has open."""
    new = {path.name for path in Path("/dev/shm").iterdir()} - set(before)
    for pid in _pids() if new else []:
        held = "\n".join(_open_files(pid)) + _read(pid, "maps")
        new = {name for name in new if f"/dev/shm/{name}" not in held}
    return sorted(new)


def _pids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def _read(pid: int, name: str) -> str:
    with suppress(OSError):
        return (_PROC / str(pid) / name).read_text(errors="replace")
    return ""


def _stat(pid: int) -> tuple[str, int, int]:
    """Read state, parent and start of a process; "X", -1 and -1 when it has ended."""
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return (fields[0], int(fields[1]), int(fields[19])) if fields else ("X", -1, -1)


def _open_files(pid: int) -> list[str]:
    links = []
    with suppress(OSError):
        for entry in (_PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                links.append(str(entry.readlink()))
    return links


def _refers(pid: int, mark: str) -> bool:
    return any(mark in text for text in (_read(pid, "environ"), _read(pid, "cmdline"), *_open_files(pid)))
