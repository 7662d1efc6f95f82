"""Admission of workers: listeners that are open while workers are expected, and the handshakes of all that connect.

Any process of the network may connect. A peer is admitted if it proves that it knows the run's key, and is a worker
that is expected at that listener; all others are rejected, and change nothing.
"""

import secrets
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from cnnpar.parallel.direct.handshake import Endpoint, Listener, authenticate
from cnnpar.parallel.mailbox import Mailbox
from cnnpar.parallel.transport import Note

MOST_PENDING = 64  # handshakes at a time; a worker's takes a moment, so the oldest of too many is not a worker's
_MOST_NOTES = 10  # about rejected connections


class Expected(NamedTuple):
    """A worker that was told to connect."""

    shared: bool  # at the listener for this node, with shared memory
    exact: bool  # it computes the same bits as this process
    until: float  # time.monotonic() by which it must have connected


class Admitted(NamedTuple):
    """An expected worker that has connected."""

    worker: int
    peer: socket.socket
    expected: Expected


class Admission:
    """Listens for expected workers and authenticates them, in a thread for each handshake, as it blocks."""

    def __init__(self, host: Callable[[], str], selector: selectors.BaseSelector) -> None:
        """Listen at `host()` for workers of other nodes; the selector's events start the handshakes."""
        self.key = secrets.token_bytes(32)
        self.expected: dict[int, Expected] = {}
        self._host = host
        self._selector = selector
        self._listeners: dict[bool, Listener] = {}  # by `shared`; open while a worker is expected
        self._pending: deque[socket.socket] = deque()  # handshakes that are not over, oldest first
        self._results: Mailbox[tuple[socket.socket, int, bool] | str] = Mailbox()  # authenticated, or why not
        self._rejected = 0

    def fileno(self) -> int:
        """Return a descriptor for selectors, which is readable when there are results."""
        return self._results.fileno()

    def expect(self, worker: int, expected: Expected) -> Endpoint:
        """Expect a worker, and return the endpoint at which it is to connect. Raises OSError."""
        if expected.shared not in self._listeners:
            listener = self._listeners[expected.shared] = Listener(None if expected.shared else self._host())
            self._selector.register(listener, selectors.EVENT_READ, partial(self._accept, listener))
        self.expected[worker] = expected
        return self._listeners[expected.shared].endpoint

    def forget(self, worker: int) -> None:
        """Expect a worker no more, and stop listening after the last one."""
        self.expected.pop(worker, None)
        if not self.expected:
            self._stop_listening()

    def results(self) -> list[Admitted | Note]:
        """Return the workers that were admitted since the last call, and notes about rejected connections."""
        results: list[Admitted | Note] = []
        for result in self._results.take():
            if isinstance(result, str):
                results += self._reject(result)
                continue
            peer, worker, shared = result
            expected = self.expected.get(worker)
            if expected is None or expected.shared != shared:
                peer.close()
                results += self._reject(f"it claims to be worker {worker}, which is not expected there")
                continue
            self.forget(worker)  # a second connection under its number is rejected
            results.append(Admitted(worker, peer, expected))
        return results

    def close(self) -> None:
        """Stop listening and end all handshakes. May be called twice."""
        self.expected.clear()
        self._stop_listening()
        for peer in list(self._pending):
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        for result in self._results.take():
            if not isinstance(result, str):
                result[0].close()
        self._results.close()

    def _accept(self, listener: Listener, mask: int) -> None:  # noqa: ARG002 - as selectors call it
        """Accept a connection and start its handshake, in place of the oldest one if too many are pending."""
        with suppress(OSError):  # the peer has gone already
            peer = listener.accept()
            if len(self._pending) >= MOST_PENDING:
                with suppress(OSError, IndexError):  # its thread may finish at this very moment
                    self._pending.popleft().shutdown(socket.SHUT_RDWR)
            self._pending.append(peer)
            threading.Thread(target=self._authenticate, args=(peer, listener.endpoint.shared), daemon=True).start()

    def _authenticate(self, peer: socket.socket, shared: bool) -> None:
        """Run one handshake, in its own thread."""
        try:
            self._results.put((*authenticate(peer, self.key), shared))
        except OSError as error:
            self._results.put(str(error))
        finally:
            with suppress(ValueError):  # it was the oldest of too many
                self._pending.remove(peer)

    def _reject(self, reason: str) -> list[Note]:
        """Count a rejected connection and return the note about it: none after the first few."""
        self._rejected += 1
        if self._rejected > _MOST_NOTES:
            return []
        more = "; further ones are rejected without a note" if self._rejected == _MOST_NOTES else ""
        return [Note(f"rejected a connection that is not a worker's ({reason}){more}")]

    def _stop_listening(self) -> None:
        for listener in self._listeners.values():
            self._selector.unregister(listener)
            listener.close()
        self._listeners.clear()
