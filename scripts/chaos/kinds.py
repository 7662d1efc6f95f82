"""The kinds of faults: each is a function that does it to a run, and returns when the run has survived it.

They raise Broken when the run has not survived, and Skipped where the fault is not possible.
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from scripts.chaos import cluster, connections, disk, driver, files, ray_deaths, workers
from scripts.chaos.training_run import Run


class Kind(NamedTuple):
    """A kind of faults: its name, the function that does it, and the runs that it is possible for."""

    name: str
    act: Callable[[Run, Random], None]
    place: str = "own"  # "own": a run with a Ray of its own; "cluster": one on several nodes; "both"
    order: int = 0  # -1: before the others of its run, as they may change its transport
    disk: bool = False  # only on a small disk of the run's own


KINDS = {
    kind.name: kind
    for kind in [
        Kind("worker killed", workers.worker_killed, "both"),
        Kind("worker terminated", workers.worker_terminated),
        Kind("worker out of memory", workers.worker_without_memory),
        Kind("worker stopped for good", workers.worker_stopped, "both"),
        Kind("worker stopped for a while", workers.worker_paused),
        Kind("all workers stopped for a while", workers.workers_paused),
        Kind("worker 10 times slower for a while", workers.worker_slow),
        Kind("all workers killed", workers.workers_killed),
        Kind("worker killed, its replacement too", workers.worker_killed_as_it_comes),
        Kind("worker killed as the run evaluates", workers.worker_killed_as_it_evaluates, "both"),
        Kind("driver killed", driver.driver_killed, "both"),
        Kind("driver killed as it saves", driver.driver_killed_as_it_saves),
        Kind("driver killed as it evaluates", driver.driver_killed_as_it_evaluates),
        Kind("driver killed as it starts", driver.driver_killed_as_it_starts, "both"),
        Kind("driver killed as its Ray starts", driver.driver_killed_as_ray_starts),
        Kind("driver and control process killed", ray_deaths.driver_and_control_killed),
        Kind("driver: SIGINT", driver.driver_interrupted),
        Kind("driver: SIGTERM", driver.driver_terminated, "both"),
        Kind("driver: SIGINT twice", driver.driver_interrupted_twice),
        Kind("driver stopped for a while", driver.driver_paused),
        Kind("resumed with other workers", driver.rescaled_on_resume),
        Kind("control process killed", ray_deaths.control_killed, "both"),
        Kind("Ray's environment agent killed", ray_deaths.killing(ray_deaths.RUNTIME_ENV_AGENT)),
        Kind("Ray's dashboard agent killed", ray_deaths.killing(ray_deaths.DASHBOARD_AGENT)),
        Kind("Ray's raylet killed", ray_deaths.killing(ray_deaths.RAYLET)),
        Kind("Ray's raylet stopped, killed later", ray_deaths.raylet_stopped_and_killed),
        Kind("Ray's head killed", ray_deaths.killing(ray_deaths.GCS)),
        Kind("Ray's monitor killed", ray_deaths.killing_unneeded(ray_deaths.MONITOR)),
        Kind("Ray's log monitor killed", ray_deaths.killing_unneeded(ray_deaths.LOG_MONITOR)),
        Kind("Ray's dashboard killed", ray_deaths.killing_unneeded(ray_deaths.DASHBOARD)),
        Kind("Ray killed as the run evaluates", ray_deaths.ray_killed_as_it_evaluates),
        Kind("Ray killed as it starts", ray_deaths.ray_killed_as_it_starts),
        Kind("garbage sent to the server", connections.garbage, "both", order=-1),
        Kind("half-open connections", connections.half_open, "both", order=-1),
        Kind("run directory away for a while", disk.directory_away),
        Kind("run directory swapped", files.directory_swapped),
        Kind(".running stolen", files.note_stolen, "both"),
        Kind("link or pipe while stopped", files.planted_between_resumes),
        Kind("link or pipe while it trains", files.planted_meanwhile),
        Kind("metrics.jsonl a directory", disk.metrics_a_directory),
        Kind("disk full for a while", disk.disk_full, disk=True),
        Kind("disk full, driver killed", disk.disk_full_and_driver_killed, disk=True),
        Kind("disk read-only for a while", disk.disk_read_only, disk=True),
        Kind("node killed", cluster.node_killed, "cluster"),
        Kind("node frozen", cluster.node_frozen, "cluster"),
        Kind("node added, later killed", cluster.node_added, "cluster"),
        Kind("the control process's node killed", cluster.own_node_killed, "cluster"),
        Kind("cluster's head killed, back later", cluster.head_restarted, "cluster"),
        Kind("cluster's head gone for long", cluster.head_gone_for_long, "cluster"),
    ]
}
