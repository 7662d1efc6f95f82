"""Read, digest and decode picture files on all cores.

This process begins alone. What takes longer than a moment is done by processes of their own, one a core (decoder.py):
threads would wait for each other, as most of the time for a small picture is the interpreter's. What comes of it does
not depend on the number of processes.
"""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from types import TracebackType

import msgspec

from cnnpar.data.readers.decoder import Order, Run, Wanted, read_files
from cnnpar.data.readers.fitting import Look
from cnnpar.errors import RunError
from cnnpar.machine import import_path, usable_cores

ALONE = 0.05  # seconds, until others are started
_MEANWHILE = 0.01  # seconds, while they start
_MOST_FILES, _MOST_BYTES = 64, 1 << 15  # of paths, in an order
_AHEAD = 2  # orders that a process has, so that it need not wait for the next one
# The path comes first: the process must import the same cnnpar as this one. Until then, -P keeps the current folder
# out of it: others may have put modules there.
_BOOT = (
    "import json, sys; sys.path[:], lock = json.loads(sys.argv[1]);"
    "from cnnpar.data.readers.decoder import serve; serve(0, lock)"
)
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")

Take = Callable[[Run, bytes], None]  # gets the runs, with their pixels, in any order
Wants = Callable[[], Wanted | None]  # what is wanted of the next files; None: nothing more


def read_all(paths: Iterator[str], count: int, look: Look, wants: Wants, take: Take) -> None:
    """Read `count` files. Raises RunError where a process is ended by others; and what `take` raises.

    Files are handed out in order: when nothing more is wanted, `take` has got the runs of all files before the last one
    that it gets.
    """
    done = 0

    def read_here(seconds: float) -> None:
        nonlocal done
        end = time.monotonic() + seconds
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, on which no pixel depends
            while done < count and (wanted := wants()) and time.monotonic() < end:
                for run, pixels in read_files(Order(done, wanted, [os.fsencode(next(paths))]), look):
                    take(run, pixels)
                done += 1

    processes = usable_cores() if sys.executable else 1
    read_here(ALONE if processes > 1 else math.inf)
    if done < count and wants():
        with _Processes(min(processes, count - done), look) as others:
            while not others.ready():
                read_here(_MEANWHILE)
            others.read(paths, done, count, wants, take)


class _Process:
    """A process that decodes, and the orders that it has."""

    def __init__(self, lock: int, look: Look) -> None:
        """Start the process. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, json.dumps([import_path(), lock])],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[lock],
                env={**os.environ, **_ONE_THREAD},
                start_new_session=True,  # the terminal's Ctrl-C is for the run, which closes the connection
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self.connection, self.orders = Connection(ours.detach()), deque[Order]()
        self._greeted = False
        self.connection.send_bytes(msgspec.msgpack.encode(look))

    def send(self, order: Order) -> None:
        """Send an order. Raises RunError when the process has ended."""
        self.orders.append(order)
        try:
            self.connection.send_bytes(msgspec.msgpack.encode(order))
        except OSError as error:
            raise self._ended() from error

    def receive(self) -> tuple[Run, bytes]:
        """Return the next run. Raises RunError when the process has ended."""
        try:
            if not self._greeted:
                self._greeted = self.connection.recv_bytes() == b""
            run = msgspec.msgpack.decode(self.connection.recv_bytes(), type=Run)
            pixels = self.connection.recv_bytes() if run.decoded else b""
        except (EOFError, OSError) as error:
            raise self._ended() from error
        order = self.orders[0]
        if run.first + run.count == order.first + len(order.paths):
            self.orders.popleft()
        return run, pixels

    def end(self) -> None:
        """Close the connection, which ends the process, at once."""
        self.connection.close()
        self._process.kill()
        self._process.wait()

    def _ended(self) -> RunError:
        """Return the error of a process that has closed its connection."""
        code = self._process.wait()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        where = f"{os.fsdecode(self.orders[0].paths[0])} or one of the next pictures"
        return RunError(f"{where}: the process that decoded it was ended {how}; there may be too little memory")


class _Processes:
    """Processes that decode, which end with the block."""

    def __init__(self, count: int, look: Look) -> None:
        """Start the processes. Raises OSError."""
        self._lock = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the block
        self._processes: list[_Process] = []
        try:
            for _ in range(count):
                self._processes.append(_Process(self._lock.fileno(), look))  # those started are ended
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> "_Processes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.end()
        self._lock.close()

    def ready(self) -> bool:
        """Tell whether one of them has started, or ended."""
        return bool(wait([process.connection for process in self._processes], 0))

    def read(self, paths: Iterator[str], first: int, count: int, wants: Wants, take: Take) -> None:
        """Read the files from the first one on; see `read_all`."""
        by_connection: dict[object, _Process] = {process.connection: process for process in self._processes}
        while True:
            for ahead in range(1, _AHEAD + 1):
                for process in self._processes:
                    if len(process.orders) < ahead and first < count and (wanted := wants()):
                        # The fewer are left, the smaller are the orders, so that all processes end together.
                        files = 1 + (count - first) // (4 * len(self._processes))
                        order = Order(first, wanted, _next_paths(paths, files))
                        process.send(order)
                        first += len(order.paths)
            busy = [process.connection for process in self._processes if process.orders]
            if not busy:
                return
            for connection in wait(busy):
                take(*by_connection[connection].receive())


def _next_paths(paths: Iterator[str], files: int) -> list[bytes]:
    """Return the next paths, at least one: no more than a connection holds, on which both sides may be sending."""
    chosen, size = list[bytes](), 0
    while len(chosen) < min(files, _MOST_FILES) and size < _MOST_BYTES:
        chosen.append(os.fsencode(next(paths)))
        size += len(chosen[-1])
    return chosen
