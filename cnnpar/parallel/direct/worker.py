"""The worker's end of the direct transport: one long call that answers jobs."""

import time

import numpy as np

from cnnpar.parallel.compute import Computer, slots_shape
from cnnpar.parallel.direct.handshake import Endpoint, connect
from cnnpar.parallel.direct.messages import JOB, pack_answer, unpack_job
from cnnpar.parallel.direct.shared_memory import receive_memory
from cnnpar.parallel.work import Work


def serve(work: Work, endpoint: Endpoint, key: bytes, worker: int) -> None:
    """Connect to the server, then answer its jobs until it closes the connection. Raises RunError as `connect`."""
    with connect(endpoint, key, worker) as connection:
        shapes = (work.size,), slots_shape(work)
        if endpoint.shared:
            # Mapped: the server writes parameters in place, and reads gradients from the slots.
            parameters, slots = receive_memory(connection, *shapes)
        else:
            parameters, slots = (np.empty(shape, np.float32) for shape in shapes)
        computer = Computer(work, slots)
        while True:
            try:
                frame = connection.recv_bytes(JOB.size)
            except (EOFError, ConnectionError):
                return
            job, step, span, fresh = unpack_job(frame)
            if fresh:  # (size,) float32, the next frame
                connection.recv_bytes_into(parameters.data)
            began = time.perf_counter()
            blocks = computer.compute(step, span, parameters)
            length = 0 if endpoint.shared else work.length(step)
            answer = pack_answer(job, time.perf_counter() - began, blocks, bool(length))
            try:
                connection.send_bytes(answer)
                for block in blocks if length else ():
                    connection.send_bytes(slots[block.slot, :length].data)
            except ConnectionError:
                return  # the server has gone, or has given this worker up
            # The server reduces and updates meanwhile; the inputs of the next batch need no parameters.
            computer.prepare(work.following(step), span)
