"""The ray transport: parameters in Ray's object store, one actor call for each span. Slower, without connections."""

import numpy as np
import ray

from cnnpar.nn.shapes import Vector
from cnnpar.parallel.launcher import Started
from cnnpar.parallel.on_ray.cluster import Cluster
from cnnpar.parallel.on_ray.errors import first_line
from cnnpar.parallel.transport import Answer, Event, Joined, Lost
from cnnpar.parallel.tree import Span
from cnnpar.parallel.work import Step

_LOOK = 0.1  # seconds in one wait for news or for calls: Ray cannot wait for both


class RayTransport:
    """A transport that reaches workers by calls of their Ray actors."""

    def __init__(self, cluster: Cluster) -> None:
        """Use the workers of the cluster, which is closed with the transport."""
        self._cluster = cluster
        self._parameters: ray.ObjectRef[Vector] | None = None
        self._calls: dict[ray.ObjectRef[object], tuple[int, int]] = {}  # (worker, job) of calls that are not answered

    def adopt(self, parameters: Vector) -> Vector:
        """Return the array itself: each `publish` copies it."""
        return parameters

    def start(self, worker: int) -> None:
        """Have the cluster start a worker."""
        self._cluster.start(worker)

    def publish(self, parameters: Vector) -> None:
        """Put the parameters into the object store, from which each node fetches them once."""
        self._parameters = ray.put(parameters)

    def assign(self, worker: int, job: int, step: Step, span: Span) -> None:
        """Call the worker's actor; does not wait for it."""
        actor = self._cluster.actors.get(worker)
        if actor is not None:  # else its loss is among the events already
            self._calls[actor.compute.remote(step, span, self._parameters)] = worker, job

    def wait(self, seconds: float) -> list[Event]:
        """Return answers and losses of calls within `seconds`, and the cluster's news."""
        events: list[Event] = [
            Joined(news.worker, news.exact) if isinstance(news, Started) else news
            for news in self._cluster.news.take(0.0 if self._calls else min(seconds, _LOOK))
        ]
        if not self._calls:
            return events
        ready, _ = ray.wait(list(self._calls), timeout=0.0 if events else min(seconds, _LOOK))
        for call in ready:
            worker, job = self._calls.pop(call)
            try:
                taken, blocks, stored = ray.get(call)
            except Exception as error:
                events.append(Lost(worker, first_line(error)))
                self._cluster.kill(worker)
                continue
            vectors = np.array(stored)  # (blocks, length) float32; a copy, as arrays in the store are read-only
            rows = vectors if len(vectors) else [np.empty(0, np.float32)] * len(blocks)
            values = [(block.node, row, block.sums) for block, row in zip(blocks, rows, strict=True)]
            events.append(Answer(worker, job, taken, values))
        return events

    def drop(self, worker: int) -> None:
        """End the worker's actor and forget its call."""
        self._calls = {call: place for call, place in self._calls.items() if place[0] != worker}
        self._cluster.kill(worker)

    def shortage(self) -> str:
        """Return the cluster's reason why workers are missing."""
        return self._cluster.shortage()

    def close(self) -> None:
        """Close the cluster, which ends the actors."""
        self._calls.clear()
        self._parameters = None
        self._cluster.close()
