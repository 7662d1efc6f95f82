"""Strangers who knock where a server waits for its workers."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from random import Random

from scripts.chaos.processes import Door, Process, doors
from scripts.chaos.training_run import Run, Skipped

_KNOCKS = 20
_TRIES = 3  # to have a worker come
_SECONDS = 3.0  # of each of them, once the worker is up
_LOOK = 0.0003  # seconds between looks at whether the worker is up
_SLICE = 0.001  # of its time from then on, between looks at the door
_HELD_SECONDS = 8.0  # longer than the server lets a peer take to prove itself
_NOTED_SECONDS = 20.0


def garbage(run: Run, random: Random) -> None:
    """Connections that send what no worker would, and must be turned away."""
    kinds = random.randbytes(4096), b"\x7f\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"
    for peer in _knock(run, random, kinds):
        peer.close()
    run.until(lambda: "turned away" in run.log.read_text(), "turn strangers away", _NOTED_SECONDS, look=0.1)


def half_open(run: Run, random: Random) -> None:
    """Connections that say nothing, and stay."""
    peers = _knock(run, random, [b""])

    def leave() -> None:
        for peer in peers:
            peer.close()

    threading.Timer(_HELD_SECONDS, leave).start()


def _knock(run: Run, random: Random, words: Sequence[bytes]) -> list[socket.socket]:
    """Connections made while the server waits for a worker, which is kept from coming in before."""
    if run.transport != "direct":
        raise Skipped("the ray transport has no door")
    with _attentive():
        for _ in range(_TRIES):
            known = set(doors(run.driver.pid))  # Ray listens too
            if peers := _at_the_door(run.driver.pid, run.newcomer(random), known, words):
                return peers
    raise Skipped("the workers came in too fast")


def _at_the_door(pid: int, awaited: Process, known: set[Door], words: Sequence[bytes]) -> list[socket.socket]:
    """Stop the worker that is awaited as soon as the door is open for it, and knock; nothing when it was faster."""
    peers: list[socket.socket] = []
    while awaited.alive and awaited.title.endswith(".__init__"):
        time.sleep(_LOOK)
    until = time.monotonic() + _SECONDS
    while awaited.alive and not peers and time.monotonic() < until:
        awaited.send(signal.SIGSTOP)
        for door in set(doors(pid)) - known:
            peers += _connections(door, words)
        awaited.send(signal.SIGCONT)
        time.sleep(_SLICE)
    return peers


@contextmanager
def _attentive() -> Iterator[None]:
    """Look before others compute, where that is allowed."""
    priority = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, priority - 15)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, priority)


def _connections(door: Door, words: Sequence[bytes]) -> list[socket.socket]:
    """Some of them, as far as they come about."""
    peers = []
    for number in range(_KNOCKS):
        peer = socket.socket(socket.AF_UNIX if isinstance(door, str) else socket.AF_INET)
        with suppress(OSError):
            peer.settimeout(1.0)
            peer.connect(door)
            peer.sendall(words[number % len(words)])
            peers.append(peer)
    return peers
