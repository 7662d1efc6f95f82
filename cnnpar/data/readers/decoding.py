"""Read and decode picture files, and digest them, on all cores.

This process begins alone. What takes longer than a moment is done by processes of their own, one a core (decoder.py):
threads would wait for each other, as most of the time for a small picture is the interpreter's. What comes of it does
not depend on the number of processes.
"""

import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import RawIOBase
from itertools import chain
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any

import msgspec

from cnnpar.data.readers.decoder import Order, Reader, Run, Wanted, receive, receive_into, send
from cnnpar.data.readers.fitting import Look
from cnnpar.errors import RunError
from cnnpar.machine import import_path, usable_cores

ALONE = 0.05  # seconds, until others are started
_MANY = 2_000  # files, which always take longer than that
_MEANWHILE = 0.01  # seconds, while they start
_TALKATIVE = (".tif", ".tiff")  # their library writes to the standard error, which other processes do not have
_MOST_FILES, _MOST_BYTES = 64, 1 << 14  # of paths, in an order: a pipe holds what a process has
_PIPE = 1 << 20  # bytes
_AHEAD = 2  # orders that a process has, so that it need not wait for the next one
_MOST_AHEAD = 4  # times as many files as all processes have are handed out while an earlier one is not done
# The path comes first: the process must import the same cnnpar as this one. Until then, -P keeps the current folder
# out of it: others may have put modules there.
_BOOT = (
    "import json, sys; sys.path[:], lock = json.loads(sys.argv[1]);"
    "from cnnpar.data.readers.decoder import serve; serve(lock)"
)
# One thread of BLAS; and memory that was freed is kept for the next picture, where it would be given back each time.
_ENVIRONMENT = {
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 25),
}

Take = Callable[[Run], memoryview | None]  # gets the runs, in any order; returns where pixels go, if they are wanted
Wants = Callable[[], Wanted | None]  # what is wanted of the next files; None: nothing more


def read_all(paths: Iterator[str], count: int, look: Look, wants: Wants, take: Take) -> None:
    """Read `count` files. Raises RunError where a process is ended by others; and what `take` raises.

    Files are handed out in order: when nothing more is wanted, `take` has got the runs of all files before the last one
    that it gets. Before that, no more than some hundred files a core are taken while an earlier one is not done.
    """
    reader, done, elsewhere = Reader(look), 0, False

    def read_here(seconds: float) -> None:
        nonlocal done, elsewhere, paths
        end = time.monotonic() + seconds
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, on which no pixel depends
            while done < count and not elsewhere and (wanted := wants()) and time.monotonic() < end:
                path = next(paths)
                elsewhere = path.lower().endswith(_TALKATIVE) and bool(sys.executable)
                if elsewhere:
                    paths = chain([path], paths)
                    return
                for run, pixels in reader.read(Order(done, wanted, [os.fsencode(path)])):
                    if (target := take(run)) is not None:
                        target[:] = pixels
                done += 1

    processes = usable_cores() if sys.executable else 1
    read_here(math.inf if processes == 1 else ALONE if count < _MANY else 0.0)
    if done < count and wants():
        with _Processes(min(processes, count - done), look) as others:
            while done < count and wants() and not others.ready(_MEANWHILE if elsewhere else 0.0):
                read_here(_MEANWHILE)
            others.read(paths, done, count, wants, take)


class _Process:
    """A process that decodes, and the orders that it has."""

    def __init__(self, lock: int, look: Look) -> None:
        """Start the process. Raises OSError."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, json.dumps([import_path(), lock])],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[lock],
            env={**os.environ, **_ENVIRONMENT},
            start_new_session=True,  # the terminal's Ctrl-C is for the run, which ends this process
        )
        streams: Any = self._process  # without buffers, unlike what their types say
        self._orders: RawIOBase = streams.stdin
        self.answers: RawIOBase = streams.stdout
        self._greeted = False
        self.pending = deque[Order]()
        with suppress(OSError):  # without it, the process waits oftener until its answers are read
            fcntl.fcntl(self.answers, fcntl.F_SETPIPE_SZ, _PIPE)
        with suppress(OSError):  # it has ended, which the first order will tell
            send(self._orders, msgspec.msgpack.encode(look))

    def send(self, order: Order) -> None:
        """Send an order. Raises RunError when the process has ended."""
        self.pending.append(order)
        try:
            send(self._orders, msgspec.msgpack.encode(order))
        except OSError as error:
            raise self._ended() from error

    def receive(self, take: Take) -> None:
        """Hand on the next run. Raises RunError when the process has ended."""
        try:
            if not self._greeted:
                self._greeted = receive(self.answers)[0] == b""
            message, size = receive(self.answers)
            run = msgspec.msgpack.decode(message, type=Run)
            receive_into(self.answers, take(run) or memoryview(bytearray(size)))
        except EOFError as error:
            raise self._ended() from error
        if run.first + run.count == self.pending[0].first + len(self.pending[0].paths):
            self.pending.popleft()

    def end(self) -> None:
        """End the process, at once."""
        self._orders.close()
        self.answers.close()
        self._process.kill()
        self._process.wait()

    def _ended(self) -> RunError:
        """Return the error of a process that has closed its connection."""
        code = self._process.wait()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        where = f"{os.fsdecode(self.pending[0].paths[0])} or one of the next pictures"
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

    def ready(self, seconds: float) -> bool:
        """Tell whether one of them has started, or ended; wait for it for some seconds."""
        return bool(wait([process.answers.fileno() for process in self._processes], seconds))

    def read(self, paths: Iterator[str], first: int, count: int, wants: Wants, take: Take) -> None:
        """Read the files from the first one on; see `read_all`."""
        by_descriptor: dict[object, _Process] = {process.answers.fileno(): process for process in self._processes}
        most = _MOST_AHEAD * _AHEAD * _MOST_FILES * len(self._processes)
        while True:
            oldest = min((process.pending[0].first for process in self._processes if process.pending), default=first)
            for ahead in range(1, _AHEAD + 1):
                for process in self._processes:
                    if len(process.pending) < ahead and first < min(count, oldest + most) and (wanted := wants()):
                        # The fewer are left, the smaller are the orders, so that all processes end together.
                        files = 1 + (count - first) // (4 * len(self._processes))
                        order = Order(first, wanted, _next_paths(paths, files))
                        process.send(order)
                        first += len(order.paths)
            busy = [process.answers.fileno() for process in self._processes if process.pending]
            if not busy:
                return
            for descriptor in wait(busy):
                by_descriptor[descriptor].receive(take)


def _next_paths(paths: Iterator[str], files: int) -> list[bytes]:
    """Return the next paths, at least one, and no more than a pipe holds: both sides may be writing."""
    chosen, size, most = list[str](), 0, min(files, _MOST_FILES)
    for path in paths:
        chosen.append(path)
        size += len(path) if path.isascii() else 4 * len(path)
        if len(chosen) == most or size >= _MOST_BYTES:
            break
    return os.fsencode("\0".join(chosen)).split(b"\0")
