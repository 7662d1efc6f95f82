"""Frames on a socket of the server, which never blocks: a slow peer delays no other.

The frames are those of `multiprocessing.connection`, which the worker uses: a length of four bytes, big-endian, then
so many bytes; for a long frame, -1 in place of the length, and the length in eight bytes. A length is checked before
memory is reserved for the frame.
"""

import socket
import struct
from collections import deque
from collections.abc import Callable, Generator

_LENGTH = struct.Struct("!i")
_LONG_LENGTH = struct.Struct("!Q")
_LONGEST_SHORT = 0x7FFFFFFF  # bytes; a longer frame needs the eight-byte length
_BUFFERS = 16  # in one system call, which takes 1024 at most (sendmsg(2))

Reader = Generator[memoryview, None, None]  # yields the buffers to fill, one after another


class FramedSocket:
    """A non-blocking socket: sends what the peer takes, keeps the rest, and passes received bytes to a reader."""

    def __init__(self, peer: socket.socket, read: Callable[[], Reader]) -> None:
        """Own the socket. `read` makes the generator that yields a buffer for the bytes that come next."""
        peer.setblocking(False)
        self._peer = peer
        self._out: deque[memoryview] = deque()
        self._reader = read()
        self._target = next(self._reader)  # what is left to fill of the current buffer

    @property
    def unsent(self) -> bool:
        """True while some bytes wait until the peer reads."""
        return bool(self._out)

    def fileno(self) -> int:
        """Return the socket's descriptor, for selectors."""
        return self._peer.fileno()

    def send(self, frame: memoryview) -> None:
        """Send a frame, at once or in later calls of `flush`; its memory must not change before that.

        Raises OSError when the connection is broken.
        """
        size = frame.nbytes
        header = _LENGTH.pack(size) if size <= _LONGEST_SHORT else _LENGTH.pack(-1) + _LONG_LENGTH.pack(size)
        self._out += [memoryview(header), frame.cast("B")]
        self.flush()

    def flush(self) -> None:
        """Send as much as the peer takes now. Raises OSError when the connection is broken."""
        try:
            while self._out:
                sent = self._peer.sendmsg(list(self._out)[:_BUFFERS])
                while self._out and sent >= len(self._out[0]):
                    sent -= len(self._out.popleft())
                if sent:
                    self._out[0] = self._out[0][sent:]
        except BlockingIOError:  # the peer does not read at the moment
            pass

    def receive(self) -> None:
        """Read what has come. Raises EOFError or OSError for a broken connection, ValueError for wrong frames."""
        try:
            while True:
                size = self._peer.recv_into(self._target)
                if size == 0:
                    raise EOFError("it hung up")
                self._target = self._target[size:]
                while not self._target:  # a loop, since the next buffer may be empty
                    self._target = next(self._reader)
        except BlockingIOError:  # nothing more has come
            pass

    def close(self) -> None:
        """Close the connection."""
        self._peer.close()


def read_length(most: int) -> Generator[memoryview, None, int]:
    """Read the length of a frame in bytes, as a part of a reader. Raises ValueError when it is above `most`."""
    header = bytearray(_LENGTH.size)
    yield memoryview(header)
    (size,) = _LENGTH.unpack(header)
    if size == -1:
        long_header = bytearray(_LONG_LENGTH.size)
        yield memoryview(long_header)
        (size,) = _LONG_LENGTH.unpack(long_header)
    if not 0 <= size <= most:
        raise ValueError(f"a frame of {size} bytes, where at most {most} were expected")
    return int(size)
