"""The direct transport: jobs and answers go over connections of our own, Ray only brings the workers.

Everything happens in one selector, and nothing waits for a single peer: a worker that neither reads nor writes costs
nobody else a moment. Only the handshake with whoever knocks is done in a thread of its own, as it takes both sides.
"""

import secrets
import selectors
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import numpy as np

from cnnpar.nn.shapes import Vector
from cnnpar.parallel.compute import slots_shape
from cnnpar.parallel.direct.connection import WorkerConnection
from cnnpar.parallel.direct.handshake import Listener, authenticate
from cnnpar.parallel.direct.launcher import Launcher, Started
from cnnpar.parallel.direct.mailbox import Mailbox
from cnnpar.parallel.direct.shared_memory import CAN_SHARE, SharedMemory, send_memory
from cnnpar.parallel.transport import Event, Joined, Lost, Note
from cnnpar.parallel.tree import Span
from cnnpar.parallel.work import Step, Work

_GREETINGS = 64  # handshakes at a time; a worker's takes a moment, so who has waited longest is no worker
_TOLD = 10  # strangers that people are told of
_REASON_SECONDS = 0.2  # for Ray to say why a worker is gone
_LOOK = 0.5  # seconds between looks at workers that were called in and have not come


class _Call(NamedTuple):
    """A worker that was told to connect."""

    shared: bool
    exact: bool
    until: float


class DirectTransport:
    """Workers reached over connections of our own."""

    def __init__(self, work: Work, crew: Launcher, start_timeout: float) -> None:
        """A worker must have connected `start_timeout` seconds after its process is up."""
        self._work = work
        self._crew = crew
        self._start_timeout = start_timeout
        self._key = secrets.token_bytes(32)
        self._events: list[Event] = []
        self._links: dict[int, WorkerConnection] = {}
        self._called: dict[int, _Call] = {}
        self._looked_at = 0.0
        self._ask_until = 0.0
        self._doors: dict[bool, Listener] = {}  # open while somebody is awaited
        self._greeted: Mailbox[tuple[socket.socket, int, bool] | str] = Mailbox()
        self._guests: deque[socket.socket] = deque()  # whose handshakes are under way
        self._strangers = 0  # turned away
        self._selector = selectors.DefaultSelector()
        self._selector.register(crew.news, selectors.EVENT_READ, lambda _: self._hear())
        self._selector.register(self._greeted, selectors.EVENT_READ, lambda _: self._admit())
        self._memory = SharedMemory.create((work.size,))
        self._parameters = self._memory.array

    def home(self, parameters: Vector) -> Vector:
        """In the memory that this node's workers read."""
        self._parameters[:] = parameters
        return self._parameters

    def start(self, worker: int) -> None:
        """Have the crew bring it."""
        self._crew.start(worker)

    def publish(self, parameters: Vector) -> None:
        """Have the parameters where this node's workers read them; others get them with their next job."""
        if parameters is not self._parameters:
            self._parameters[:] = parameters
        for link in self._links.values():
            link.outdated = True

    def assign(self, worker: int, job: int, step: Step, span: Span) -> None:
        """Send the job; a worker that cannot be reached comes out of `wait` as lost."""
        link = self._links.get(worker)
        if link is None:
            return  # its loss is among the events already
        try:
            link.send(job, step, span, self._parameters)
            self._watch(link)
        except OSError as error:
            self._lose(worker, error)

    def wait(self, seconds: float) -> list[Event]:
        """Answers that came within `seconds`, workers that came or went."""
        if self._events:
            seconds = 0.0
        self._ask_until = 0.0
        for key, mask in self._selector.select(min(seconds, _LOOK) if self._called else seconds):
            key.data(mask)
        if self._called and time.monotonic() - self._looked_at > _LOOK:
            self._look_for_the_called()
        events, self._events = self._events, []
        return events

    def drop(self, worker: int) -> None:
        """Hang up and end the process."""
        self._hang_up(worker)
        self._crew.kill(worker)

    def shortage(self) -> str:
        """What the crew knows."""
        return self._crew.shortage()

    def close(self) -> None:
        """Hang up on all workers, which ends them."""
        for worker in list(self._links):
            self._hang_up(worker)
        self._called.clear()
        self._close_doors()
        self._selector.close()
        for peer in list(self._guests):
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        for greeted in self._greeted.take():
            if not isinstance(greeted, str):
                greeted[0].close()
        self._greeted.close()
        self._memory.close()
        self._crew.close()

    def _hear(self) -> None:
        """The crew has news: call workers in that are up."""
        for news in self._crew.news.take():
            if not isinstance(news, Started):
                self._events.append(news)
                continue
            shared = news.here and CAN_SHARE
            if shared not in self._doors:
                door = self._doors[shared] = Listener(None if shared else self._crew.host)
                self._selector.register(door, selectors.EVENT_READ, lambda _, door=door: self._answer_the(door))
            self._called[news.worker] = _Call(shared, news.exact, time.monotonic() + self._start_timeout)
            self._crew.serve(news.worker, self._doors[shared].endpoint, self._key)

    def _answer_the(self, door: Listener) -> None:
        """Somebody knocks: see who it is, while everything else goes on."""
        with suppress(OSError):
            peer = door.accept()
            if len(self._guests) >= _GREETINGS:
                with suppress(OSError, IndexError):  # it may be done in this very moment
                    self._guests.popleft().shutdown(socket.SHUT_RDWR)
            self._guests.append(peer)
            threading.Thread(target=self._greet, args=(peer, door.endpoint.shared), daemon=True).start()

    def _greet(self, peer: socket.socket, shared: bool) -> None:
        try:
            self._greeted.put((*authenticate(peer, self._key), shared))
        except OSError as error:
            self._greeted.put(str(error))
        finally:
            with suppress(ValueError):  # it was sent away
                self._guests.remove(peer)

    def _admit(self) -> None:
        """Let in who has proved itself and is awaited; a stranger is turned away and changes nothing."""
        for greeted in self._greeted.take():
            if isinstance(greeted, str):
                self._turn_away(greeted)
                continue
            peer, worker, shared = greeted
            call = self._called.get(worker)
            if call is None or call.shared != shared:
                peer.close()
                self._turn_away(f"it says that it is worker {worker}, who is not awaited there")
                continue
            shape = slots_shape(self._work)
            try:
                if shared:
                    memory = SharedMemory.create(shape)
                    send_memory(peer, self._memory, memory)
                    memory.close()
                    slots = memory.array
                else:
                    slots = np.empty(shape, np.float32)
            except OSError as error:
                peer.close()
                self._miss(worker, f"its connection broke ({error})")
                continue
            link = self._links[worker] = WorkerConnection(worker, peer, self._work, slots, shared)
            self._selector.register(link.stream, selectors.EVENT_READ, partial(self._serve, link))
            self._forget_call(worker)
            self._events.append(Joined(worker, call.exact))

    def _turn_away(self, reason: str) -> None:
        """Tell of a stranger, unless there are too many to tell of."""
        self._strangers += 1
        if self._strangers <= _TOLD:
            more = ", and will do so with others without a word" if self._strangers == _TOLD else ""
            self._events.append(Note(f"turned away a connection that is no worker's ({reason}){more}"))

    def _serve(self, link: WorkerConnection, mask: int) -> None:
        """A worker's connection can be written to or read from."""
        try:
            if mask & selectors.EVENT_WRITE:
                link.stream.flush()
                self._watch(link)
            if mask & selectors.EVENT_READ:
                link.stream.receive()
        except (EOFError, OSError, ValueError) as error:
            self._take(link)
            self._lose(link.worker, error)
        else:
            self._take(link)

    def _take(self, link: WorkerConnection) -> None:
        self._events += link.answers
        link.answers.clear()

    def _watch(self, link: WorkerConnection) -> None:
        """Have the selector tell when there is room for what could not be sent yet."""
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.stream.unsent else 0)
        key = self._selector.get_key(link.stream)
        if key.events != wanted:
            self._selector.modify(link.stream, wanted, key.data)

    def _look_for_the_called(self) -> None:
        """Workers that will not come, or not in time."""
        self._looked_at = now = time.monotonic()
        for worker, call in list(self._called.items()):
            reason = self._crew.why_ended(worker, 0.0)
            if reason is None and now > call.until:
                reason = f"it did not connect within {self._start_timeout:g} s (engine.start_timeout)"
            if reason is not None:
                self._miss(worker, reason)

    def _miss(self, worker: int, reason: str) -> None:
        self._forget_call(worker)
        self._crew.kill(worker)
        self._events.append(Lost(worker, reason))

    def _forget_call(self, worker: int) -> None:
        self._called.pop(worker, None)
        if not self._called:
            self._close_doors()

    def _close_doors(self) -> None:
        for door in self._doors.values():
            self._selector.unregister(door)
            door.close()
        self._doors.clear()

    def _lose(self, worker: int, error: Exception) -> None:
        self._hang_up(worker)
        broke = f"its connection broke ({error or type(error).__name__})"
        if not self._ask_until:  # for all that are lost at once: a step must not wait for explanations
            self._ask_until = time.monotonic() + _REASON_SECONDS
        known = None
        if not isinstance(error, ValueError):
            known = self._crew.why_ended(worker, max(self._ask_until - time.monotonic(), 0.0))
        self._crew.kill(worker)
        self._events.append(Lost(worker, known or broke))

    def _hang_up(self, worker: int) -> None:
        link = self._links.pop(worker, None)
        if link is not None:
            self._selector.unregister(link.stream)
            link.stream.close()
