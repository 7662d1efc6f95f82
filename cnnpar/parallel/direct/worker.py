"""The worker's end of the direct transport: one long call that answers jobs."""

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from cnnpar.nn.shapes import Vector
from cnnpar.parallel.compute import Computer, Slots, slots_shape
from cnnpar.parallel.direct.handshake import Endpoint, connect
from cnnpar.parallel.direct.messages import JOB, pack_answer, unpack_job
from cnnpar.parallel.direct.samples import Layout, Samples
from cnnpar.parallel.direct.shared_memory import receive_memory
from cnnpar.parallel.tree import Span
from cnnpar.parallel.work import Block, Step, Work


class Computing(Protocol):
    """Interface of what computes the spans of jobs into slots, in this process or in another one."""

    def compute(self, step: Step, span: Span, parameters: Vector, version: int) -> list[Block]:
        """Return the blocks of a span, whose vectors then lie in the slots; `version`: that of the parameters."""

    def prepare(self, step: Step | None, span: Span) -> None:
        """Prepare for the step that is likely to come next, if that is known."""


class _Own:
    """Computing in this process."""

    def __init__(self, work: Work, slots: Slots) -> None:
        self._computer = Computer(work, slots)

    def compute(self, step: Step, span: Span, parameters: Vector, version: int) -> list[Block]:  # noqa: ARG002
        return self._computer.compute(step, span, parameters)

    def prepare(self, step: Step | None, span: Span) -> None:
        self._computer.prepare(step, span)


def serve(work: Work, endpoint: Endpoint, key: bytes, worker: int, layout: Layout | None = None) -> None:
    """Connect to the server, then answer its jobs until it closes the connection. Raises RunError as `connect`.

    `layout`: of the samples that the server shares with workers of its node; None: the work has its data.
    """

    def make(slots: Slots, samples: Samples | None) -> Computing:
        return _Own(work.with_data(samples.datasets()) if samples else work, slots)

    answer_jobs(work, endpoint, key, worker, layout, make)


def answer_jobs(
    work: Work,
    endpoint: Endpoint,
    key: bytes,
    worker: int,
    layout: Layout | None,
    make: Callable[[Slots, Samples | None], Computing],
) -> None:
    """Connect to the server as a worker, and answer jobs by what `make` returns, until the connection is closed.

    `make` is given the slots, (slots, size) float32, and the samples, where the server shares them.
    """
    with connect(endpoint, key, worker) as connection:
        samples = None
        shape = slots_shape(work)
        if endpoint.shared:
            # Mapped: the server writes parameters in place, and reads gradients from the slots.
            sizes = 4 * work.size, 4 * shape[0] * shape[1], *([layout.size] if layout else [])
            mapped = receive_memory(connection, *sizes)
            parameters, slots = mapped[0].array((work.size,)), mapped[1].array(shape)
            samples = Samples(mapped[2], layout) if layout else None
        else:
            parameters, slots = np.empty(work.size, np.float32), np.empty(shape, np.float32)
        computing, known = make(slots, samples), 0
        while True:
            try:
                frame = connection.recv_bytes(JOB.size)
            except (EOFError, ConnectionError):
                return
            job, step, span, version = unpack_job(frame)
            if version != known and not endpoint.shared:  # (size,) float32, the next frame
                connection.recv_bytes_into(parameters.data)
            known = version
            began = time.perf_counter()
            blocks = computing.compute(step, span, parameters, version)
            length = 0 if endpoint.shared else work.length(step)
            answer = pack_answer(job, time.perf_counter() - began, blocks, bool(length))
            try:
                connection.send_bytes(answer)
                for block in blocks if length else ():
                    connection.send_bytes(slots[block.slot, :length].data)
            except ConnectionError:
                return  # the server has gone, or has given this worker up
            # The server reduces and updates meanwhile; the inputs of the next batch need no parameters.
            computing.prepare(work.following(step), span)
