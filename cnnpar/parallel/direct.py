"""The direct transport: one long actor call per worker, in which jobs and answers go over a connection of our own.

Ray starts, places and ends the workers; the steps themselves pass it by. `serve` is the worker's end, `Direct` the
server's; whoever starts the workers is a `Starter`.
"""

import secrets
import selectors
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Protocol

import numpy as np

from cnnpar.errors import RunError
from cnnpar.parallel import wire
from cnnpar.parallel.compute import Computer, Slots, most_slots
from cnnpar.parallel.plan import Span
from cnnpar.parallel.transport import Answer, Lost
from cnnpar.parallel.work import Kind, Step, Vector, Work


class Starter(Protocol):
    """Whoever holds the worker processes 0 .. count-1."""

    @property
    def count(self) -> int:
        """Workers that were started."""

    @property
    def host(self) -> str:
        """The server's address on its own network."""

    def on_this_node(self, worker: int) -> bool:
        """Whether the worker runs on the server's node."""

    def serve(self, worker: int, endpoint: wire.Endpoint, key: bytes) -> None:
        """Have the worker call `serve`; does not wait for it."""

    def why_ended(self, worker: int, seconds: float) -> str | None:
        """Why the worker's `serve` is over; None when it goes on after that many seconds."""

    def kill(self, worker: int) -> None:
        """End the worker's process."""

    def close(self) -> None:
        """End all of them."""


def serve(work: Work, endpoint: wire.Endpoint, key: bytes, worker: int) -> None:
    """A worker's life: connect to the server, then answer jobs until it hangs up."""
    with wire.connect(endpoint, key, worker) as connection:
        shapes = (work.size,), (most_slots(work), work.size)
        if endpoint.shared:
            parameters, slots = wire.receive_memory(connection, *shapes)
        else:
            parameters, slots = (np.empty(shape, np.float32) for shape in shapes)
        computer = Computer(work, slots)
        while True:
            try:
                frame = connection.recv_bytes(wire.JOB.size)
            except EOFError:
                return
            job, step, span, fresh = wire.unpack_job(frame)
            if fresh:
                connection.recv_bytes_into(parameters.data)
            blocks = computer.compute(step, span, parameters)
            vectors = step.kind is Kind.TRAIN and not endpoint.shared
            connection.send_bytes(wire.pack_answer(job, blocks, vectors))
            for block in blocks if vectors else ():
                connection.send_bytes(slots[block.slot].data)
            # The server reduces and updates meanwhile; the inputs of the next batch need no parameters.
            computer.prepare(work.following(step), span)


class _Link:
    """The server's end of one worker's connection, and the buffers in which its gradients arrive."""

    def __init__(self, connection: Connection, slots: Slots, shared: bool) -> None:
        self.connection = connection
        self.slots = slots
        self.shared = shared
        self.outdated = True  # whether the worker's own copy of the parameters is; shared ones never are

    def send(self, job: int, step: Step, span: Span, parameters: Vector) -> None:
        """A job, with the parameters where the worker has not got them."""
        fresh = self.outdated and not self.shared
        self.connection.send_bytes(wire.pack_job(job, step, span, fresh))
        if fresh:
            self.connection.send_bytes(parameters.data)
            self.outdated = False

    def receive(self, worker: int) -> Answer:
        """The answer that has come. Raises EOFError, OSError or ValueError when there is none, or a wrong one."""
        job, blocks, vectors = wire.unpack_answer(self.connection.recv_bytes(wire.MAXIMUM_ANSWER))
        rows = [block.slot for block in blocks]
        if vectors:
            rows = list(range(len(blocks)))
        if any(row >= len(self.slots) for row in rows):
            raise ValueError(f"not an answer: more than {len(self.slots)} vectors")
        for row in rows if vectors else ():
            self.slots[row] = np.frombuffer(self.connection.recv_bytes(self.slots[row].nbytes), np.float32)
        vectors_of = [self.slots[row] for row in rows]
        return Answer(
            worker,
            job,
            [(block.node, vector, block.sums) for block, vector in zip(blocks, vectors_of, strict=True)],
        )


class Direct:
    """Workers reached over connections of our own."""

    def __init__(self, work: Work, starter: Starter, start_timeout: float, step_timeout: float) -> None:
        """Connects all workers, or raises RunError. Reads and writes wait at most `step_timeout` seconds."""
        self._starter = starter
        self._lost: list[Lost] = []
        self._links: dict[int, _Link] = {}
        self._selector = selectors.DefaultSelector()
        self._memory = wire.SharedMemory.create((work.size,))
        self._parameters = self._memory.array
        try:
            self._connect(work, start_timeout, step_timeout)
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """Workers that were started."""
        return self._starter.count

    def home(self, parameters: Vector) -> Vector:
        """In the memory that this node's workers read."""
        self._parameters[:] = parameters
        return self._parameters

    def publish(self, parameters: Vector) -> None:
        """Have the parameters where this node's workers read them; others get them with their next job."""
        if parameters is not self._parameters:
            self._parameters[:] = parameters
        for link in self._links.values():
            link.outdated = True

    def assign(self, worker: int, job: int, step: Step, span: Span) -> None:
        """Send the job; a worker that cannot be reached comes out of `wait` as lost."""
        try:
            self._links[worker].send(job, step, span, self._parameters)
        except (KeyError, OSError) as error:
            self._lose(worker, error)

    def wait(self, seconds: float) -> list[Answer | Lost]:
        """Answers that came within `seconds`, and workers that went."""
        answers: list[Answer | Lost] = []
        for key, _ in [] if self._lost else self._selector.select(min(seconds, 3600.0)):
            worker: int = key.data
            try:
                answers.append(self._links[worker].receive(worker))
            except (EOFError, OSError, ValueError) as error:
                self._lose(worker, error)
        lost, self._lost = self._lost, []
        return [*answers, *lost]

    def drop(self, worker: int, reason: str) -> None:  # noqa: ARG002
        """Hang up and end the process."""
        self._hang_up(worker)
        self._starter.kill(worker)

    def close(self) -> None:
        """Hang up on all workers, which ends them."""
        for worker in list(self._links):
            self._hang_up(worker)
        self._selector.close()
        self._memory.close()
        self._starter.close()

    def _lose(self, worker: int, error: Exception) -> None:
        self._hang_up(worker)
        reason = self._starter.why_ended(worker, 1.0) or f"its connection broke ({error or type(error).__name__})"
        self._starter.kill(worker)
        self._lost.append(Lost(worker, reason))

    def _hang_up(self, worker: int) -> None:
        link = self._links.pop(worker, None)
        if link is not None:
            with suppress(KeyError):
                self._selector.unregister(link.connection)
            link.connection.close()

    def _connect(self, work: Work, start_timeout: float, step_timeout: float) -> None:
        """Open the doors, call the workers in, and close the doors behind them."""
        key = secrets.token_bytes(32)
        shared = [self._starter.on_this_node(worker) and wire.CAN_SHARE for worker in range(self.workers)]
        doors = [wire.Door(None)] if any(shared) else []
        if not all(shared):
            doors.append(wire.Door(self._starter.host))
        endpoints = {door.endpoint.shared: door.endpoint for door in doors}
        deadline = time.monotonic() + start_timeout
        with selectors.DefaultSelector() as knocking:
            for door in doors:
                knocking.register(door, selectors.EVENT_READ, door)
            try:
                for worker in range(self.workers):
                    self._starter.serve(worker, endpoints[shared[worker]], key)
                while len(self._links) < self.workers:
                    for ready, _ in knocking.select(0.5):
                        self._admit(work, ready.data, key, shared, step_timeout)
                    self._check_start(deadline, start_timeout)
            finally:
                for door in doors:
                    door.close()

    def _admit(self, work: Work, door: wire.Door, key: bytes, shared: list[bool], step_timeout: float) -> None:
        """Let a worker in; a stranger is turned away and changes nothing."""
        with suppress(OSError, EOFError):
            connection, worker = door.admit(key, step_timeout)
            if worker in self._links or worker >= self.workers or shared[worker] != door.endpoint.shared:
                connection.close()
                return
            shape = most_slots(work), work.size
            if shared[worker]:
                memory = wire.SharedMemory.create(shape)
                wire.send_memory(connection, self._memory, memory)
                memory.close()
                slots = memory.array
            else:
                slots = np.empty(shape, np.float32)
            self._links[worker] = _Link(connection, slots, shared[worker])
            self._selector.register(connection, selectors.EVENT_READ, worker)

    def _check_start(self, deadline: float, start_timeout: float) -> None:
        missing = [worker for worker in range(self.workers) if worker not in self._links]
        for worker in missing:
            reason = self._starter.why_ended(worker, 0.0)
            if reason is not None:
                raise RunError(f"worker {worker} did not start: {reason}")
        if missing and time.monotonic() > deadline:
            names = ", ".join(map(str, missing))
            raise RunError(f"workers {names} did not connect within {start_timeout:g} s (engine.start_timeout)")
