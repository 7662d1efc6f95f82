"""Transport of jobs and answers over connections of our own; a launcher only starts the workers.

All connections are served by one selector, and no call waits for a single peer: a worker that neither reads nor writes
delays no other.
"""

import selectors
import time
from contextlib import closing
from functools import partial

import numpy as np

from cnnpar.nn.shapes import Vector
from cnnpar.parallel.compute import slots_shape
from cnnpar.parallel.direct.admission import Admission, Admitted, Expected
from cnnpar.parallel.direct.connection import WorkerConnection
from cnnpar.parallel.direct.samples import Samples
from cnnpar.parallel.direct.shared_memory import CAN_SHARE, SharedMemory, send_memory
from cnnpar.parallel.launcher import Launcher, Started
from cnnpar.parallel.transport import ClusterGone, Event, Joined, Lost, Note
from cnnpar.parallel.tree import Span
from cnnpar.parallel.work import Step, Work

_REASON_SECONDS = 0.2  # for Ray to say why workers were lost
_LOOK = 0.5  # seconds between looks at workers that are expected


class DirectTransport:
    """A transport whose workers connect to this process."""

    def __init__(self, work: Work, launcher: Launcher, start_timeout: float, samples: Samples | None = None) -> None:
        """Give workers `start_timeout` seconds to connect after their process is up.

        `samples`: those that workers of this node map; None: workers have them already.
        """
        self._work = work
        self._launcher = launcher
        self._start_timeout = start_timeout
        self._events: list[Event] = []  # that the next `wait` returns
        self._connections: dict[int, WorkerConnection] = {}
        self._looked_at = 0.0
        self._reasons_until = 0.0  # time until which `wait` asks for reasons of losses; 0: it has not asked yet
        # The data of each registration is a function of the events' mask.
        self._selector = selectors.DefaultSelector()
        self._admission = Admission(lambda: launcher.host, self._selector)
        self._selector.register(launcher.news, selectors.EVENT_READ, lambda _: self._read_news())
        self._selector.register(self._admission, selectors.EVENT_READ, lambda _: self._admit())
        self._samples = samples
        self._memory = SharedMemory.create(4 * work.size)
        self._parameters: Vector = self._memory.array((work.size,))  # mapped by the workers of this node
        self._version = 0  # of the parameters

    def adopt(self, parameters: Vector) -> Vector:
        """Copy the parameters into the memory that this node's workers map, and return that array."""
        self._parameters[:] = parameters
        return self._parameters

    def start(self, worker: int) -> None:
        """Have the launcher start a worker process; it connects later."""
        self._launcher.start(worker)

    def publish(self, parameters: Vector) -> None:
        """Put the parameters where this node's workers read them; others get them with their next job."""
        if parameters is not self._parameters:  # a run updates in place the array that `adopt` gave it
            self._parameters[:] = parameters
        self._version += 1

    def assign(self, worker: int, job: int, step: Step, span: Span) -> None:
        """Send the job; if the connection is broken, `wait` reports the worker as lost."""
        connection = self._connections.get(worker)
        if connection is None:
            return  # its loss is among the events already
        try:
            connection.send(job, step, span, self._parameters, self._version)
            self._watch(connection)  # the socket may not have taken all of it
        except OSError as error:
            self._lose(worker, error)

    def wait(self, seconds: float) -> list[Event]:
        """Return the events of at most `seconds`, as far as they were not returned before."""
        expected = self._admission.expected
        if self._events:  # of `assign`: look for more, without waiting
            seconds = 0.0
        self._reasons_until = 0.0
        for key, mask in self._selector.select(min(seconds, _LOOK) if expected else seconds):
            key.data(mask)
        if expected and time.monotonic() - self._looked_at > _LOOK:
            self._check_expected()
        events, self._events = self._events, []
        return events

    def drop(self, worker: int) -> None:
        """Close the worker's connection and end its process."""
        self._disconnect(worker)
        self._launcher.kill(worker)

    def shortage(self) -> str:
        """Return the launcher's reason why workers are missing."""
        return self._launcher.shortage()

    def close(self) -> None:
        """Close all connections, which ends the workers, and then the launcher."""
        self._hang_up()
        self._admission.close()  # before the selector, which watches its listeners
        self._selector.close()
        self._memory.close()
        self._launcher.close()
        if self._samples:
            self._samples.memory.close()  # after the launcher, whose control processes inherit it

    def _read_news(self) -> None:
        """Tell workers that are up where to connect; pass the launcher's other events on."""
        for news in self._launcher.news.take():
            if isinstance(news, ClusterGone):
                self._hang_up()
            if not isinstance(news, Started):
                self._events.append(news)
                continue
            until = time.monotonic() + self._start_timeout
            endpoint = self._admission.expect(news.worker, Expected(news.here and CAN_SHARE, news.exact, until))
            self._launcher.serve(news.worker, endpoint, self._admission.key)

    def _admit(self) -> None:
        """Connect admitted workers, and pass notes about rejected connections on."""
        for result in self._admission.results():
            if isinstance(result, Note):
                self._events.append(result)
            else:
                self._connect(result)

    def _connect(self, admitted: Admitted) -> None:
        """Set up a worker's connection and its slots; a worker of this node gets the memory of both arrays."""
        worker, peer, expected = admitted
        shape = slots_shape(self._work)
        try:
            if expected.shared:
                memory = SharedMemory.create(4 * shape[0] * shape[1])
                with closing(memory):  # the array keeps it mapped
                    send_memory(peer, self._memory, memory, *([self._samples.memory] if self._samples else []))
                slots = memory.array(shape)  # (slots, size) float32
            else:
                slots = np.empty(shape, np.float32)
        except OSError as error:
            peer.close()
            self._give_up(worker, f"its connection broke ({error})")
            return
        connection = self._connections[worker] = WorkerConnection(worker, peer, self._work, slots, expected.shared)
        self._selector.register(connection.frames, selectors.EVENT_READ, partial(self._transfer, connection))
        self._events.append(Joined(worker, expected.exact))

    def _transfer(self, connection: WorkerConnection, mask: int) -> None:
        """Write to and read from a worker's connection, as far as it is ready for it."""
        try:
            if mask & selectors.EVENT_WRITE:
                connection.frames.flush()
                self._watch(connection)
            if mask & selectors.EVENT_READ:
                connection.frames.receive()
        except (EOFError, OSError, ValueError) as error:
            self._collect(connection)  # answers that were complete before the error count
            self._lose(connection.worker, error)
        else:
            self._collect(connection)

    def _collect(self, connection: WorkerConnection) -> None:
        self._events += connection.answers
        connection.answers.clear()

    def _watch(self, connection: WorkerConnection) -> None:
        """Watch for room to write while something is unsent, and only then: there is room nearly always."""
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.frames.unsent else 0)
        key = self._selector.get_key(connection.frames)
        if key.events != wanted:
            self._selector.modify(connection.frames, wanted, key.data)

    def _check_expected(self) -> None:
        """Give up expected workers whose process has ended, or whose time to connect is over."""
        self._looked_at = now = time.monotonic()
        for worker, expected in list(self._admission.expected.items()):
            reason = self._launcher.why_ended(worker, 0.0)
            if reason is None and now > expected.until:
                reason = f"it did not connect within {self._start_timeout:g} s (engine.start_timeout)"
            if reason is not None:
                self._admission.forget(worker)
                self._give_up(worker, reason)

    def _lose(self, worker: int, error: Exception) -> None:
        """Close a broken connection, and give its worker up: for the reason that Ray knows, if it does."""
        self._disconnect(worker)
        reason = None
        if not self._reasons_until:  # one limit for all workers that are lost at once: the step waits meanwhile
            self._reasons_until = time.monotonic() + _REASON_SECONDS
        if not isinstance(error, ValueError):  # a wrong message: its process is alive
            reason = self._launcher.why_ended(worker, max(self._reasons_until - time.monotonic(), 0.0))
        self._give_up(worker, reason or f"its connection broke ({error or type(error).__name__})")

    def _give_up(self, worker: int, reason: str) -> None:
        """End a worker's process and report it as lost."""
        self._launcher.kill(worker)
        self._events.append(Lost(worker, reason))

    def _hang_up(self) -> None:
        """Close the connections of all workers, and expect none."""
        for worker in list(self._connections):
            self._disconnect(worker)
        for worker in list(self._admission.expected):
            self._admission.forget(worker)

    def _disconnect(self, worker: int) -> None:
        connection = self._connections.pop(worker, None)
        if connection is not None:
            self._selector.unregister(connection.frames)
            connection.frames.close()
