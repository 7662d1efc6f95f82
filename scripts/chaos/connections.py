"""Faults by connections: unauthenticated peers connect to where the server waits for its workers."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from random import Random

from scripts.chaos.processes import Address, Process, listening
from scripts.chaos.training_run import Run, Skipped

_CONNECTIONS = 20  # to each address
_TRIES = 3  # to have a worker come
_SECONDS = 3.0  # of each of them, once the worker is up
_LOOK = 0.0003  # seconds between looks at whether the worker is up
_SLICE = 0.001  # of its time from then on, between looks for the address
_HELD_SECONDS = 8.0  # longer than the server lets a peer take to authenticate itself
_NOTED_SECONDS = 20.0


def garbage(run: Run, random: Random) -> None:
    """Open connections that send what no worker would; the server must turn them away."""
    kinds = random.randbytes(4096), b"\x7f\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"
    for peer in _connect(run, random, kinds):
        peer.close()
    run.until(lambda: "rejected" in run.log.read_text(), "reject the connections", _NOTED_SECONDS, look=0.1)


def half_open(run: Run, random: Random) -> None:
    """Open connections that send nothing, and keep them open."""
    peers = _connect(run, random, [b""])

    def leave() -> None:
        for peer in peers:
            peer.close()

    threading.Timer(_HELD_SECONDS, leave).start()


def _connect(run: Run, random: Random, contents: Sequence[bytes]) -> list[socket.socket]:
    """Open connections while the server waits for a worker, which is kept from connecting before."""
    if run.transport != "direct":
        raise Skipped("with the ray transport, no worker connects to the server")
    with _high_priority():
        for _ in range(_TRIES):
            known = set(listening(run.driver.pid))
            if peers := _connect_before(run.newcomer(random), run.driver.pid, known, contents):
                return peers
    raise Skipped("the workers connected too fast")


def _connect_before(awaited: Process, pid: int, known: set[Address], contents: Sequence[bytes]) -> list[socket.socket]:
    """Stop a worker as soon as the server `pid` listens for it, and connect first; nothing when it was faster."""
    peers: list[socket.socket] = []
    while awaited.alive and awaited.title.endswith(".__init__"):
        time.sleep(_LOOK)
    until = time.monotonic() + _SECONDS
    while awaited.alive and not peers and time.monotonic() < until:
        awaited.send(signal.SIGSTOP)
        for address in set(listening(pid)) - known:
            peers += _connections(address, contents)
        awaited.send(signal.SIGCONT)
        time.sleep(_SLICE)
    return peers


@contextmanager
def _high_priority() -> Iterator[None]:
    """Run this process at a higher priority, where that is allowed."""
    priority = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, priority - 15)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, priority)


def _connections(address: Address, contents: Sequence[bytes]) -> list[socket.socket]:
    """Open some connections to an address; those that were accepted."""
    peers = []
    for number in range(_CONNECTIONS):
        peer = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        with suppress(OSError):
            peer.settimeout(1.0)
            peer.connect(address)
            peer.sendall(contents[number % len(contents)])
            peers.append(peer)
    return peers
