"""Hands things from other threads to the one that waits in a selector."""

import select
import socket
from collections import deque
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A queue that a selector can watch. Any thread puts, one takes."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._bell, self._ear = socket.socketpair()
        self._bell.setblocking(False)
        self._ear.setblocking(False)

    def put(self, item: T) -> None:
        """Add an item, and wake whoever waits."""
        self._items.append(item)
        with suppress(OSError):  # so many rings that nobody heard yet are enough, and a closed box needs none
            self._bell.send(b"!")

    def take(self, seconds: float = 0.0) -> list[T]:
        """All items that are there, or come within so many seconds."""
        if seconds and not self._items:
            select.select([self._ear], [], [], seconds)
        with suppress(OSError):
            self._ear.recv(4096)
        items: list[T] = []
        with suppress(IndexError):
            while True:
                items.append(self._items.popleft())
        return items

    def fileno(self) -> int:
        """For selectors; readable when there are items."""
        return self._ear.fileno()

    def close(self) -> None:
        """Give the sockets back; may be called twice."""
        self._bell.close()
        self._ear.close()
