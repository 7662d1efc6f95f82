"""The control process of a run, as the run sees it: the only process that talks to Ray.

Ray ends a process that uses it when its node is declared dead, or when it is short of memory, without a word. So no
library of Ray is in the run's own process: the control process may die at any moment, and another one begins.
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection

from cnnpar.errors import RunError
from cnnpar.machine import import_path
from cnnpar.parallel.direct.samples import Samples
from cnnpar.parallel.on_ray.orders import Begin, Order, Report
from cnnpar.parallel.on_ray.session import Session
from cnnpar.text import one_line

# The path comes first: the process must import the same cnnpar as this one. Until then, -P keeps the current folder
# out of it: others may have put modules there.
_BOOT = (
    "import json, sys; given = json.loads(sys.stdin.readline());"
    "sys.path[:], sys.argv[0] = given['path'], given['name'];"
    "from cnnpar.parallel.on_ray.control import main; main(*map(int, sys.argv[1].split()))"
)
_MOST_OUTPUT = 1 << 14  # bytes of what it printed last
_END_SECONDS = 10.0  # for it to shut its Ray down


class ControlProcess:
    """A control process, and the private directory of its Ray, if that is our own."""

    def __init__(self, session: Session | None, samples: Samples, environment: Mapping[str, str]) -> None:
        """Start the process. Raises OSError, or RunError where there is no Python to start."""
        self._session = session
        self._output = b""
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        self.output, self.channel = reading, Connection(ours.detach())
        wanted = [theirs.fileno(), samples.memory.descriptor, *([session.lock] if session else [])]
        descriptors: list[int] = []
        try:
            # Beyond the standard streams, whose numbers are free where those are closed.
            descriptors.extend(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3) for descriptor in wanted)
            if not sys.executable:
                raise RunError("there is no Python program to start workers with; use --workers 0")
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, " ".join(map(str, [os.getpid(), *descriptors]))],
                stdin=subprocess.PIPE,
                stdout=writing,
                stderr=writing,
                pass_fds=descriptors,
                env=dict(environment),
                start_new_session=True,  # the terminal's Ctrl-C is for the run, which ends this process in order
            )
        except BaseException:
            self._close_descriptors()
            raise
        finally:
            theirs.close()
            os.close(writing)
            for descriptor in descriptors:
                os.close(descriptor)

    @property
    def pid(self) -> int:
        """Return the number of the process."""
        return self._process.pid

    def begin(self, order: Begin) -> None:
        """Send the first order, after where to find cnnpar. Raises OSError when the process has ended."""
        path = import_path()
        assert self._process.stdin is not None
        with self._process.stdin as stdin:
            stdin.write(json.dumps({"path": path, "name": sys.argv[0]}).encode() + b"\n")
        self.channel.send(order)

    def send(self, order: Order) -> None:
        """Send an order. Raises OSError when the process has ended."""
        self.channel.send(order)

    def receive(self) -> Report:
        """Return the next report. Raises EOFError or OSError when the process has ended."""
        report: Report = self.channel.recv()
        return report

    def read_output(self) -> bool:
        """Keep the last of what the process printed; tell whether there may be more."""
        with suppress(BlockingIOError):
            printed = os.read(self.output, _MOST_OUTPUT)
            self._output = (self._output + printed)[-_MOST_OUTPUT:]
            return bool(printed)
        return False

    def why_ended(self) -> str:
        """Return the reason why the process has closed its channel, for the user; waits for its end."""
        code = self._wait(_END_SECONDS)
        while self.read_output():
            pass
        lines = [line.strip() for line in self._output.decode(errors="replace").splitlines() if line.strip()]
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        said = f": {one_line(lines[-1], 200)}" if lines and code != -signal.SIGKILL else ""
        return f"the process that talks to Ray was ended {how}{said}"

    def end(self) -> None:
        """Wait for the end of the process, which was asked for, or kill it; then end all that is left of its Ray."""
        self.channel.close()  # without it the process ends too
        self._wait(_END_SECONDS)
        self._close_descriptors()
        if self._session is not None:
            self._session.end()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def _wait(self, seconds: float) -> int:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _close_descriptors(self) -> None:
        self.channel.close()
        if self.output >= 0:
            os.close(self.output)
            self.output = -1
