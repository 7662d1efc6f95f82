"""The worker as a Ray actor: it holds the work and the samples, and computes spans for either transport."""

import os
import socket
import time
from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
import ray

from cnnpar.data.dataset import Dataset
from cnnpar.fingerprint import Fingerprint, fingerprint, use_one_thread
from cnnpar.nn.shapes import Vector
from cnnpar.parallel.compute import Computer, slots_shape
from cnnpar.parallel.direct import worker
from cnnpar.parallel.direct.handshake import Endpoint
from cnnpar.parallel.on_ray.pickling import unpickle_work
from cnnpar.parallel.tree import Span
from cnnpar.parallel.work import Block, Kind, Step, Work

Stored = tuple["ray.ObjectRef[Vector]", "ray.ObjectRef[Vector]", tuple[str, ...]]  # images, labels, class names


class Description(NamedTuple):
    """Where a worker runs, and what decides its bits."""

    host: str
    pid: int
    node: str
    fingerprint: Fingerprint


class Worker:
    """One actor, one core. Samples are read from the node's object store without a copy."""

    def __init__(self, number: int, wrapped: bytes, stored: Mapping[Kind, Stored]) -> None:
        """`stored`: references to the arrays of each data set; the work that was `wrapped` gets them as its data."""
        use_one_thread()
        self._number = number
        self._wrapped = wrapped
        self._stored = stored
        self._computer: Computer | None = None

    @cached_property
    def _work(self) -> Work:
        """Unwrapped by a call: of an error in `__init__`, Ray tells no more than that the process died."""
        return unpickle_work(self._wrapped).with_data(
            {
                kind: Dataset(ray.get(images), ray.get(labels), names)
                for kind, (images, labels, names) in self._stored.items()
            }
        )

    def describe(self) -> Description:
        """Called first; answers as soon as the worker is ready."""
        _ = self._work
        return Description(socket.gethostname(), os.getpid(), ray.get_runtime_context().get_node_id(), fingerprint())

    def serve(self, endpoint: Endpoint, key: bytes, number: int) -> None:
        """The direct transport's one long call, as that worker of it."""
        worker.serve(self._work, endpoint, key, number)

    def compute(self, step: Step, span: Span, parameters: Vector) -> tuple[float, list[Block], Vector]:
        """The ray transport's call: seconds, blocks, and their vectors as one array (blocks, length)."""
        if self._computer is None:
            self._slots = np.empty(slots_shape(self._work), np.float32)
            self._computer = Computer(self._work, self._slots)
        began = time.perf_counter()
        blocks = self._computer.compute(step, span, parameters)
        length = self._work.length(step)
        rows = [block.slot for block in blocks] if length else []
        return time.perf_counter() - began, blocks, self._slots[rows, :length]

    def __repr__(self) -> str:
        """How Ray's own messages name the worker."""
        return f"cnnpar worker {self._number}"
