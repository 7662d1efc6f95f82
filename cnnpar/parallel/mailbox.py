"""A queue from any thread to the one that waits in a selector."""

import select
import socket
from collections import deque
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A queue that a selector can watch. Any thread may put, one takes."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        # A byte in this pair of sockets makes the selector look; the items themselves do not pass through it.
        self._writer, self._reader = socket.socketpair()
        self._writer.setblocking(False)
        self._reader.setblocking(False)

    def put(self, item: T) -> None:
        """Add an item, and wake the thread that waits."""
        self._items.append(item)
        with suppress(OSError):  # full: then enough bytes wait to be read; closed: then no thread waits
            self._writer.send(b"!")

    def take(self, seconds: float = 0.0) -> list[T]:
        """Return all items; if there are none, wait at most so many seconds for the first."""
        if seconds and not self._items:
            select.select([self._reader], [], [], seconds)
        with suppress(OSError):  # bytes first: an item that is put meanwhile is returned now, or has a byte of its own
            self._reader.recv(4096)
        items: list[T] = []
        with suppress(IndexError):
            while True:
                items.append(self._items.popleft())
        return items

    def fileno(self) -> int:
        """Return a descriptor for selectors, which is readable when there are items."""
        return self._reader.fileno()

    def close(self) -> None:
        """Close the sockets. May be called twice."""
        self._writer.close()
        self._reader.close()
