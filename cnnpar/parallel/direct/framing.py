"""The server's end of a connection: frames that come and go without anybody waiting for a slow peer.

The frames are those of `multiprocessing.connection`, which the peer uses: a length of four bytes, big-endian, or -1
and a length of eight, and then so many bytes. What is announced is checked before it is read, so a peer can neither
have memory taken nor get ahead of what was agreed upon.
"""

import socket
import struct
from collections import deque
from collections.abc import Callable, Generator

_LENGTH = struct.Struct("!i")
_LONG_LENGTH = struct.Struct("!Q")
_LONGEST_SHORT = 0x7FFFFFFF

Reading = Generator[memoryview, None, None]  # yields the buffers that are to be filled, one after the other


class FrameStream:
    """Sends what fits, keeps the rest, and feeds what comes to a reader."""

    def __init__(self, peer: socket.socket, reading: Callable[[], Reading]) -> None:
        """Owns the socket; `reading` makes the generator that says where the bytes to come belong."""
        peer.setblocking(False)
        self._peer = peer
        self._out: deque[memoryview] = deque()
        self._reading = reading()
        self._target = next(self._reading)

    @property
    def unsent(self) -> bool:
        """Whether something waits until the peer reads."""
        return bool(self._out)

    def fileno(self) -> int:
        """For selectors."""
        return self._peer.fileno()

    def send(self, frame: memoryview) -> None:
        """Put a frame on its way; its memory is read until it is sent. Raises OSError when the connection broke."""
        size = frame.nbytes
        header = _LENGTH.pack(size) if size <= _LONGEST_SHORT else _LENGTH.pack(-1) + _LONG_LENGTH.pack(size)
        self._out += [memoryview(header), frame.cast("B")]
        self.flush()

    def flush(self) -> None:
        """Send as much as the peer takes. Raises OSError."""
        try:
            while self._out:
                sent = self._peer.sendmsg(list(self._out)[:16])
                while self._out and sent >= len(self._out[0]):
                    sent -= len(self._out.popleft())
                if sent:
                    self._out[0] = self._out[0][sent:]
        except BlockingIOError:
            pass

    def receive(self) -> None:
        """Read what has come. Raises EOFError or OSError when the connection broke, ValueError for wrong frames."""
        try:
            while True:
                size = self._peer.recv_into(self._target)
                if size == 0:
                    raise EOFError("it hung up")
                self._target = self._target[size:]
                while not self._target:
                    self._target = next(self._reading)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Hang up."""
        self._peer.close()


def announced(most: int) -> Generator[memoryview, None, int]:
    """Read a frame's length. Raises ValueError when it is more than `most` bytes."""
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
