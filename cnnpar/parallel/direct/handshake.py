"""Connections of the direct transport, which are open only to peers that prove that they know the key.

A connection is a `multiprocessing.connection.Connection`; only `send_bytes` and `recv_bytes` are used, so nothing that
arrives is ever unpickled.
"""

import os
import secrets
import socket
import struct
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge
from typing import NamedTuple

from cnnpar.errors import RunError

HANDSHAKE_SECONDS = 5.0  # for a peer to prove itself
_TRIES = 10  # of a worker to be heard
HELLO = struct.Struct("<I")  # worker


class Endpoint(NamedTuple):
    """Where a worker finds the server, and whether they share memory."""

    address: str | tuple[str, int]
    shared: bool


class Listener:
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

    def accept(self) -> socket.socket:
        """Accept one unauthenticated connection. Raises OSError when there is none any more."""
        self._socket.setblocking(False)
        peer, _ = self._socket.accept()
        return peer

    def close(self) -> None:
        """Let nobody in any more."""
        self._socket.close()


def authenticate(peer: socket.socket, key: bytes) -> tuple[socket.socket, int]:
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
