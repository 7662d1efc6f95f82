"""The worker as a Ray actor, which holds the work and the samples, and computes spans for either transport."""

import os
import socket
from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
import ray

from cnnpar.blas import use_one_thread
from cnnpar.compiling import telling
from cnnpar.data.dataset import Dataset
from cnnpar.fingerprint import Fingerprint, fingerprint
from cnnpar.nn.shapes import Vector
from cnnpar.parallel.compute import Computer, slots_shape
from cnnpar.parallel.direct import worker
from cnnpar.parallel.direct.handshake import Endpoint
from cnnpar.parallel.direct.samples import Layout
from cnnpar.parallel.on_ray.pickling import unpickle_work
from cnnpar.parallel.tree import Span
from cnnpar.parallel.work import Block, Kind, Step, Work

Stored = tuple["ray.ObjectRef[Vector]", "ray.ObjectRef[Vector]", tuple[str, ...]]  # images, labels, class names


class Description(NamedTuple):
    """Place of a worker, and the fingerprint that decides its bits."""

    host: str
    pid: int
    node: str  # Ray's id of it
    fingerprint: Fingerprint
    compiled: float  # seconds for which it has compiled loops; 0 where they were there


class Worker:
    """An actor on one core. Its samples are the server's, which it maps, or come from the node's object store."""

    def __init__(self, number: int, pickled: bytes, layout: Layout) -> None:
        """Hold the work, as `pickle_work` pickled it; `layout`: of samples that the server shares."""
        use_one_thread()  # in each worker: how a product is summed depends on the number of threads
        self._number = number
        self._pickled = pickled
        self._layout = layout
        self._computer: Computer | None = None  # made by the first `compute`; `serve` has its own

    @cached_property
    def _work(self) -> Work:
        """The work, unpickled by the first call: of errors in `__init__`, Ray reports no reason."""
        return unpickle_work(self._pickled)

    def describe(self) -> Description:
        """Return the worker's description, as its first call, once the worker is ready."""
        own = fingerprint(self._work.libraries)
        with telling(lambda _: None) as told:
            self._work.load_loops()  # on a machine's first use this compiles, which no step of the run should wait for
        node = ray.get_runtime_context().get_node_id()
        return Description(socket.gethostname(), os.getpid(), node, own, told.seconds)

    def hold(self, stored: Mapping[Kind, Stored]) -> None:
        """Take the samples from the node's object store, without a copy; `stored`: references to their arrays."""
        self._work = self._work.with_data(
            {kind: Dataset(ray.get(images), ray.get(labels), names) for kind, (images, labels, names) in stored.items()}
        )

    def serve(self, endpoint: Endpoint, key: bytes, number: int) -> None:
        """Answer jobs, as the worker of that number, until the server closes the connection."""
        worker.serve(self._work, endpoint, key, number, self._layout if endpoint.shared else None)

    def compute(self, step: Step, span: Span, parameters: Vector) -> tuple[list[Block], Vector]:
        """Compute a span for a relay.

        Return its blocks, and their vectors as one array, (blocks, length) float32; (0, 0) where a step has none.
        """
        if self._computer is None:
            self._slots = np.empty(slots_shape(self._work), np.float32)  # (slots, size)
            self._computer = Computer(self._work, self._slots)
        blocks = self._computer.compute(step, span, parameters)
        length = self._work.length(step)
        rows = [block.slot for block in blocks] if length else []
        return blocks, self._slots[rows, :length]  # a copy: rows is a list

    def __repr__(self) -> str:
        """Return the name of the worker in Ray's own messages."""
        return f"cnnpar worker {self._number}"
