"""Answers on a worker's connection: an invalid one ends that connection, and the run goes on."""

import math
import os
import re
import socket
import struct
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.config.sections import Engine
from cnnpar.nn.sums import Sums
from cnnpar.parallel.compute import Computer, Slots, slots_shape
from cnnpar.parallel.direct.connection import WorkerConnection
from cnnpar.parallel.direct.handshake import Endpoint, connect
from cnnpar.parallel.direct.messages import _BLOCK, MAXIMUM_ANSWER, pack_answer, unpack_job
from cnnpar.parallel.direct.shared_memory import receive_memory
from cnnpar.parallel.direct.transport import DirectTransport
from cnnpar.parallel.server import Server
from cnnpar.parallel.tree import Node, Span, covers
from cnnpar.parallel.work import Block, Kind, Step, Work
from tests.helpers.made_runs import made_run, opened, step_until
from tests.helpers.plain_workers import Serve, Threads

pytestmark = pytest.mark.usefixtures("in_time")


def framed(frame: bytes) -> bytes:
    return struct.pack("!i", len(frame)) + frame


@dataclass(frozen=True)
class Honest:
    """The right answer to a job, and the same answer with parts of it changed."""

    job: int
    blocks: list[Block]
    slots: Slots
    shared: bool

    def header(self, job: int | None = None, seconds: float = 0.001, vectors: bool | None = None) -> bytes:
        vectors = not self.shared if vectors is None else vectors
        return pack_answer(self.job if job is None else job, seconds, self.blocks, vectors)

    def with_blocks(self, blocks: list[Block]) -> bytes:
        return framed(Honest(self.job, blocks, self.slots, self.shared).header()) + self.vectors

    @property
    def vectors(self) -> bytes:
        return b"" if self.shared else b"".join(framed(self.slots[block.slot].tobytes()) for block in self.blocks)

    @property
    def answer(self) -> bytes:
        return framed(self.header()) + self.vectors


Lie = Callable[[Honest], bytes | None]


def rogue(lie: Lie, hang_up: bool) -> Serve:
    """Return a worker whose first answer is right; then it sends what `lie` returns, and hangs up or is hung up on."""

    def behave(work: Work, endpoint: Endpoint, key: bytes, worker: int) -> None:
        with connect(endpoint, key, worker) as connection:
            shapes = (work.size,), slots_shape(work)
            if endpoint.shared:
                memories = receive_memory(connection, *(4 * math.prod(shape) for shape in shapes))
                parameters, slots = (memory.array(shape) for memory, shape in zip(memories, shapes, strict=True))
            else:
                parameters, slots = (np.empty(shape, np.float32) for shape in shapes)
            words = None
            answers = known = 0
            while words is None:
                job, step, span, version = unpack_job(connection.recv_bytes())
                if version != known and not endpoint.shared:
                    connection.recv_bytes_into(parameters.data)
                known = version
                honest = Honest(job, Computer(work, slots).compute(step, span, parameters), slots, endpoint.shared)
                words = lie(honest) if answers else None
                answers += 1
                with suppress(ConnectionError), socket.socket(fileno=os.dup(connection.fileno())) as peer:
                    peer.sendall(honest.answer if words is None else words)
            with suppress(EOFError, ConnectionError):
                while not hang_up:
                    connection.recv_bytes()

    return behave


def check(lie: Lie, words: str, shared: bool, hang_up: bool = False) -> None:
    """Let the second worker send what `lie` returns: it is lost for that and replaced; no bit changes."""
    _, work, data = made_run()
    warnings: list[str] = []
    launcher = Threads(work, data, shared, {1: rogue(lie, hang_up)})
    engine = Engine(workers=3, deadline_floor=60.0)  # so that each one's span has several blocks
    with closing(opened(Server(work, DirectTransport(work, launcher, 60.0), engine, warnings.append))) as server:
        step_until(server, lambda: len(warnings) > 1 and server.workers == 3)
    assert re.fullmatch(f"worker 1 is lost: .*{words}.*", warnings[0])
    assert warnings[1:] == ["worker 3 has come"]


def changed(block: Block, levels: int) -> Block:
    return block._replace(node=Node(block.node.level + levels, block.node.number + 1))


OUTSIDE = "blocks that are not those of job"
NO_ANSWER = "not an answer: "
TOO_LONG = "where at most"
LIES: dict[str, tuple[Lie, str]] = {
    "another job": (lambda it: framed(it.header(job=it.job + 1)) + it.vectors, "which it does not have"),
    "an earlier job": (lambda it: framed(it.header(job=0)) + it.vectors, "an answer to job 0, which it does not have"),
    "two answers": (lambda it: 2 * it.answer, "which it does not have"),
    "others' blocks": (lambda it: it.with_blocks([changed(block, 0) for block in it.blocks]), OUTSIDE),
    "larger blocks": (lambda it: it.with_blocks([changed(block, 200) for block in it.blocks]), OUTSIDE),
    "a block less": (lambda it: it.with_blocks(it.blocks[1:]), OUTSIDE),
    "a block twice": (lambda it: it.with_blocks(it.blocks + it.blocks[:1]), OUTSIDE),
    "a hundred blocks": (lambda it: it.with_blocks((it.blocks * 100)[:100]), OUTSIDE),
    "a thousand blocks": (lambda it: it.with_blocks(it.blocks * 1000), TOO_LONG),
    "half a block": (lambda it: framed(it.header()[:-9]), NO_ANSWER),
    "a wrong count": (lambda it: framed(it.header() + it.header()[-_BLOCK.size :]), NO_ANSWER),
    "an empty frame": (lambda it: framed(b""), NO_ANSWER),
    "noise": (lambda it: framed(bytes(range(256))), NO_ANSWER),
    "no time": (lambda it: framed(it.header(seconds=math.nan)) + it.vectors, NO_ANSWER),
    "all time": (lambda it: framed(it.header(seconds=math.inf)) + it.vectors, NO_ANSWER),
    "time back": (lambda it: framed(it.header(seconds=-1.0)) + it.vectors, NO_ANSWER),
    "a long frame": (lambda it: struct.pack("!i", MAXIMUM_ANSWER + 1), TOO_LONG),
    "a negative length": (lambda it: struct.pack("!i", -2), "a frame of -2 bytes"),
    "a huge length": (lambda it: struct.pack("!iQ", -1, 2**63), TOO_LONG),
}


@pytest.mark.parametrize("shared", [True, False], ids=["memory", "socket"])
@pytest.mark.parametrize("name", LIES)
def test_worker_with_an_invalid_answer_is_lost_and_replaced(name: str, shared: bool) -> None:
    check(*LIES[name], shared)


def in_slot(honest: Honest, slot: int) -> bytes | None:
    """Return an answer with all blocks in one buffer; None where that is right (one block, an existing buffer)."""
    if slot < len(honest.slots) and len(honest.blocks) < 2:
        return None
    return honest.with_blocks([block._replace(slot=slot) for block in honest.blocks])


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (lambda it: in_slot(it, 0), "blocks in buffers that it does not have"),
        (lambda it: in_slot(it, len(it.slots)), "blocks in buffers that it does not have"),
        (lambda it: in_slot(it, 2**32 - 1), "blocks in buffers that it does not have"),
        (lambda it: framed(it.header(vectors=True)), "gradients where none belong"),
    ],
    ids=["a buffer twice", "one buffer too far", "a buffer far away", "gradients on the wire"],
)
def test_worker_that_misuses_shared_memory_is_replaced(lie: Lie, words: str) -> None:
    check(lie, words, shared=True)


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (lambda it: framed(it.header(vectors=False)), "or none where they do"),
        (lambda it: framed(it.header()) + framed(bytes(4)), "a vector of 4 bytes instead of"),
        (lambda it: framed(it.header()) + framed(b""), "a vector of 0 bytes instead of"),
        (lambda it: framed(it.header()) + framed(bytes(it.slots[0].nbytes + 1)), TOO_LONG),
        (lambda it: framed(it.header()) + struct.pack("!iQ", -1, 2**63), TOO_LONG),
    ],
    ids=["no gradients", "a short one", "an empty one", "a long one", "a huge one"],
)
def test_worker_whose_gradients_do_not_fit_is_replaced(lie: Lie, words: str) -> None:
    check(lie, words, shared=False)


@pytest.mark.parametrize("shared", [True, False], ids=["memory", "socket"])
@pytest.mark.parametrize("end", [0, 3, 20, -1])
def test_worker_that_hangs_up_amid_its_answer_is_replaced(end: int, shared: bool) -> None:
    check(lambda honest: honest.answer[:end], "it hung up", shared, hang_up=True)


LEAVES = 7
TRAINING, EVALUATION = Step(Kind.TRAIN, 0, 0), Step(Kind.VALIDATION, 0, 0)


class Sevens:
    """As much of a work as a connection asks for: 7 microbatches, 3 parameters."""

    def microbatches(self, step: Step) -> int:
        del step
        return LEAVES

    def length(self, step: Step) -> int:
        return 3 if step.kind is Kind.TRAIN else 0


def link_at(peer: socket.socket, step: Step, shared: bool) -> WorkerConnection:
    """Return a connection whose worker is at job 5: microbatches 4 to 6."""
    link = WorkerConnection(0, peer, cast("Work", Sevens()), np.zeros((7, 3), np.float32), shared)
    link.send(5, step, Span(4, 7), np.zeros(3, np.float32), 1)
    return link


@given(
    shared=st.booleans(),
    step=st.sampled_from([TRAINING, EVALUATION]),
    cut=st.integers(0, 400),
    put=st.binary(max_size=12),
    skip=st.integers(0, 12),
)
def test_only_answers_that_cover_the_span_are_accepted(
    shared: bool, step: Step, cut: int, put: bytes, skip: int
) -> None:
    vectors = step.kind is Kind.TRAIN and not shared
    blocks = [Block(Node(1, 2), 0, Sums(1.0, 2, 32)), Block(Node(0, 6), 1, Sums(0.5, 1, 9))]
    words = framed(pack_answer(5, 0.1, blocks, vectors)) + (2 * framed(bytes(12)) if vectors else b"")
    ours, theirs = socket.socketpair()
    link = link_at(ours, step, shared)
    with theirs:
        theirs.sendall(words[:cut] + put + words[cut + skip :])
        with suppress(ValueError):
            link.frames.receive()
    link.frames.close()
    for answer in link.answers:
        assert answer.job == 5
        assert covers([node for node, _, _ in answer.blocks], Span(4, 7), LEAVES)
        if step.kind is Kind.TRAIN:
            (_, first, _), (_, second, _) = answer.blocks
            assert not np.shares_memory(first, second)
    assert len(link.answers) <= 1


def test_gradients_in_an_evaluation_answer_are_refused() -> None:
    ours, theirs = socket.socketpair()
    link = link_at(ours, EVALUATION, shared=False)
    blocks = [Block(Node(1, 2), 0, Sums(1.0, 2, 32)), Block(Node(0, 6), 0, Sums(0.5, 1, 9))]
    with Connection(theirs.detach()) as connection:
        connection.send_bytes(pack_answer(5, 0.1, blocks, True))
        with pytest.raises(ValueError, match="gradients where none belong"):
            link.frames.receive()
    link.frames.close()
    assert not link.answers
