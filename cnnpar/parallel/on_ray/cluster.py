"""The Ray cluster of a run: stores the samples, starts workers and replacements, checks them, ends them.

Ray is the control plane only. A thread starts the workers, since Ray may take long, and the training must not wait.
Each failure ends in an error or a note that says what was needed and what is available.
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

from cnnpar.blas import handed_on
from cnnpar.config.sections import Engine
from cnnpar.data.dataset import Dataset
from cnnpar.errors import RunError
from cnnpar.fingerprint import differences, fingerprint
from cnnpar.parallel.direct.handshake import Endpoint
from cnnpar.parallel.launcher import Started
from cnnpar.parallel.mailbox import Mailbox
from cnnpar.parallel.on_ray.actor import Description, Worker
from cnnpar.parallel.on_ray.attach import attach
from cnnpar.parallel.on_ray.errors import first_line
from cnnpar.parallel.on_ray.pickling import pickle_work
from cnnpar.parallel.transport import Lost, Note
from cnnpar.parallel.work import Kind, Work

_LOOK = 0.25  # seconds between looks at how many CPUs are free, at first
_LONGEST_LOOK = 2.0  # and when there were too few for a while
_PLACING_SECONDS = 30.0  # for Ray to place a later worker; after it, another job has taken the CPU
_END_SECONDS = 5.0  # for the thread to end


class _Placement(NamedTuple):
    """A worker that Ray was asked to place."""

    worker: int
    until: float  # time.monotonic() by which it should be up


_Placements = dict["ray.ObjectRef[Description]", _Placement]  # by the call that describes the worker once it is up


class Cluster:
    """The workers of a run on one Ray cluster: the launcher of the direct transport, and the actors of the other."""

    def __init__(self, settings: Engine, work: Work, data: Mapping[Kind, Dataset]) -> None:
        """Attach to Ray, or start it, and put the samples into its object store.

        Raises InputError for an address that cannot be one, RunError when the cluster is missing or too small.
        """
        self.news: Mailbox[Started | Lost | Note] = Mailbox()
        self.actors: dict[int, ray.actor.ActorHandle] = {}
        self.descriptions: dict[int, Description] = {}
        self._settings = settings
        self._pickled = pickle_work(work)
        self._serving: dict[int, ray.ObjectRef[None]] = {}
        self._orders: queue.SimpleQueue[int | None] = queue.SimpleQueue()  # workers to start; None: end
        self._thread = threading.Thread(target=self._launch, name="cnnpar launcher", daemon=True)
        self._ours = not ray.is_initialized()  # else `close` must leave it as it was
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
        # A Ray of our own inherits this process's environment; elsewhere the actors must be given it.
        environment = {} if own else {"runtime_env": {"env_vars": handed_on()}}
        self._actor = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0, **environment)(Worker)
        self._thread.start()

    def start(self, worker: int) -> None:
        """Start a worker; `news` reports when it is up, or why it cannot be had."""
        self._orders.put(worker)

    def serve(self, worker: int, endpoint: Endpoint, key: bytes) -> None:
        """Start the one long call of the direct transport, by which the worker connects to `endpoint`."""
        self._serving[worker] = self.actors[worker].serve.remote(endpoint, key, worker)

    def why_ended(self, worker: int, seconds: float) -> str | None:
        """Return the reason why the call of `serve` ended, within so many seconds; None while it goes on."""
        try:
            ray.get(self._serving[worker], timeout=seconds)
        except ray.exceptions.GetTimeoutError:
            return None
        except Exception as error:
            return first_line(error)
        return "it hung up"

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
        """Return the number of free CPUs, which limits the workers, and what to do about it."""
        with suppress(Exception):  # Ray raises many types when it is dead
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

    def _launch(self) -> None:
        """Place workers as far as CPUs are free, and report those that are up or cannot be had, in a thread."""
        waiting: list[int] = []  # workers that there was no room for yet
        placed: _Placements = {}
        while True:  # the first workers at once: Ray finds out if there is room for them
            order = self._orders.get()
            if order is None:
                return
            waiting.append(order)
            if len(waiting) == self._settings.fewest:
                break
        self._place(waiting, placed, self._settings.start_timeout)
        waiting, trouble, look = [], "", _LOOK
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
                if waiting and not placed:
                    room = int(ray.available_resources().get("CPU", 0))
                    self._place(waiting[:room], placed, _PLACING_SECONDS)
                    waiting = waiting[room:]
                waiting += self._collect(placed)
            except Exception as error:
                if trouble != (trouble := first_line(error)):
                    self.news.put(Note(f"the Ray cluster is in trouble: {trouble}"))
                waiting += [place.worker for place in placed.values()]
                placed.clear()

    def _place(self, workers: list[int], placed: _Placements, seconds: float) -> None:
        """Have Ray place actors, and add them to `placed`; they should be up after so many seconds."""
        for worker in workers:
            actor = self.actors[worker] = self._actor.remote(worker, self._pickled, self._stored)
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
