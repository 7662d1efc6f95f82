"""The server's end of one worker's connection: jobs go out, and only the answer that was asked for comes in."""

import socket

from cnnpar.nn.shapes import Vector
from cnnpar.parallel.compute import Slots
from cnnpar.parallel.direct.framing import FrameStream, Reading, announced
from cnnpar.parallel.direct.messages import MAXIMUM_ANSWER, pack_job, unpack_answer
from cnnpar.parallel.transport import Answer
from cnnpar.parallel.tree import Span, covers
from cnnpar.parallel.work import Step, Work


class WorkerConnection:
    """A connection, and the buffers in which the worker's gradients lie or arrive."""

    def __init__(self, worker: int, peer: socket.socket, work: Work, slots: Slots, shared: bool) -> None:
        self.worker = worker
        self.answers: list[Answer] = []
        self.outdated = True  # whether the worker's own copy of the parameters is; shared ones never are
        self._work = work
        self._slots = slots
        self._shared = shared
        self._job: tuple[int, Step, Span] | None = None  # what the worker is at
        self.stream = FrameStream(peer, self._read)

    def send(self, job: int, step: Step, span: Span, parameters: Vector) -> None:
        """A job, with the parameters where the worker has not got them. Raises OSError."""
        fresh = self.outdated and not self._shared
        self._job = job, step, span
        self.stream.send(memoryview(pack_job(job, step, span, fresh)))
        if fresh:
            self.stream.send(parameters.data)
            self.outdated = False

    def _read(self) -> Reading:
        """One answer after the other. Raises ValueError for what is no answer to this worker's job."""
        while True:
            frame = bytearray((yield from announced(MAXIMUM_ANSWER)))
            if frame:
                yield memoryview(frame)
            job, seconds, blocks, vectors = unpack_answer(bytes(frame))
            if self._job is None or job != self._job[0]:
                raise ValueError(f"an answer to job {job}, which it does not have")
            _, step, span = self._job
            if not covers([block.node for block in blocks], span, self._work.microbatches(step)):
                raise ValueError(f"blocks that are not those of job {job}")
            length = self._work.length(step)
            rows = [block.slot if self._shared else place for place, block in enumerate(blocks)]
            if length and (max(rows) >= len(self._slots) or len(set(rows)) < len(rows)):
                raise ValueError("blocks in buffers that it does not have")
            if vectors != (length > 0 and not self._shared):
                raise ValueError("gradients where none belong, or none where they do")
            arrays = [self._slots[row if length else 0, :length] for row in rows]
            for array in arrays if vectors else ():
                size = yield from announced(array.nbytes)
                if size != array.nbytes:
                    raise ValueError(f"a vector of {size} bytes instead of {array.nbytes}")
                yield array.data.cast("B")
            values = [(block.node, vector, block.sums) for block, vector in zip(blocks, arrays, strict=True)]
            self._job = None
            self.answers.append(Answer(self.worker, job, seconds, values))
