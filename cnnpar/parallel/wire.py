"""The direct transport's wire: frames, shared memory, and connections that prove they know the key.

A connection is a `multiprocessing.connection.Connection`; only `send_bytes` and `recv_bytes` are used, so nothing
that arrives is ever unpickled. On the server's own node parameters and gradients lie in anonymous memory that both
sides map (it has no name, needs no room in /dev/shm and is gone with its last process), and the connection carries
headers of a few bytes; to other nodes it carries the vectors themselves, as one frame each.
"""

import math
import mmap
import os
import secrets
import socket
import struct
import sys
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnpar.errors import RunError
from cnnpar.nn.sums import Sums
from cnnpar.parallel.plan import Node, Span
from cnnpar.parallel.work import Block, Kind, Step

# Whether processes of one node can share memory by passing a descriptor.
CAN_SHARE = sys.platform == "linux" and hasattr(os, "memfd_create")

HANDSHAKE_SECONDS = 5.0  # for a peer to prove itself
_TRIES = 10  # of a worker to be heard
HELLO = struct.Struct("<I")  # worker
JOB = struct.Struct("<QBIIII?")  # job, kind, epoch, number, start, stop, whether new parameters follow
_ANSWER = struct.Struct("<QdI?")  # job, seconds of computing, number of blocks, whether their vectors follow
_BLOCK = struct.Struct("<BIIdqq")  # level, number, slot, loss, correct, count
_MAXIMUM_BLOCKS = 256
MAXIMUM_ANSWER = _ANSWER.size + _MAXIMUM_BLOCKS * _BLOCK.size


class Endpoint(NamedTuple):
    """Where a worker finds the server, and whether they share memory."""

    address: str | tuple[str, int]
    shared: bool


def pack_job(job: int, step: Step, span: Span, fresh: bool) -> bytes:
    """A job as the frame that the worker gets; `fresh` says that the next frame has new parameters."""
    return JOB.pack(job, step.kind, step.epoch, step.number, *span, fresh)


def unpack_job(frame: bytes) -> tuple[int, Step, Span, bool]:
    """The opposite of `pack_job`. Raises ValueError on anything else."""
    try:
        job, kind, epoch, number, start, stop, fresh = JOB.unpack(frame)
        return job, Step(Kind(kind), epoch, number), Span(start, stop), fresh
    except struct.error as error:
        raise ValueError(f"not a job: {error}") from error


def pack_answer(job: int, seconds: float, blocks: list[Block], vectors: bool) -> bytes:
    """A worker's answer; `vectors` says that one more frame follows for each block."""
    parts = [_ANSWER.pack(job, seconds, len(blocks), vectors)]
    parts += [_BLOCK.pack(*node, slot, *sums) for node, slot, sums in blocks]
    return b"".join(parts)


def unpack_answer(frame: bytes) -> tuple[int, float, list[Block], bool]:
    """The opposite of `pack_answer`. Raises ValueError on anything else."""
    try:
        job, seconds, count, vectors = _ANSWER.unpack_from(frame)
        fields = list(_BLOCK.iter_unpack(frame[_ANSWER.size :]))
    except struct.error as error:
        raise ValueError(f"not an answer: {error}") from error
    if count != len(fields):
        raise ValueError(f"not an answer: {len(fields)} blocks instead of {count}")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"not an answer: computed in {seconds} s")
    return (
        job,
        seconds,
        [Block(Node(level, number), slot, Sums(*sums)) for level, number, slot, *sums in fields],
        vectors,
    )


class SharedMemory:
    """Anonymous memory of `shape` float32 that can be given to another process of this node."""

    def __init__(self, descriptor: int, shape: tuple[int, ...]) -> None:
        """Maps a descriptor of memory of that size; the object owns it."""
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, max(int(np.prod(shape)) * 4, 1))
        self.array: NDArray[np.float32] = np.frombuffer(self._map, np.float32, int(np.prod(shape))).reshape(shape)

    @classmethod
    def create(cls, shape: tuple[int, ...]) -> "SharedMemory":
        """New memory, zero, of which the kernel provides a page when it is first touched."""
        descriptor = os.memfd_create("cnnpar", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, max(int(np.prod(shape)) * 4, 1))
        return cls(descriptor, shape)

    def close(self) -> None:
        """Give the descriptor back; the mapping goes with the last array that uses it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Door:
    """Where workers come in: a listening socket that is open only while they are awaited."""

    def __init__(self, host: str | None) -> None:
        """`host`: this node's own address, for workers on other nodes; None: a local socket without a file."""
        if host is None:
            self._socket = socket.socket(socket.AF_UNIX)
            name = f"\0cnnpar-{os.getpid()}-{secrets.token_hex(8)}"
            self._socket.bind(name)
            self.endpoint = Endpoint(name, shared=True)
        else:
            self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            self._socket.bind((host, 0))
            self.endpoint = Endpoint(self._socket.getsockname()[:2], shared=False)
        self._socket.listen(1024)

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def knock(self) -> socket.socket:
        """Whoever stands before the door, and is yet to prove itself. Raises OSError when nobody does any more."""
        self._socket.setblocking(False)
        peer, _ = self._socket.accept()
        return peer

    def close(self) -> None:
        """Let nobody in any more."""
        self._socket.close()


def greet(peer: socket.socket, key: bytes) -> tuple[socket.socket, int]:
    """The worker that has come in, and its number, once both sides have shown that they know the key.

    Raises ConnectionError when the peer is no worker of ours; no wait is longer than HANDSHAKE_SECONDS.
    """
    peer.setblocking(True)
    if peer.family != socket.AF_UNIX:
        _tune(peer)
    _limit(peer, HANDSHAKE_SECONDS)
    with Connection(os.dup(peer.fileno())) as connection:
        try:
            deliver_challenge(connection, key)
            answer_challenge(connection, key)
            (worker,) = HELLO.unpack(connection.recv_bytes(HELLO.size))
        except (OSError, EOFError, AuthenticationError, struct.error, AssertionError) as error:
            peer.close()
            known = {BlockingIOError: f"no word for {HANDSHAKE_SECONDS:g} s", EOFError: "it hung up"}
            raise ConnectionError(known.get(type(error), f"{type(error).__name__}: {error}".rstrip(": "))) from error
    return peer, worker


def connect(endpoint: Endpoint, key: bytes, worker: int) -> Connection:
    """A worker's end of a connection to the server. Raises RunError when the server cannot be reached."""
    for left in reversed(range(_TRIES)):
        try:
            connection: Connection = Client(endpoint.address, authkey=key)
            break
        except (OSError, EOFError, AuthenticationError) as error:
            if left and isinstance(error, EOFError | ConnectionResetError):
                continue  # there was a crowd before the door
            raise RunError(
                f"worker {worker} on {socket.gethostname()} cannot reach the server at {endpoint.address}: {error}; "
                f"open its ports to this host, or use --transport ray"
            ) from error
    if not endpoint.shared:
        with socket.socket(fileno=os.dup(connection.fileno())) as twin:
            _tune(twin)
    connection.send_bytes(HELLO.pack(worker))
    return connection


def send_memory(peer: socket.socket, *memories: SharedMemory) -> None:
    """Give a worker of this node the memory to work in."""
    socket.send_fds(peer, [b"m"], [memory.descriptor for memory in memories])


def receive_memory(connection: Connection, *shapes: tuple[int, ...]) -> list[NDArray[np.float32]]:
    """The memory that `send_memory` sent, in the same order."""
    with socket.socket(fileno=os.dup(connection.fileno())) as twin:
        _, descriptors, _, _ = socket.recv_fds(twin, 1, len(shapes))
    if len(descriptors) != len(shapes):
        raise EOFError("the server closed the connection")
    memories = [SharedMemory(descriptor, shape) for descriptor, shape in zip(descriptors, shapes, strict=True)]
    for memory in memories:
        memory.close()
    return [memory.array for memory in memories]


def _limit(peer: socket.socket, seconds: float) -> None:
    """Let no read or write of a socket wait longer than that; it fails with BlockingIOError."""
    timeval = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)


def _tune(peer: socket.socket) -> None:
    """Headers at once, and a host that vanished without a word found out within half a minute."""
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
