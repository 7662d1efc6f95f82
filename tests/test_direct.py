"""The direct transport between real processes, without Ray: shared memory, sockets, strangers and deaths."""

import os
import signal
import socket
import time
from contextlib import closing
from multiprocessing.connection import Client

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.errors import RunError
from cnnpar.parallel import wire
from cnnpar.parallel.direct import Direct
from cnnpar.parallel.plan import Node, Span
from cnnpar.parallel.server import Server
from cnnpar.parallel.work import Block, Kind, Step, Sums
from tests.toys import Processes, fail, in_process, made_run

u32 = st.integers(0, 2**32 - 1)
jobs = st.tuples(st.integers(0, 2**64 - 1), st.sampled_from(Kind), u32, u32, u32, u32, st.booleans())


@given(jobs)
def test_a_job_comes_out_of_the_wire_as_it_went_in(fields: tuple[int, Kind, int, int, int, int, bool]) -> None:
    job, kind, epoch, number, start, stop, fresh = fields
    frame = wire.pack_job(job, Step(kind, epoch, number), Span(start, stop), fresh)
    assert wire.unpack_job(frame) == (job, Step(kind, epoch, number), Span(start, stop), fresh)


@given(st.binary(max_size=200))
def test_garbage_is_refused_as_a_frame(frame: bytes) -> None:
    for unpack in (wire.unpack_job, wire.unpack_answer):
        try:
            unpack(frame)
        except ValueError:
            continue


@given(
    st.lists(st.tuples(st.integers(0, 255), u32, u32, st.floats(allow_nan=False), st.integers(0, 2**62)), max_size=9)
)
def test_an_answer_comes_out_of_the_wire_as_it_went_in(rows: list[tuple[int, int, int, float, int]]) -> None:
    blocks = [Block(Node(level, number), slot, Sums(loss, hits, hits)) for level, number, slot, loss, hits in rows]
    assert wire.unpack_answer(wire.pack_answer(5, blocks, True)) == (5, blocks, True)


@pytest.mark.parametrize("shared", [[True, True], [False, False], [True, False]], ids=["memory", "socket", "both"])
def test_processes_give_the_same_bits_as_this_one(shared: list[bool]) -> None:
    _, work, data = made_run()
    parameters = work.network.init(0)
    reference = in_process(work, data)
    server = Server(work, Direct(work, Processes(work, data, shared), 60.0, 60.0), 60.0, fail)
    with closing(server):
        for epoch, number in [(0, 0), (0, 1), (1, 6)]:
            expected, expected_sums = reference.gradient(parameters, epoch, number)
            vector, sums = server.gradient(parameters, epoch, number)
            assert vector.tobytes() == expected.tobytes()
            assert sums == expected_sums
            parameters = parameters - np.float32(0.01) * expected  # new parameters reach every worker
        assert server.evaluate(parameters, Kind.TEST) == reference.evaluate(parameters, Kind.TEST)


def test_a_killed_process_is_noticed_and_changes_nothing() -> None:
    _, work, data = made_run()
    parameters = work.network.init(0)
    processes = Processes(work, data, [True, False, True])
    warnings: list[str] = []
    server = Server(work, Direct(work, processes, 60.0, 60.0), 60.0, warnings.append)
    expected = in_process(work, data).gradient(parameters, 0, 0)[0].tobytes()
    with closing(server):
        for worker in (1, 0):
            assert server.gradient(parameters, 0, 0)[0].tobytes() == expected
            os.kill(processes.processes[worker].pid, signal.SIGKILL)
        assert server.gradient(parameters, 0, 0)[0].tobytes() == expected
    assert [text.split(":")[0] for text in warnings] == ["worker 1 is lost", "worker 0 is lost"]
    assert "exit code -9" in warnings[0]


def test_a_silent_worker_is_given_up_at_its_deadline() -> None:
    _, work, data = made_run()
    parameters = work.network.init(0)
    processes = Processes(work, data, [True, True])
    warnings: list[str] = []
    server = Server(work, Direct(work, processes, 60.0, 60.0), 0.5, warnings.append)
    with closing(server):
        expected = server.gradient(parameters, 0, 0)[0].tobytes()
        os.kill(processes.processes[1].pid, signal.SIGSTOP)
        assert server.gradient(parameters, 0, 0)[0].tobytes() == expected
        assert server.workers == 1
    assert "no answer for 0.5 s" in warnings[0]


class Strangers(Processes):
    """Before each worker of ours, others knock at the door."""

    def serve(self, worker: int, endpoint: wire.Endpoint, key: bytes) -> None:
        family = socket.AF_UNIX if endpoint.shared else socket.AF_INET
        garbage = socket.socket(family)
        garbage.connect(endpoint.address)
        garbage.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
        garbage.close()
        gone = socket.socket(family)
        gone.connect(endpoint.address)
        gone.close()
        super().serve(worker, endpoint, key)


def test_strangers_are_turned_away() -> None:
    _, work, data = made_run()
    server = Server(work, Direct(work, Strangers(work, data, [True, False]), 60.0, 60.0), 60.0, fail)
    with closing(server):
        assert server.gradient(work.network.init(0), 0, 0)[1].count == 50


class Impostor(Processes):
    """A worker that does not know the key."""

    def serve(self, worker: int, endpoint: wire.Endpoint, key: bytes) -> None:
        super().serve(worker, endpoint, b"a wrong key")


def test_a_worker_that_cannot_prove_itself_ends_the_start_with_its_reason() -> None:
    _, work, data = made_run()
    with pytest.raises(RunError, match="worker 0 did not start: exit code 1"):
        Direct(work, Impostor(work, data, [True]), 60.0, 60.0)


class Absent(Processes):
    """A worker that never comes."""

    def serve(self, worker: int, endpoint: wire.Endpoint, key: bytes) -> None:
        pass

    def why_ended(self, worker: int, seconds: float) -> str | None:
        return None


def test_a_worker_that_never_comes_ends_the_start_at_its_deadline() -> None:
    _, work, data = made_run()
    began = time.monotonic()
    with pytest.raises(RunError, match=r"workers 0, 1 did not connect within 0.2 s"):
        Direct(work, Absent(work, data, [True, True]), 0.2, 60.0)
    assert time.monotonic() - began < 5


def test_the_door_is_closed_once_all_workers_are_in() -> None:
    _, work, data = made_run()
    seen: list[wire.Endpoint] = []

    class Watching(Processes):
        def serve(self, worker: int, endpoint: wire.Endpoint, key: bytes) -> None:
            seen.append(endpoint)
            super().serve(worker, endpoint, key)

    with closing(Direct(work, Watching(work, data, [False]), 60.0, 60.0)), pytest.raises(OSError, match="refused"):
        Client(seen[0].address)


def test_shared_memory_leaves_no_name_behind() -> None:
    before = set(os.listdir("/dev/shm"))  # noqa: PTH208
    memory = wire.SharedMemory.create((3, 4))
    memory.array[:] = 7
    assert set(os.listdir("/dev/shm")) == before  # noqa: PTH208
    memory.close()
    assert memory.array.sum() == 84  # the mapping outlives the descriptor
