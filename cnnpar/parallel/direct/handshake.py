"""Connecting a worker to the server: both sides prove that they know the run's key (HMAC challenges).

The worker's end is a `multiprocessing.connection.Connection`, of which only `send_bytes` and `recv_bytes` are used:
nothing that arrives is unpickled.
"""

import os
import secrets
import socket
import struct
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge
from typing import NamedTuple

from cnnpar.errors import RunError

HANDSHAKE_SECONDS = 5.0  # in which a peer must send each part of the handshake
_TRIES = 10  # of a worker, whose connection may be ended to make room while many others connect
HELLO = struct.Struct("<I")  # number of the worker, sent once both sides are authenticated


class Endpoint(NamedTuple):
    """Address of a listener, and whether workers that connect there share memory with the server."""

    address: str | tuple[str, int]  # name of a Unix socket, or (host, port)
    shared: bool


class Listener:
    """A listening socket, for workers of this node or of other nodes."""

    def __init__(self, host: str | None) -> None:
        """Listen at `host`, this node's address, for workers on other nodes; None: at a Unix socket without a file."""
        if host is None:
            self._socket = socket.socket(socket.AF_UNIX)
            # A name that begins with NUL is abstract: no file to remove, and the kernel frees it (unix(7)).
            name = f"\0cnnpar-{os.getpid()}-{secrets.token_hex(8)}"
            self._socket.bind(name)
            self.endpoint = Endpoint(name, shared=True)
        else:
            self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            self._socket.bind((host, 0))  # this address alone, any free port
            self.endpoint = Endpoint(self._socket.getsockname()[:2], shared=False)
        self._socket.listen(1024)  # connections that wait to be accepted, as at a start of many workers

    def fileno(self) -> int:
        """Return the socket's descriptor, for selectors."""
        return self._socket.fileno()

    def accept(self) -> socket.socket:
        """Accept one unauthenticated connection. Raises OSError when the peer has gone."""
        self._socket.setblocking(False)
        peer, _ = self._socket.accept()
        return peer

    def close(self) -> None:
        """Stop listening; further connections are refused."""
        self._socket.close()


def authenticate(peer: socket.socket, key: bytes) -> tuple[socket.socket, int]:
    """Return the socket and the worker's number, after both sides have proved that they know the key.

    Blocks for at most HANDSHAKE_SECONDS at each read and write. Raises ConnectionError when the peer fails, and closes
    the socket.
    """
    peer.setblocking(True)
    if peer.family != socket.AF_UNIX:
        _tune(peer)
    _limit(peer, HANDSHAKE_SECONDS)
    with Connection(os.dup(peer.fileno())) as connection:  # of a copy, as it closes its descriptor
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
    """Return the worker's end of a connection to the server. Raises RunError when the server cannot be reached."""
    for left in reversed(range(_TRIES)):
        try:
            connection: Connection = Client(endpoint.address, authkey=key)
            break
        except (OSError, EOFError, AuthenticationError) as error:
            if left and isinstance(error, EOFError | ConnectionResetError):
                continue  # the server ended this handshake, as too many were pending
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
    """Set the longest time of a read or write in seconds; after it they raise BlockingIOError."""
    timeval = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)


def _tune(peer: socket.socket) -> None:
    """Send small frames at once, and notice within half a minute that the other host is unreachable."""
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # After 10 idle seconds, probe every 5 s, four times (tcp(7)).
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
