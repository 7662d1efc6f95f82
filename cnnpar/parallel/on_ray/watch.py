"""Watch over the Ray that a run uses: the processes of a Ray of our own, and whether head and node still listen."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ray

_LOOK = 0.5  # seconds between looks
_START_LOOK = 0.2  # while Ray starts
_CONNECT_SECONDS = 2.0
_NEEDED = ("gcs_server", "raylet")  # of Ray's processes; without the others workers go on


class Watch:
    """Looks, at most twice a second, at the head and at this process's node of a cluster."""

    def __init__(self, head: str, node: str) -> None:
        """Take the address HOST:PORT of the head, and Ray's id of this node."""
        known = {entry["NodeID"]: entry for entry in ray.nodes()}[node]
        host, _, port = head.rpartition(":")
        self._places = {
            f"the head of the Ray cluster, {head},": (host.strip("[]"), int(port)),
            "Ray's process on this node": (known["NodeManagerAddress"], known["NodeManagerPort"]),
        }
        self._looked_at = 0.0

    def death(self) -> str | None:
        """Return the reason why the cluster is of no use any more; None while it is alive."""
        from ray._private import worker

        own = worker._global_node
        if own is not None and own.head:
            dead = [name for name, _ in own.dead_processes() if name in _NEEDED]
            return f"Ray has ended (its {dead[0]} process is gone)" if dead else None
        now = time.monotonic()
        if now - self._looked_at < _LOOK:
            return None
        self._looked_at = now
        return next((f"{name} is gone" for name, place in self._places.items() if _refuses(*place)), None)


def _refuses(host: str, port: int) -> bool:
    """Tell whether nothing listens at an address any more. A silent one may be busy, or the network is down."""
    try:
        socket.create_connection((host, port), _CONNECT_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


@contextlib.contextmanager
def watched_start(report: Callable[[str], None]) -> Iterator[None]:
    """Call `report`, in a thread, if a process that Ray needs ends while the block starts Ray, which would wait on."""
    started = threading.Event()

    def look() -> None:
        seen: dict[int, str] = {}  # names of processes
        while not started.wait(_START_LOOK):
            alive, dead = _children()
            gone = [name for pid, name in {**seen, **dead}.items() if pid not in alive]
            if gone:
                report(f"Ray has ended as it started (its {gone[0]} process is gone)")
                return
            seen = alive

    thread = threading.Thread(target=look, name="cnnpar start", daemon=True)
    thread.start()
    try:
        yield
    finally:
        started.set()
        thread.join()


def _children() -> tuple[dict[int, str], dict[int, str]]:
    """Return the names of those children that Ray needs, alive and dead, by number; none on a system without /proc."""
    alive: dict[int, str] = {}
    dead: dict[int, str] = {}  # and not waited for yet
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            head, _, rest = (folder / "stat").read_text(errors="replace").rpartition(")")  # proc_pid_stat(5)
            name, (state, parent) = head.partition("(")[2], rest.split()[:2]
            if name in _NEEDED and int(parent) == os.getpid():
                (dead if state in "ZX" else alive)[int(folder.name)] = name
    return alive, dead
