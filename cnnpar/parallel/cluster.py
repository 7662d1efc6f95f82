"""Ray's life cycle: attach or start, hand out the samples, start the workers, check them, end them.

Ray is the control plane only. Everything that can go wrong at a start ends here, within `start_timeout`, in an
error that says what was asked for and what there is.
"""

import os
import re
import socket
import time
from collections.abc import Callable, Mapping

import ray

from cnnpar import config
from cnnpar.data.dataset import Dataset
from cnnpar.errors import InputError, RunError
from cnnpar.parallel import wire
from cnnpar.parallel.actor import Description, Worker
from cnnpar.parallel.fingerprint import differences, fingerprint, handed_on
from cnnpar.parallel.ray_settings import meant_address
from cnnpar.parallel.work import Kind, Work

# The first words of an HTTP/2 client, which is what Ray's head expects of whoever connects (RFC 9113, section 3.4).
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])

_STORE_BYTES = 256 << 20  # of Ray's object store besides the samples


class Cluster:
    """The workers of a run on one Ray cluster, a cluster of its own if need be."""

    def __init__(
        self, settings: config.Engine, work: Work, data: Mapping[Kind, Dataset], warn: Callable[[str], None]
    ) -> None:
        """Starts `settings.workers` actors, each with the work and access to the samples.

        Raises InputError for an address that cannot be, RunError when a worker cannot be had, or when its
        fingerprint differs and `settings.allow_inexact` does not allow that.
        """
        self.count = settings.workers
        self.exact = True
        self.actors: list[ray.actor.ActorHandle] = []
        self._serving: dict[int, ray.ObjectRef[None]] = {}
        self._ours = not ray.is_initialized()
        deadline = time.monotonic() + settings.start_timeout
        if self._ours:
            own = _attach(settings, sum(part.images.nbytes for part in data.values()))
        try:
            self._node = ray.get_runtime_context().get_node_id()
            self.host: str = ray.util.get_node_ip_address()
            self._check_room()
            stored = {
                kind: (ray.put(part.images), ray.put(part.labels), part.class_names) for kind, part in data.items()
            }
            environment = {} if self._ours and own else {"runtime_env": {"env_vars": handed_on()}}
            actor = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0, **environment)(Worker)
            self.actors = [actor.remote(number, work, stored) for number in range(self.count)]
            self.descriptions = self._meet(settings.start_timeout, deadline)
            self._check_fingerprints(settings.allow_inexact, warn)
        except BaseException:
            self.close()
            raise

    def on_this_node(self, worker: int) -> bool:
        """Whether the worker runs on the driver's node (as Ray knows it: two of them may be one machine)."""
        return bool(self.descriptions[worker].node == self._node)

    def serve(self, worker: int, endpoint: wire.Endpoint, key: bytes) -> None:
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
        """End the worker's process, whatever it is doing."""
        ray.kill(self.actors[worker])

    def close(self) -> None:
        """End all workers, and Ray where it was started or attached here."""
        if not ray.is_initialized():
            return
        for actor in self.actors:
            ray.kill(actor)
        self.actors = []
        self._serving = {}
        if self._ours:
            ray.shutdown()

    def _check_room(self) -> None:
        cores = int(ray.cluster_resources().get("CPU", 0))
        if cores < self.count:
            raise RunError(
                f"{self.count} workers need {self.count} CPUs, and the Ray cluster has {cores} in "
                f"{len(ray.nodes())} node(s); ask for fewer --workers, or add a node with `ray start --address`"
            )

    def _meet(self, start_timeout: float, deadline: float) -> list[Description]:
        """Wait until every worker has said where it is."""
        calls = [actor.describe.remote() for actor in self.actors]
        ready, missing = ray.wait(calls, num_returns=len(calls), timeout=max(deadline - time.monotonic(), 0))
        try:
            descriptions: list[Description] = ray.get(ready)
        except Exception as error:
            raise RunError(f"a worker did not start: {first_line(error)}") from error
        if missing:
            free = int(ray.available_resources().get("CPU", 0))
            raise RunError(
                f"only {len(ready)} of {self.count} workers started within {start_timeout:g} s "
                f"(engine.start_timeout): each needs one CPU, and {free} are free in the Ray cluster; "
                f"ask for fewer --workers, or wait until other jobs are done"
            )
        return descriptions

    def _check_fingerprints(self, allow_inexact: bool, warn: Callable[[str], None]) -> None:
        own = fingerprint()
        for number, worker in enumerate(self.descriptions):
            difference = differences(own, worker.fingerprint)
            if not difference:
                continue
            text = f"worker {number} on {worker.host} would compute other bits ({difference})"
            if not allow_inexact:
                raise RunError(
                    f"{text}; install the same versions there, try --set engine.portable=true, "
                    f"or accept it with --set engine.allow_inexact=true"
                )
            self.exact = False
            warn(f"{text}: this run is not exact")


def first_line(error: BaseException) -> str:
    """What happened, in one line: the cause that Ray wrapped, or the first sentence of Ray's own account."""
    cause = getattr(error, "cause", None)
    if isinstance(error, ray.exceptions.RayTaskError) and cause is not None:
        error = cause
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else ""
    if isinstance(error, ray.exceptions.RayActorError):
        return "its process died"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _attach(settings: config.Engine, data_bytes: int) -> bool:
    """Connect to the cluster that is meant, or start one on this machine. True: it was started here."""
    address = meant_address(settings)
    quiet = {"logging_level": "error", "log_to_driver": False}
    if not address:
        try:
            ray.init(
                address="local",
                num_cpus=max(settings.workers, os.cpu_count() or 1),
                include_dashboard=False,
                object_store_memory=data_bytes * 5 // 4 + _STORE_BYTES,
                **quiet,
            )
        except Exception as error:
            raise RunError(f"Ray did not start on this machine: {first_line(error)}") from error
        return True
    _check_address(address, given=bool(settings.address))
    try:
        ray.init(address=address, **quiet)
    except Exception as error:
        raise RunError(
            f"cannot attach to the Ray cluster at {address}: {first_line(error)}; "
            f"start one with `ray start --head`, or leave --address out"
        ) from error
    return False


def _check_address(address: str, given: bool) -> None:
    """Find out early what Ray would wait for, or crash on."""
    source = "--address" if given else "RAY_ADDRESS"
    if address.startswith("ray://"):
        raise InputError(
            f"{source} {address}: a ray:// client is too far from the workers to train; "
            f"run the command on the cluster: `ray job submit --address http://HOST:8265 -- cnnpar-train ...`"
        )
    if address == "auto":
        return
    match = re.fullmatch(r"\[?([^\[\]/]+?)\]?:(\d{1,5})", address)
    if match is None or int(match[2]) > 65535:
        raise InputError(f"{source} {address}: expected `auto` or HOST:PORT")
    if os.environ.get("RAY_USE_TLS") == "1":
        return
    try:
        with socket.create_connection((match[1], int(match[2])), timeout=5) as probe:
            probe.sendall(_HTTP2_HELLO)
            answer = probe.recv(9)
    except OSError as error:
        raise RunError(
            f"{source} {address}: nobody answers there ({error.strerror or error}); "
            f"start a cluster with `ray start --head`, or leave --address out"
        ) from error
    if answer[3:4] != b"\4":  # a server of Ray's protocol begins with its settings
        raise InputError(
            f"{source} {address}: something answers there, but not Ray's head; "
            f"`ray start --head` prints its address, mostly with port 6379"
        )
