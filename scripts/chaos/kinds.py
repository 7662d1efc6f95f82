"""The kinds of faults: each is a function that does it to a run, and returns when the run has survived it.

They raise Broken when the run has not survived, and Skipped where the fault is not possible.
"""

import signal
import time
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from scripts.chaos.connections import garbage, half_open
from scripts.chaos.disk import (
    directory_away,
    disk_full,
    disk_full_and_driver_killed,
    disk_read_only,
    metrics_a_directory,
)
from scripts.chaos.nodes import NODE_CPUS
from scripts.chaos.processes import Process, descendants, slow_down, starve
from scripts.chaos.training_run import Run, Skipped

_REPLACED_SECONDS = 60.0  # for another worker to be there


def worker_killed(run: Run, random: Random) -> None:
    """Send SIGKILL to a worker."""
    run.some_worker(random).send(signal.SIGKILL)


def worker_terminated(run: Run, random: Random) -> None:
    """Send SIGTERM to a worker, which ends it."""
    run.some_worker(random).send(signal.SIGTERM)


def worker_stopped(run: Run, random: Random) -> None:
    """Send SIGSTOP to a worker, and nothing more."""
    run.some_worker(random).send(signal.SIGSTOP)


def worker_paused(run: Run, random: Random) -> None:
    """Send SIGSTOP to a worker, and SIGCONT a little later."""
    _pause([run.some_worker(random)], random.uniform(0.1, 3.0))


def workers_paused(run: Run, random: Random) -> None:
    """Send SIGSTOP to all workers at once, and SIGCONT a little later."""
    run.some_worker(random)
    _pause(run.all_workers, random.uniform(0.1, 2.0))


def worker_slow(run: Run, random: Random) -> None:
    """Let a worker run for a tenth of the time, for a while."""
    slow_down(run.some_worker(random), random.uniform(1.0, 3.0))


def workers_killed(run: Run, random: Random) -> None:
    """Send SIGKILL to all workers at once."""
    run.some_worker(random)
    for worker in run.all_workers:
        worker.send(signal.SIGKILL)


def worker_without_memory(run: Run, random: Random) -> None:
    """Kill a worker, and limit the memory of its replacement, which fails with an exception."""
    newcomer = run.newcomer(random)
    run.until(lambda: newcomer.computes or not newcomer.alive, "have its new worker compute", look=0.0003)
    starve(newcomer)


def worker_killed_as_it_comes(run: Run, random: Random) -> None:
    """Send SIGKILL to a worker, and then to its replacement."""
    newcomer = run.newcomer(random)
    time.sleep(random.uniform(0.0, 1.0))
    newcomer.send(signal.SIGKILL)


def driver_killed(run: Run, random: Random) -> None:
    """Send SIGKILL to the driver, and sometimes once more while it starts again."""
    _strike(run, random, [-signal.SIGKILL], signal.SIGKILL)


def driver_interrupted(run: Run, random: Random) -> None:
    """Send SIGINT to the driver, and sometimes once more while it starts again."""
    _strike(run, random, [130, -signal.SIGINT], signal.SIGINT)


def driver_terminated(run: Run, random: Random) -> None:
    """Send SIGTERM to the driver, and sometimes once more while it starts again."""
    _strike(run, random, [143, -signal.SIGTERM], signal.SIGTERM)


def driver_interrupted_twice(run: Run, random: Random) -> None:
    """Send SIGINT to the driver, and another before it can have ended."""
    run.strike(signal.SIGINT)
    time.sleep(random.uniform(0.0, 0.3))
    run.driver.send_signal(signal.SIGINT)
    run.end(130)
    run.begin()


def driver_killed_as_it_saves(run: Run, _: Random) -> None:
    """Send SIGKILL to the driver while half a checkpoint is on the disk."""
    half = run.directory / ".model.json.tmp"

    def caught() -> bool:
        if half.exists():
            run.driver.send_signal(signal.SIGSTOP)
            if half.exists():
                return True
            run.driver.send_signal(signal.SIGCONT)
        return False

    run.until(caught, "write a checkpoint", look=0.0003)
    run.strike(signal.SIGKILL)
    run.end(-signal.SIGKILL)
    run.begin()


def driver_paused(run: Run, random: Random) -> None:
    """Send SIGSTOP to the driver, and SIGCONT a little later."""
    run.driver.send_signal(signal.SIGSTOP)
    time.sleep(random.uniform(0.2, 4.0))
    run.driver.send_signal(signal.SIGCONT)


def raylet_killed(run: Run, _: Random) -> None:
    """Send SIGKILL to the raylet of the run's own Ray, which may end the driver."""
    _kill_service(run, "/raylet/raylet ")


def gcs_killed(run: Run, _: Random) -> None:
    """Send SIGKILL to the head's server of the run's own Ray, which may end the driver a minute later."""
    _kill_service(run, "/gcs/gcs_server ")


def rescaled_on_resume(run: Run, random: Random) -> None:
    """Stop the driver with SIGTERM, and resume with other workers, and perhaps another transport."""
    run.strike(signal.SIGTERM)
    run.end(143)
    run.workers = random.choice([number for number in ("1", "2", "3") if number != run.workers])
    run.transport = random.choice(["direct", "ray"])
    run.begin()


def node_killed(run: Run, random: Random) -> None:
    """Send SIGKILL to all processes of a node, and add another node some seconds later."""
    _lose_node(run, random, signal.SIGKILL)


def node_frozen(run: Run, random: Random) -> None:
    """Stop all processes of a node, as if the network to it were gone, and add another some seconds later."""
    _lose_node(run, random, signal.SIGSTOP)


def node_added(run: Run, random: Random) -> None:
    """Add a node, which must be used, and kill it later."""
    nodes = run.cluster
    added = nodes.add(1)
    run.until(lambda: any(one.computes for one in descendants(added.pid)), "use the new node", _REPLACED_SECONDS)
    time.sleep(random.uniform(0.0, 1.0))
    nodes.strike(added, signal.SIGKILL)
    nodes.forget(added)


class Kind(NamedTuple):
    """A kind of faults: its name, the function that does it, and the runs that it is possible for."""

    name: str
    act: Callable[[Run, Random], None]
    place: str = "own"  # "own": a run with a Ray of its own; "cluster": one on several nodes; "both"
    order: int = 0  # -1: before the others of its run, as they may change its transport; 1: after them, as the last
    disk: bool = False  # only on a small disk of the run's own


KINDS = {
    kind.name: kind
    for kind in [
        Kind("worker killed", worker_killed, "both"),
        Kind("worker terminated", worker_terminated),
        Kind("worker out of memory", worker_without_memory),
        Kind("worker stopped for good", worker_stopped, "both"),
        Kind("worker stopped for a while", worker_paused),
        Kind("all workers stopped for a while", workers_paused),
        Kind("worker 10 times slower for a while", worker_slow),
        Kind("all workers killed", workers_killed),
        Kind("worker killed, its replacement too", worker_killed_as_it_comes),
        Kind("driver killed", driver_killed, "both"),
        Kind("driver killed as it saves", driver_killed_as_it_saves),
        Kind("driver: SIGINT", driver_interrupted),
        Kind("driver: SIGTERM", driver_terminated, "both"),
        Kind("driver: SIGINT twice", driver_interrupted_twice),
        Kind("driver stopped for a while", driver_paused),
        Kind("Ray's raylet killed", raylet_killed, order=1),
        Kind("Ray's head killed", gcs_killed, order=1),
        Kind("resumed with other workers", rescaled_on_resume),
        Kind("garbage sent to the server", garbage, "both", order=-1),
        Kind("half-open connections", half_open, "both", order=-1),
        Kind("run directory away for a while", directory_away),
        Kind("metrics.jsonl a directory", metrics_a_directory),
        Kind("disk full for a while", disk_full, disk=True),
        Kind("disk full, driver killed", disk_full_and_driver_killed, disk=True),
        Kind("disk read-only for a while", disk_read_only, disk=True),
        Kind("node killed", node_killed, "cluster"),
        Kind("node frozen", node_frozen, "cluster"),
        Kind("node added, later killed", node_added, "cluster"),
    ]
}


def _strike(run: Run, random: Random, codes: list[int], number: signal.Signals) -> None:
    run.strike(number)
    run.end(*codes)
    run.begin()
    if random.random() < 0.3:
        time.sleep(random.uniform(0.5, 5.0))
        run.strike(number)
        run.end(*codes)
        run.begin()


def _pause(workers: list[Process], seconds: float) -> None:
    for worker in workers:
        worker.send(signal.SIGSTOP)
    time.sleep(seconds)
    for worker in workers:
        worker.send(signal.SIGCONT)


def _kill_service(run: Run, program: str) -> None:
    """Kill a process of the run's own Ray, and resume the run if that has ended it."""
    run.strike()
    services = [one for one in descendants(run.driver.pid) if program in one.title]
    if not services:
        raise Skipped(f"there is no {program.strip()}")
    services[0].send(signal.SIGKILL)
    if run.end(0, 1, -signal.SIGABRT) != 0:
        run.begin()


def _lose_node(run: Run, random: Random, number: signal.Signals) -> None:
    nodes = run.cluster
    victim = random.choice(nodes.others)
    nodes.strike(victim, number)
    time.sleep(random.uniform(1.0, 3.0))
    nodes.add(NODE_CPUS)
    time.sleep(random.uniform(1.0, 3.0))
    nodes.forget(victim)
