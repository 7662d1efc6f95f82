"""Ray's life cycle: hand out the samples, bring workers and replacements, check them, end them.

Ray is the control plane only. Workers are brought by a thread of its own, since Ray may take long over it, and a
training must not wait. Everything that can go wrong ends in an error, or a note, that says what was asked for and
what there is.
"""

import os
import queue
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import ray

from cnnpar.config.sections import Engine
from cnnpar.data.dataset import Dataset
from cnnpar.errors import RunError
from cnnpar.fingerprint import differences, fingerprint, handed_on
from cnnpar.parallel.direct.handshake import Endpoint
from cnnpar.parallel.direct.launcher import Started
from cnnpar.parallel.direct.mailbox import Mailbox
from cnnpar.parallel.on_ray.actor import Description, Worker
from cnnpar.parallel.on_ray.attach import attach, first_line
from cnnpar.parallel.on_ray.pickling import pickle_work
from cnnpar.parallel.transport import Lost, Note
from cnnpar.parallel.work import Kind, Work

_LOOK = 0.25  # seconds between looks at how much room there is, at first
_LONGEST_LOOK = 2.0  # and when there has been none for a while
_PLACING_SECONDS = 30.0  # for Ray to place a later worker; then its room was taken by somebody else
_END_SECONDS = 5.0  # for the thread to notice that it is over


class _Coming(NamedTuple):
    """A worker on its way."""

    worker: int
    until: float


class Cluster:
    """The workers of a run on one Ray cluster, a cluster of its own if need be."""

    def __init__(self, settings: Engine, work: Work, data: Mapping[Kind, Dataset]) -> None:
        """Attaches, or starts Ray, and hands the samples to it.

        Raises InputError for an address that cannot be, RunError when the cluster is too small.
        """
        self.news: Mailbox[Started | Lost | Note] = Mailbox()
        self.actors: dict[int, ray.actor.ActorHandle] = {}
        self.descriptions: dict[int, Description] = {}
        self._settings = settings
        self._wrapped = pickle_work(work)
        self._serving: dict[int, ray.ObjectRef[None]] = {}
        self._orders: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._bring, name="cnnpar crew", daemon=True)
        self._ours = not ray.is_initialized()
        own = attach(settings, sum(part.images.nbytes for part in data.values())) if self._ours else False
        try:
            self._node = ray.get_runtime_context().get_node_id()
            self.host: str = ray.util.get_node_ip_address()
            self._check_room()
            self._stored = {
                kind: (ray.put(part.images), ray.put(part.labels), part.class_names) for kind, part in data.items()
            }
        except BaseException:
            self.close()
            raise
        environment = {} if own else {"runtime_env": {"env_vars": handed_on()}}
        self._actor = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0, **environment)(Worker)
        self._thread.start()

    def start(self, worker: int) -> None:
        """Order a worker."""
        self._orders.put(worker)

    def serve(self, worker: int, endpoint: Endpoint, key: bytes) -> None:
        """Start the long call of the direct transport."""
        self._serving[worker] = self.actors[worker].serve.remote(endpoint, key, worker)

    def why_ended(self, worker: int, seconds: float) -> str | None:
        """Why the long call is over; None when it goes on after that many seconds."""
        try:
            ray.get(self._serving[worker], timeout=seconds)
        except ray.exceptions.GetTimeoutError:
            return None
        except Exception as error:
            return first_line(error)
        return "it hung up"

    def kill(self, worker: int) -> None:
        """End the worker's process, whatever it is doing; one that is stopped elsewhere takes Ray five seconds."""
        self._serving.pop(worker, None)
        description = self.descriptions.pop(worker, None)
        actor = self.actors.pop(worker, None)
        if actor is not None:
            with suppress(Exception):  # it is dead, or its node, or the cluster
                ray.kill(actor)
        if description is not None and description.node == self._node:
            with suppress(OSError):
                os.kill(description.pid, signal.SIGCONT)  # who is stopped does not hear Ray; nobody else is harmed

    def shortage(self) -> str:
        """What there is to place workers on."""
        with suppress(Exception):
            free = int(ray.available_resources().get("CPU", 0))
            return (
                f"each worker needs one CPU, and {free} are free in the Ray cluster; "
                f"ask for fewer --workers, or wait until other jobs are done"
            )
        return "the Ray cluster does not answer"

    def close(self) -> None:
        """End all workers, and Ray where it was started or attached here."""
        self._orders.put(None)
        if self._thread.is_alive():
            self._thread.join(_END_SECONDS)
        if ray.is_initialized():
            for worker in list(self.actors):
                self.kill(worker)
            if self._ours:
                ray.shutdown()
        self.news.close()

    def _check_room(self) -> None:
        cores, fewest = int(ray.cluster_resources().get("CPU", 0)), self._settings.fewest
        if cores < fewest:
            raise RunError(
                f"{fewest} workers need {fewest} CPUs, and the Ray cluster has {cores} in "
                f"{len(ray.nodes())} node(s); ask for fewer --workers, or add a node with `ray start --address`"
            )

    def _bring(self) -> None:
        """The thread: place workers as room allows, and tell when they are up or cannot be had."""
        waiting: list[int] = []
        coming: dict[ray.ObjectRef[Description], _Coming] = {}
        while True:  # the first ones at once: whether there is room for them is for Ray to find out
            order = self._orders.get()
            if order is None:
                return
            waiting.append(order)
            if len(waiting) == self._settings.fewest:
                break
        self._place(waiting, coming, self._settings.start_timeout)
        waiting, trouble, look = [], "", _LOOK
        while True:
            with suppress(queue.Empty):
                while True:
                    order = self._orders.get(timeout=0 if coming else look if waiting else None)
                    if order is None:
                        return
                    waiting.append(order)
                    look = _LOOK / 2
            look = min(2 * look, _LONGEST_LOOK)
            try:
                if waiting and not coming:
                    room = int(ray.available_resources().get("CPU", 0))
                    self._place(waiting[:room], coming, _PLACING_SECONDS)
                    waiting = waiting[room:]
                waiting += self._meet(coming)
            except Exception as error:
                if trouble != (trouble := first_line(error)):
                    self.news.put(Note(f"the Ray cluster is in trouble: {trouble}"))
                waiting += [place.worker for place in coming.values()]
                coming.clear()

    def _place(self, workers: list[int], coming: "dict[ray.ObjectRef[Description], _Coming]", seconds: float) -> None:
        """Have Ray place actors, which should be up after so many seconds."""
        for worker in workers:
            actor = self.actors[worker] = self._actor.remote(worker, self._wrapped, self._stored)
            coming[actor.describe.remote()] = _Coming(worker, time.monotonic() + seconds)

    def _meet(self, coming: "dict[ray.ObjectRef[Description], _Coming]") -> list[int]:
        """Who is up is news; who was not placed in time is returned, to be tried again."""
        ready, _ = ray.wait(list(coming), timeout=_LOOK) if coming else ([], [])
        for call in ready:
            worker = coming.pop(call).worker
            try:
                description: Description = ray.get(call)
            except Exception as error:
                self.kill(worker)
                self.news.put(Lost(worker, first_line(error)))
                continue
            self.descriptions[worker] = description
            self._introduce(worker, description)
        late = [call for call, place in coming.items() if place.until < time.monotonic()]
        again = [coming.pop(call).worker for call in late]
        for worker in again:
            self.kill(worker)
        return again

    def _introduce(self, worker: int, description: Description) -> None:
        """Only workers that compute the same bits take part, or such as the user has allowed to."""
        difference = differences(fingerprint(), description.fingerprint)
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
        self.news.put(Started(worker, description.node == self._node, exact=not difference))
