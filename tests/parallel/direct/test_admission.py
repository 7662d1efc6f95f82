"""Connections to the server's listeners that are no awaited worker's: they are rejected, and the run goes on."""

import random
import re
import select
import socket
import struct
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from threading import Event
from typing import Any

import pytest

from cnnpar.config.sections import Engine
from cnnpar.errors import RunError
from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums
from cnnpar.parallel.direct import handshake
from cnnpar.parallel.direct import transport as direct_module
from cnnpar.parallel.direct.admission import MOST_PENDING
from cnnpar.parallel.direct.handshake import HELLO, Endpoint, connect
from cnnpar.parallel.direct.transport import DirectTransport
from cnnpar.parallel.direct.worker import serve
from cnnpar.parallel.server import Server
from cnnpar.parallel.work import Prepared, Step, Work
from tests.helpers.made_runs import Around, fail, made_run, opened, step_until
from tests.helpers.plain_workers import Threads

pytestmark = pytest.mark.usefixtures("in_time")


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave 30 s to find out why a worker is gone, and look every 0.05 s."""
    monkeypatch.setattr(direct_module, "_LOOK", 0.05)
    monkeypatch.setattr(direct_module, "_REASON_SECONDS", 30.0)


def running(launcher: Threads, warn: Callable[[str], None], **engine: Any) -> Server:
    """Return a server with two workers and a deadline that none of them misses, unless `engine` says otherwise."""
    _, work, _ = made_run()
    settings = Engine(**{"workers": 2, "deadline_floor": 60.0, **engine})
    return opened(Server(work, DirectTransport(work, launcher, settings.start_timeout), settings, warn))


def connected(endpoint: Endpoint) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX if endpoint.shared else socket.AF_INET)
    peer.settimeout(30)
    try:
        peer.connect(endpoint.address)
    except OSError:
        peer.close()
        raise
    return peer


def send_off(peer: socket.socket) -> None:
    """Wait until the server has hung up."""
    with peer, suppress(ConnectionError):
        while peer.recv(4096):
            pass


def saying(words: bytes) -> Callable[[Endpoint, bytes], None]:
    """Return a stranger without the key that sends these bytes."""

    def stranger(endpoint: Endpoint, key: bytes) -> None:
        peer = connected(endpoint)
        with suppress(ConnectionError):
            peer.sendall(words)
        send_off(peer)

    return stranger


def greeting(words: bytes | None) -> Callable[[Endpoint, bytes], None]:
    """Return a stranger with the key that then sends what no worker sends, or nothing."""

    def stranger(endpoint: Endpoint, key: bytes) -> None:
        with Client(endpoint.address, authkey=key) as connection:
            if words is not None:
                connection.send_bytes(words)
                with pytest.raises((EOFError, ConnectionError)):
                    connection.recv_bytes()

    return stranger


def guess(endpoint: Endpoint, key: bytes) -> None:
    with pytest.raises(AuthenticationError):
        Client(endpoint.address, authkey=b"a wrong key")


def leave(endpoint: Endpoint, key: bytes) -> None:
    connected(endpoint).close()


STRANGERS = {
    "leaves": leave,
    "a request": saying(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "noise": saying(random.Random(0).randbytes(100_000)),
    "a negative length": saying(struct.pack("!i", -7)),
    "a huge length": saying(struct.pack("!iQ", -1, 2**62)),
    "a wrong answer": saying(struct.pack("!i", 16) + bytes(16)),
    "a wrong key": guess,
    "no name": greeting(None),
    "a short name": greeting(b"1"),
    "a long name": greeting(bytes(1000)),
    "an unknown name": greeting(HELLO.pack(99)),
    "nothing": greeting(b""),
}


@pytest.mark.parametrize("shared", [True, False], ids=["memory", "socket"])
@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_is_rejected_with_a_warning(name: str, shared: bool) -> None:
    def come_second(work: Work, endpoint: Endpoint, key: bytes, worker: int) -> None:
        STRANGERS[name](endpoint, key)
        serve(work, endpoint, key, worker)

    _, work, data = made_run()
    warnings: list[str] = []
    with closing(running(Threads(work, data, shared, {0: come_second}), warnings.append)) as server:
        step_until(server, lambda: len(warnings) > 0)
        assert server.workers == 2
    (text,) = warnings
    assert re.fullmatch(r"rejected a connection that is not a worker's \(.+\)", text)


@pytest.mark.parametrize("shared", [True, False], ids=["memory", "socket"])
def test_hundreds_of_silent_connections_keep_no_worker_out(shared: bool) -> None:
    peers: list[socket.socket] = []

    def come_last(work: Work, endpoint: Endpoint, key: bytes, worker: int) -> None:
        peers.extend(connected(endpoint) for _ in range(200))
        serve(work, endpoint, key, worker)

    _, work, data = made_run()
    warnings: list[str] = []
    with closing(running(Threads(work, data, shared, {0: come_last}), warnings.append)) as server:
        for peer in peers[: 200 - MOST_PENDING]:
            send_off(peer)
        for peer in peers:
            peer.close()
        step_until(server, lambda: len(warnings) == 10)
        assert server.workers == 2
    assert "further ones are rejected without a note" in warnings[-1]


@dataclass(frozen=True)
class Wearisome(Around):
    """A work that raises once a worker has computed more microbatches than a step has."""

    done: list[int] = field(default_factory=list)  # microbatches

    def compute(self, step: Step, microbatch: int, prepared: Prepared, parameters: Vector, out: Vector) -> Sums:
        self.done.append(microbatch)
        if len(self.done) > self.microbatches(step):
            raise RuntimeError("enough")
        return super().compute(step, microbatch, prepared, parameters, out)


def desert(work: Work, endpoint: Endpoint, key: bytes, worker: int) -> None:
    serve(Wearisome(work), endpoint, key, worker)


@pytest.mark.parametrize("shared", [True, False], ids=["memory", "socket"])
def test_worker_with_another_ones_number_is_rejected(shared: bool) -> None:
    def pretend(work: Work, endpoint: Endpoint, key: bytes, worker: int) -> None:
        greeting(HELLO.pack(1))(endpoint, key)
        serve(work, endpoint, key, worker)

    _, work, data = made_run()
    warnings: list[str] = []
    with closing(running(Threads(work, data, shared, {0: desert, 2: pretend}), warnings.append)) as server:
        step_until(server, lambda: server.workers == 2 and len(warnings) == 3)
    assert warnings[0] == "worker 0 is lost: RuntimeError: enough"
    assert set(warnings[1:]) == {
        "rejected a connection that is not a worker's (it claims to be worker 1, which is not expected there)",
        "worker 2 has come",
    }


def test_worker_that_takes_an_awaited_ones_place_does_not_stay() -> None:
    def usurp(work: Work, endpoint: Endpoint, key: bytes, worker: int) -> None:
        with connect(endpoint, key, worker + 1) as connection, suppress(EOFError, OSError):
            connection.send_bytes(b"nonsense")
            connection.recv_bytes()

    _, work, data = made_run()
    warnings: list[str] = []
    launcher = Threads(work, data, True, {0: desert, 1: desert, 3: usurp})
    with closing(running(launcher, warnings.append, workers=3)) as server:
        step_until(server, lambda: server.workers == 3)


@pytest.mark.parametrize("shared", [True, False], ids=["memory", "socket"])
def test_listeners_are_open_only_while_a_worker_is_awaited(shared: bool) -> None:
    _, work, data = made_run()
    launcher = Threads(work, data, shared, {0: desert})
    warnings: list[str] = []
    with closing(running(launcher, warnings.append)) as server:
        with pytest.raises(ConnectionRefusedError):
            connected(launcher.endpoints[0])
        step_until(server, lambda: server.workers == 2 and len(warnings) == 2)
        assert warnings == ["worker 0 is lost: RuntimeError: enough", "worker 2 has come"]
        assert len(set(launcher.endpoints)) == 2
        with pytest.raises(ConnectionRefusedError):
            connected(launcher.endpoints[-1])


@pytest.mark.parametrize("shared", [True, False], ids=["memory", "socket"])
def test_workers_end_without_error_when_the_server_hangs_up(shared: bool) -> None:
    _, work, data = made_run()
    launcher = Threads(work, data, shared, {})
    with closing(running(launcher, fail)) as server:
        step_until(server, lambda: True)
    assert [call.exception() for call in launcher.calls.values()] == [None, None]


def test_listener_for_other_nodes_is_on_the_nodes_address_only() -> None:
    def look_around(work: Work, endpoint: Endpoint, key: bytes, worker: int) -> None:
        connected(endpoint).close()
        port = endpoint.address[1]
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.2", int(port)), timeout=30):
            pass
        serve(work, endpoint, key, worker)

    _, work, data = made_run()
    with closing(running(Threads(work, data, False, {0: look_around}), lambda _: None)) as server:
        assert server.workers == 2


@pytest.mark.slow
def test_workers_with_a_wrong_key_end_the_start_with_the_reason() -> None:
    def forget_the_key(work: Work, endpoint: Endpoint, key: bytes, worker: int) -> None:
        serve(work, endpoint, b"a wrong key", worker)

    _, work, data = made_run()
    with pytest.raises(RunError, match=r"worker \d did not start: .*cannot reach the server"):
        running(Threads(work, data, True, dict.fromkeys(range(9), forget_the_key)), lambda _: None)


class Waiting(Threads):
    """Threads of which the second does not come before the others are closed."""

    def __init__(self, shared: bool) -> None:
        _, work, data = made_run()
        self._over = Event()
        super().__init__(work, data, shared, {1: lambda *_: self._stay_away()})

    def _stay_away(self) -> None:
        self._over.wait()

    def close(self) -> None:
        self._over.set()
        super().close()


def test_a_start_without_all_workers_ends_at_start_timeout() -> None:
    began = time.monotonic()
    shortage = r"(only [01] of 2 workers started|worker [01] did not start: .*) within 0\.2 s \(engine.start_timeout\)"
    with pytest.raises(RunError, match=shortage):
        running(Waiting(True), fail, start_timeout=0.2)
    assert time.monotonic() - began < 10


def test_end_of_a_run_hangs_up_on_unauthenticated_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handshake, "HANDSHAKE_SECONDS", 100.0)
    launcher = Waiting(False)
    with closing(running(launcher, fail, workers="1:2")) as server:
        step_until(server, lambda: len(launcher.endpoints) == 2)
        peer = connected(launcher.endpoints[1])
        step_until(server, lambda: bool(select.select([peer], [], [], 0)[0]))  # it is asked who it is
    send_off(peer)
