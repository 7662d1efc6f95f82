"""The direct transport's messages, its shared memory, and its handshake, which proves that both sides know the key."""

import select
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.nn.sums import Sums
from cnnpar.parallel.direct import handshake
from cnnpar.parallel.direct.handshake import Listener, authenticate, connect
from cnnpar.parallel.direct.messages import pack_answer, pack_job, unpack_answer, unpack_job
from cnnpar.parallel.direct.shared_memory import SharedMemory
from cnnpar.parallel.tree import Node, Span
from cnnpar.parallel.work import Block, Kind, Step

pytestmark = pytest.mark.usefixtures("in_time")

u32 = st.integers(0, 2**32 - 1)
jobs = st.tuples(st.integers(0, 2**64 - 1), st.sampled_from(Kind), u32, u32, u32, u32, st.integers(0, 2**64 - 1))
rows = st.tuples(st.integers(0, 255), u32, u32, st.floats(allow_nan=False), st.integers(0, 2**62))


@given(jobs)
def test_a_job_is_unpacked_as_it_was_packed(fields: tuple[int, Kind, int, int, int, int, int]) -> None:
    job, kind, epoch, number, start, stop, version = fields
    frame = pack_job(job, Step(kind, epoch, number), Span(start, stop), version)
    assert unpack_job(frame) == (job, Step(kind, epoch, number), Span(start, stop), version)


@given(st.floats(0, 1e9), st.lists(rows, max_size=9), st.booleans())
def test_an_answer_is_unpacked_as_it_was_packed(
    seconds: float, fields: list[tuple[int, int, int, float, int]], vectors: bool
) -> None:
    blocks = [Block(Node(level, number), slot, Sums(loss, hits, hits)) for level, number, slot, loss, hits in fields]
    assert unpack_answer(pack_answer(5, seconds, blocks, vectors)) == (5, seconds, blocks, vectors)


@given(st.binary(max_size=200))
def test_garbage_raises_nothing_but_value_error(frame: bytes) -> None:
    for unpack in (unpack_job, unpack_answer):
        try:
            unpack(frame)
        except ValueError:
            continue


def test_shared_memory_has_no_name_and_outlives_its_descriptor() -> None:
    memory = SharedMemory.create(48)
    array = memory.array((3, 4))
    array[:] = 7
    assert str(Path(f"/proc/self/fd/{memory.descriptor}").readlink()).startswith("/memfd:")
    memory.close()
    assert memory.array((12,)).sum() == array.sum() == 84


def first_peer(listener: Listener) -> socket.socket:
    select.select([listener], [], [])
    return listener.accept()


def test_a_silent_peer_is_refused_after_the_handshake_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "HANDSHAKE_SECONDS", 0.05)
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(ConnectionError, match=r"no word for 0.05 s"):
        authenticate(ours, b"key")
    assert ours.fileno() == -1


def test_a_hang_up_amid_the_handshake_is_named_in_the_error() -> None:
    ours, theirs = socket.socketpair()
    theirs.shutdown(socket.SHUT_WR)
    with theirs, pytest.raises(ConnectionError, match=r"^it hung up$"):
        authenticate(ours, b"key")


def test_worker_rejected_by_a_full_listener_tries_again() -> None:
    with closing(Listener(None)) as listener, ThreadPoolExecutor(1) as pool:
        connected = pool.submit(connect, listener.endpoint, b"key", 7)
        for _ in range(3):
            first_peer(listener).close()
        peer, worker = authenticate(first_peer(listener), b"key")
        with peer, connected.result():
            assert worker == 7
