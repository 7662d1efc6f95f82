"""The server's end of one worker's connection: sends jobs, and checks that what arrives is the answer to the job."""

import socket

from cnnpar.nn.shapes import Vector
from cnnpar.parallel.compute import Slots
from cnnpar.parallel.direct.framing import FramedSocket, Reader, read_length
from cnnpar.parallel.direct.messages import MAXIMUM_ANSWER, pack_job, unpack_answer
from cnnpar.parallel.transport import Answer
from cnnpar.parallel.tree import Span, covers
from cnnpar.parallel.work import Step, Work


class WorkerConnection:
    """A worker's connection, and the slots that hold its gradients: in shared memory, or received into them."""

    def __init__(self, worker: int, peer: socket.socket, work: Work, slots: Slots, shared: bool) -> None:
        """Own the socket. `shared`: the worker maps parameters and slots; else both are sent."""
        self.worker = worker
        self.answers: list[Answer] = []  # received, and not collected yet
        self._sent = 0  # version of the parameters that the worker has; does not matter for shared ones
        self._work = work
        self._slots = slots  # (slots, size) float32
        self._shared = shared
        self._job: tuple[int, Step, Span] | None = None  # the worker's current job
        self.frames = FramedSocket(peer, self._read)

    def send(self, job: int, step: Step, span: Span, parameters: Vector, version: int) -> None:
        """Send a job, and the parameters, (size,) float32, if the worker has another version. Raises OSError."""
        self._job = job, step, span
        self.frames.send(memoryview(pack_job(job, step, span, version)))
        if version != self._sent and not self._shared:
            self.frames.send(parameters.data)
        self._sent = version

    def _read(self) -> Reader:
        """Read one answer after another. Raises ValueError for anything but an answer to the current job.

        Everything is checked before it is used: a faulty worker must not write outside its slots, or add to a step
        what is not of that step.
        """
        while True:
            frame = bytearray((yield from read_length(MAXIMUM_ANSWER)))
            if frame:
                yield memoryview(frame)
            job, seconds, blocks, vectors = unpack_answer(bytes(frame))
            if self._job is None or job != self._job[0]:
                raise ValueError(f"an answer to job {job}, which it does not have")
            _, step, span = self._job
            if not covers([block.node for block in blocks], span, self._work.microbatches(step)):
                raise ValueError(f"blocks that are not those of job {job}")
            length = self._work.length(step)
            # In shared memory the worker chose the slots; received vectors lie in the first ones, one after another.
            rows = [block.slot if self._shared else place for place, block in enumerate(blocks)]
            if length and (max(rows) >= len(self._slots) or len(set(rows)) < len(rows)):
                raise ValueError("blocks in buffers that it does not have")
            if vectors != (length > 0 and not self._shared):
                raise ValueError("gradients where none belong, or none where they do")
            arrays = [self._slots[row if length else 0, :length] for row in rows]  # (length,) each
            for array in arrays if vectors else ():
                size = yield from read_length(array.nbytes)
                if size != array.nbytes:
                    raise ValueError(f"a vector of {size} bytes instead of {array.nbytes}")
                yield array.data.cast("B")  # received in place
            values = [(block.node, vector, block.sums) for block, vector in zip(blocks, arrays, strict=True)]
            self._job = None
            self.answers.append(Answer(self.worker, job, seconds, values))
