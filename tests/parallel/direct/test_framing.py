"""Framing on a socket that never blocks: the same frames however the bytes come, and no longer ones than agreed."""

import select
import socket
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.parallel.direct.framing import FramedSocket, Reader, read_length

pytestmark = pytest.mark.usefixtures("in_time")

MOST = 1000  # bytes in a frame


def collecting(frames: list[bytes], most: int = MOST) -> Callable[[], Reader]:
    """Return a reader that appends each frame to the list."""

    def reading() -> Reader:
        while True:
            frame = bytearray((yield from read_length(most)))
            if frame:
                yield memoryview(frame)
            frames.append(bytes(frame))

    return reading


@contextmanager
def socket_from(reading: Callable[[], Reader]) -> Iterator[tuple[FramedSocket, socket.socket]]:
    """Give a framed socket and the socket of its peer."""
    ours, theirs = socket.socketpair()
    stream = FramedSocket(ours, reading)
    with theirs:
        yield stream, theirs
    stream.close()


def framed(frame: bytes, long: bool) -> bytes:
    """Return the frame as `multiprocessing.connection` sends it; `long`: as it does above 2 GB."""
    return (struct.pack("!iQ", -1, len(frame)) if long else struct.pack("!i", len(frame))) + frame


@given(
    frames=st.lists(st.tuples(st.binary(max_size=MOST), st.booleans()), max_size=6),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_the_same_frames_are_read_however_the_bytes_are_chopped(
    frames: list[tuple[bytes, bool]], cuts: list[int]
) -> None:
    wire = b"".join(framed(frame, long) for frame, long in frames)
    found: list[bytes] = []
    with socket_from(collecting(found)) as (stream, peer):
        place = turn = 0
        while place < len(wire):
            size = cuts[turn % len(cuts)]
            peer.sendall(wire[place : place + size])
            stream.receive()
            place += size
            turn += 1
        assert found == [frame for frame, _ in frames]


anything = st.one_of(
    st.binary(max_size=20),
    st.integers(-(2**31), 2**31 - 1).map(lambda size: struct.pack("!i", size)),
    st.integers(0, 2**64 - 1).map(lambda size: struct.pack("!iQ", -1, size)),
    st.binary(max_size=MOST).map(lambda frame: framed(frame, long=False)),
)


@given(st.lists(anything, max_size=10))
def test_no_more_is_read_than_agreed_whatever_is_announced(parts: list[bytes]) -> None:
    sizes: list[int] = []

    def reading() -> Reader:
        while True:
            size = yield from read_length(MOST)
            sizes.append(size)
            if size:
                yield memoryview(bytearray(size))

    with socket_from(reading) as (stream, peer):
        peer.sendall(b"".join(parts))
        with suppress(ValueError):
            stream.receive()
    assert all(0 <= size <= MOST for size in sizes)


@pytest.mark.parametrize("header", [struct.pack("!i", MOST + 1), struct.pack("!i", -2), struct.pack("!iQ", -1, 2**60)])
def test_too_long_frame_is_refused_before_memory_is_taken(header: bytes) -> None:
    with socket_from(collecting([])) as (stream, peer):
        peer.sendall(header)
        tracemalloc.start()
        with pytest.raises(ValueError, match="where at most 1000 were expected"):
            stream.receive()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 100_000


def test_unread_frames_are_kept_and_sending_does_not_block() -> None:
    vector = np.arange(3_000_000, dtype=np.float32)  # more than any socket holds
    with socket_from(collecting([])) as (stream, peer):
        stream.send(memoryview(b"header"))
        stream.send(vector.data)
        stream.send(memoryview(b""))
        kept = stream.unsent
        connection = Connection(peer.detach())
        found: list[bytes] = []

        def read() -> None:
            with connection:
                found.extend(connection.recv_bytes() for _ in range(3))

        reader = Thread(target=read)
        reader.start()
        while stream.unsent:
            select.select([], [stream], [])
            stream.flush()
        reader.join()
    assert kept
    assert found == [b"header", vector.tobytes(), b""]


def test_frames_of_a_multiprocessing_connection_are_read() -> None:
    sent = [b"", b"short", bytes(range(256)) * 400]
    found: list[bytes] = []
    with socket_from(collecting(found, 1 << 20)) as (stream, peer):
        with Connection(peer.detach()) as connection:
            for frame in sent:
                connection.send_bytes(frame)
        with pytest.raises(EOFError, match="it hung up"):
            stream.receive()
    assert found == sent


def test_frames_before_a_hang_up_amid_a_frame_are_read() -> None:
    found: list[bytes] = []
    with socket_from(collecting(found)) as (stream, peer):
        peer.sendall(framed(b"whole", False) + framed(b"a part", False)[:-1])
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(EOFError):
            stream.receive()
    assert found == [b"whole"]


def test_sending_to_a_peer_that_is_gone_is_an_error() -> None:
    with socket_from(collecting([])) as (stream, peer):
        peer.close()
        with pytest.raises(OSError, match="Broken pipe"):
            stream.send(memoryview(b"anybody there?"))
