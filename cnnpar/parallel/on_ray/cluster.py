"""The Ray cluster of a run: starts workers and replacements, gives them samples, checks them, ends them.

Ray is the control plane only. A thread starts the workers, since Ray may take long, and orders must not wait.
Each failure ends in an error or a note that says what was needed and what is available.
"""

import os
import queue
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple

import ray

from cnnpar.blas import handed_on
from cnnpar.config.sections import MOST_WORKERS
from cnnpar.errors import RunError
from cnnpar.fingerprint import differences
from cnnpar.parallel.direct.handshake import Endpoint
from cnnpar.parallel.direct.samples import Samples
from cnnpar.parallel.launcher import News, Started
from cnnpar.parallel.mailbox import Mailbox
from cnnpar.parallel.on_ray.actor import Description, Stored, Worker
from cnnpar.parallel.on_ray.errors import first_line
from cnnpar.parallel.on_ray.orders import Begin
from cnnpar.parallel.on_ray.pickling import unpickle_work
from cnnpar.parallel.on_ray.relay import Store, relay
from cnnpar.parallel.on_ray.watch import Watch
from cnnpar.parallel.transport import Lost, Note
from cnnpar.parallel.work import Kind

_LOOK = 0.25  # seconds between looks at how many CPUs are free, at first
_LONGEST_LOOK = 2.0  # and when there were too few for a while
_END_SECONDS = 5.0  # for the thread to end


class _Placement(NamedTuple):
    """A worker that Ray was asked to place."""

    worker: int
    until: float  # time.monotonic() by which it should be up


_Placements = dict["ray.ObjectRef[Description]", _Placement]  # by the call that describes the worker once it is up


class Cluster:
    """The workers of a run on one Ray cluster, as the control process has them."""

    def __init__(self, begin: Begin, samples: Samples) -> None:
        """Use the Ray that this process is attached to. Raises RunError when it is too small."""
        self.news: Mailbox[News] = Mailbox()
        self.actors: dict[int, Any] = {}
        self.descriptions: dict[int, Description] = {}
        self._settings = begin.settings
        self._begin = begin
        self._samples = samples
        self._work = unpickle_work(begin.pickled)
        self._parameters = Store()
        self._relays = ThreadPoolExecutor(MOST_WORKERS, "cnnpar relay")  # a thread begins with each call
        self._serving: dict[int, Future[None]] = {}
        self._shortage = ""
        self._orders: queue.SimpleQueue[int | None] = queue.SimpleQueue()  # workers to start; None: end
        self._thread = threading.Thread(target=self._launch, name="cnnpar launcher", daemon=True)
        context = ray.get_runtime_context()
        self._node: str = context.get_node_id()
        self.address: str = context.gcs_address
        self.host: str = ray.util.get_node_ip_address()
        self._watch = Watch(self.address, self._node)
        self._check_room()
        # A Ray of our own inherits this process's environment; elsewhere the actors must be given it.
        environment = {"runtime_env": {"env_vars": handed_on()}} if begin.address else {}
        self._actor = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0, **environment)(Worker)
        self._thread.start()

    def start(self, worker: int) -> None:
        """Start a worker; `news` reports when it is up, or why it cannot be had."""
        self._orders.put(worker)

    def serve(self, worker: int, endpoint: Endpoint, key: bytes) -> None:
        """Start the one long call by which the worker connects to `endpoint`, or connect in its place."""
        actor, layout = self.actors.get(worker), self._begin.layout
        if actor is None:
            return  # it was lost, and is reported
        if self._settings.transport == "ray" or self.descriptions[worker].node != self._node:
            actor.hold.remote(self._stored)
        if self._settings.transport == "direct":
            self._serving[worker] = actor.serve.remote(endpoint, key, worker).future()
        else:
            call = self._work, actor, self._parameters, endpoint, key, worker, layout
            self._serving[worker] = self._relays.submit(relay, *call)

    def ended(self) -> dict[int, str]:
        """Return the reasons why calls of `serve` have ended since the last call."""
        done = {worker: call for worker, call in self._serving.items() if call.done()}
        for worker in done:
            del self._serving[worker]
        return {worker: _why(call) for worker, call in done.items()}

    def kill(self, worker: int) -> None:
        """End the worker's process, even if it is stopped; on another node, that takes Ray five seconds."""
        self._serving.pop(worker, None)
        description = self.descriptions.pop(worker, None)
        actor = self.actors.pop(worker, None)
        if actor is not None:
            with suppress(Exception):  # the actor is dead, or its node, or the cluster
                ray.kill(actor)
        if description is not None and description.node == self._node:
            with suppress(OSError):
                os.kill(description.pid, signal.SIGCONT)  # a stopped process cannot obey Ray; others ignore this

    def shortage(self) -> str:
        """Return the number of free CPUs, which limits the workers, and what to do about it; empty if not known."""
        return self._shortage

    def death(self) -> str | None:
        """Return the reason why the cluster is of no use any more; None while it is alive."""
        return self._watch.death()

    def close(self) -> None:
        """End all workers."""
        self._orders.put(None)
        self._thread.join(_END_SECONDS)
        for worker in list(self.actors):
            self.kill(worker)
        self.news.close()

    @cached_property
    def _stored(self) -> dict[Kind, Stored]:
        """References to the samples in the object store, which are put there when they are first needed."""
        return {
            kind: (ray.put(part.images), ray.put(part.labels), part.class_names)
            for kind, part in self._samples.datasets().items()
        }

    def _check_room(self) -> None:
        cores, fewest = int(ray.cluster_resources().get("CPU", 0)), self._settings.fewest
        if cores < fewest:
            raise RunError(
                f"{fewest} workers need {fewest} CPUs, and the Ray cluster has {cores} in "
                f"{len(ray.nodes())} node(s); ask for fewer --workers, or add a node with `ray start --address`"
            )

    def _launch(self) -> None:
        """Place workers as far as CPUs are free, and report those that are up or cannot be had, in a thread."""
        waiting: list[int] = []  # workers that there was no room for yet
        placed: _Placements = {}
        first = self._settings.fewest  # workers placed at once: Ray, or its autoscaler, finds room for them
        trouble, look = "", _LOOK
        while True:
            with suppress(queue.Empty):
                while True:
                    order = self._orders.get(timeout=0 if placed else look if waiting else None)
                    if order is None:
                        return
                    waiting.append(order)
                    look = _LOOK / 2  # a new order: look soon
            look = min(2 * look, _LONGEST_LOOK)
            try:
                if waiting or placed:
                    room = first or (0 if placed else self._free())
                    self._place(waiting[:room], placed, self._settings.start_timeout)
                    first = max(first - len(waiting), 0)
                    waiting = waiting[room:]
                waiting += self._collect(placed)
                if waiting or placed:
                    self._free()
            except Exception as error:
                if trouble != (trouble := first_line(error)):
                    self.news.put(Note(f"the Ray cluster is in trouble: {trouble}"))
                waiting += [place.worker for place in placed.values()]
                placed.clear()

    def _free(self) -> int:
        """Return the number of free CPUs, and remember what to say about it."""
        free = int(ray.available_resources().get("CPU", 0))
        self._shortage = (
            f"each worker needs one CPU, and {free} are free in the Ray cluster; "
            f"ask for fewer --workers, or wait until other jobs are done"
        )
        return free

    def _place(self, workers: list[int], placed: _Placements, seconds: float) -> None:
        """Have Ray place actors, and add them to `placed`; they should be up after so many seconds."""
        for worker in workers:
            actor = self.actors[worker] = self._actor.remote(worker, self._begin.pickled, self._begin.layout)
            placed[actor.describe.remote()] = _Placement(worker, time.monotonic() + seconds)

    def _collect(self, placed: _Placements) -> list[int]:
        """Report actors that are ready; return those that Ray did not place in time, to be tried again."""
        ready, _ = ray.wait(list(placed), timeout=_LOOK) if placed else ([], [])
        for call in ready:
            worker = placed.pop(call).worker
            try:
                description: Description = ray.get(call)
            except Exception as error:
                self.kill(worker)
                self.news.put(Lost(worker, first_line(error)))
                continue
            self.descriptions[worker] = description
            self._check(worker, description)
        late = [call for call, place in placed.items() if place.until < time.monotonic()]
        again = [placed.pop(call).worker for call in late]
        for worker in again:
            self.kill(worker)
        return again

    def _check(self, worker: int, description: Description) -> None:
        """Report a worker as started if it computes the same bits, or the user allows others; else as lost."""
        difference = differences(self._begin.fingerprint, description.fingerprint)
        if difference:
            text = f"worker {worker} on {description.host} would compute other bits ({difference})"
            if not self._settings.allow_inexact:
                self.kill(worker)
                self.news.put(
                    Lost(
                        worker,
                        f"{text}; install the same versions there, try --set engine.portable=true, "
                        f"or accept it with --set engine.allow_inexact=true",
                        hopeless=True,
                    )
                )
                return
            self.news.put(Note(f"{text}: this run is not exact"))
        if description.compiled:
            self.news.put(Note(f"{description.host}: compiled, once on that machine, in {description.compiled:.1f} s"))
        here = self._settings.transport == "ray" or description.node == self._node
        self.news.put(Started(worker, here, exact=not difference))


def _why(call: Future[None]) -> str:
    """Return the reason why a call of `serve` has ended."""
    error = call.exception()
    return "it hung up" if error is None else first_line(error)
