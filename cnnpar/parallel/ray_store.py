"""The ray transport: parameters through Ray's object store, one actor call per span. Slower, and works everywhere."""

import numpy as np
import ray

from cnnpar.parallel.cluster import Cluster, first_line
from cnnpar.parallel.plan import Span
from cnnpar.parallel.transport import Answer, Lost
from cnnpar.parallel.work import Step, Vector


class RayStore:
    """Workers reached by actor calls."""

    def __init__(self, cluster: Cluster) -> None:
        """The cluster's workers; ends them when it is closed."""
        self._cluster = cluster
        self._parameters: ray.ObjectRef[Vector] | None = None
        self._calls: dict[ray.ObjectRef[object], tuple[int, int]] = {}

    @property
    def workers(self) -> int:
        """Workers that were started."""
        return self._cluster.count

    def home(self, parameters: Vector) -> Vector:
        """Where they are."""
        return parameters

    def publish(self, parameters: Vector) -> None:
        """Put the parameters into the store, from where each node fetches them once."""
        self._parameters = ray.put(parameters)

    def assign(self, worker: int, job: int, step: Step, span: Span) -> None:
        """Call the actor."""
        call = self._cluster.actors[worker].compute.remote(step, span, self._parameters)
        self._calls[call] = worker, job

    def wait(self, seconds: float) -> list[Answer | Lost]:
        """What the calls under way gave back within `seconds`."""
        if not self._calls:
            return []
        ready, _ = ray.wait(list(self._calls), timeout=min(seconds, 3600.0))
        events: list[Answer | Lost] = []
        for call in ready:
            worker, job = self._calls.pop(call)
            try:
                blocks, stored = ray.get(call)
            except (ray.exceptions.RayError, Exception) as error:
                events.append(Lost(worker, first_line(error)))
                self._cluster.kill(worker)
                continue
            vectors = np.array(stored)  # what comes out of the store cannot be written to
            rows = vectors if len(vectors) else [np.empty(0, np.float32)] * len(blocks)
            events.append(
                Answer(
                    worker,
                    job,
                    [(block.node, row, block.sums) for block, row in zip(blocks, rows, strict=True)],
                )
            )
        return events

    def drop(self, worker: int, reason: str) -> None:  # noqa: ARG002
        """End the actor and forget its call."""
        self._calls = {call: place for call, place in self._calls.items() if place[0] != worker}
        self._cluster.kill(worker)

    def close(self) -> None:
        """End the actors."""
        self._calls.clear()
        self._parameters = None
        self._cluster.close()
