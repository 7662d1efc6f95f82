"""Relay of jobs to a worker by calls of its Ray actor, for the ray transport: slower, without connections to workers.

The control process connects to the server in the worker's place, and shares memory with it. Parameters go into Ray's
object store, once for all workers; vectors come back through it.
"""

import threading
from typing import Any

import numpy as np
import ray

from cnnpar.nn.shapes import Vector
from cnnpar.parallel.compute import Slots
from cnnpar.parallel.direct.handshake import Endpoint
from cnnpar.parallel.direct.samples import Layout, Samples
from cnnpar.parallel.direct.worker import answer_jobs
from cnnpar.parallel.tree import Span
from cnnpar.parallel.work import Block, Step, Work


class Store:
    """The parameters in Ray's object store, from which each node fetches a version once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version = 0
        self._stored: ray.ObjectRef[Vector] | None = None

    def put(self, parameters: Vector, version: int) -> "ray.ObjectRef[Vector]":
        """Return the reference to this version, which is put there by the first call."""
        with self._lock:
            if self._stored is None or version != self._version:
                self._stored, self._version = ray.put(parameters), version
            return self._stored


class _Remote:
    """Computing by calls of an actor."""

    def __init__(self, actor: Any, store: Store, slots: Slots) -> None:
        self._actor = actor
        self._store = store
        self._slots = slots

    def compute(self, step: Step, span: Span, parameters: Vector, version: int) -> list[Block]:
        """Return the blocks of a span, whose vectors then lie in the first slots."""
        blocks, vectors = ray.get(self._actor.compute.remote(step, span, self._store.put(parameters, version)))
        rows, length = vectors.shape
        np.copyto(self._slots[:rows, :length], vectors)  # (blocks, length) float32; those in the store are read-only
        return [block._replace(slot=slot) for slot, block in enumerate(blocks)] if length else blocks

    def prepare(self, step: Step | None, span: Span) -> None:
        """Do nothing: the actor would be busy with it when the next call comes."""


def relay(work: Work, actor: Any, store: Store, endpoint: Endpoint, key: bytes, worker: int, layout: Layout) -> None:
    """Answer the server's jobs for a worker until the server hangs up, or a call of the actor fails."""

    def make(slots: Slots, samples: Samples | None) -> _Remote:
        del samples  # the actor has them from the object store
        return _Remote(actor, store, slots)

    answer_jobs(work, endpoint, key, worker, layout, make)
