"""Messages of the direct transport: jobs and answers as frames of a few bytes, without pickle."""

import math
import struct

from cnnpar.nn.sums import Sums
from cnnpar.parallel.tree import Node, Span
from cnnpar.parallel.work import Block, Kind, Step

JOB = struct.Struct("<QBIIIIQ")  # job, kind, epoch, number, start, stop, version of the parameters
_ANSWER = struct.Struct("<QdI?")  # job, seconds of computing, number of blocks, whether their vectors follow
_BLOCK = struct.Struct("<BIIdqq")  # level, number, slot, loss, correct, count
_MAXIMUM_BLOCKS = 256  # of one answer; a span has at most two of each level of the tree
MAXIMUM_ANSWER = _ANSWER.size + _MAXIMUM_BLOCKS * _BLOCK.size


def pack_job(job: int, step: Step, span: Span, version: int) -> bytes:
    """Pack a job into the frame for the worker.

    `version`: of the parameters to use, from 1. The next frame holds them where they are sent and have changed.
    """
    return JOB.pack(job, step.kind, step.epoch, step.number, *span, version)


def unpack_job(frame: bytes) -> tuple[int, Step, Span, int]:
    """Unpack a frame of `pack_job`. Raises ValueError for anything else."""
    try:
        job, kind, epoch, number, start, stop, version = JOB.unpack(frame)
        return job, Step(Kind(kind), epoch, number), Span(start, stop), version
    except struct.error as error:
        raise ValueError(f"not a job: {error}") from error


def pack_answer(job: int, seconds: float, blocks: list[Block], vectors: bool) -> bytes:
    """Pack a worker's answer; `vectors`: one more frame follows for each block, with its float32 vector."""
    parts = [_ANSWER.pack(job, seconds, len(blocks), vectors)]
    parts += [_BLOCK.pack(*node, slot, *sums) for node, slot, sums in blocks]
    return b"".join(parts)


def unpack_answer(frame: bytes) -> tuple[int, float, list[Block], bool]:
    """Unpack a frame of `pack_answer`. Raises ValueError for anything else."""
    # The frame is from a worker that knows the key, and may still be wrong: check before using.
    try:
        job, seconds, count, vectors = _ANSWER.unpack_from(frame)
        fields = list(_BLOCK.iter_unpack(frame[_ANSWER.size :]))
    except struct.error as error:
        raise ValueError(f"not an answer: {error}") from error
    if count != len(fields):
        raise ValueError(f"not an answer: {len(fields)} blocks instead of {count}")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"not an answer: computed in {seconds} s")
    return (
        job,
        seconds,
        [Block(Node(level, number), slot, Sums(*sums)) for level, number, slot, *sums in fields],
        vectors,
    )
