"""Faults of workers: killed, stopped, slow, out of memory."""

import signal
import time
from random import Random

from scripts.chaos.moments import stop_as_it_evaluates
from scripts.chaos.processes import Process, slow_down, starve
from scripts.chaos.training_run import Run


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


def worker_killed_as_it_evaluates(run: Run, random: Random) -> None:
    """Send SIGKILL to a worker within the evaluation after an epoch."""
    run.some_worker(random)

    def strike() -> None:
        stop_as_it_evaluates(run)
        for worker in run.all_workers[:1]:
            worker.send(signal.SIGKILL)
        run.driver.send_signal(signal.SIGCONT)

    run.outlive(strike)


def _pause(workers: list[Process], seconds: float) -> None:
    for worker in workers:
        worker.send(signal.SIGSTOP)
    time.sleep(seconds)
    for worker in workers:
        worker.send(signal.SIGCONT)
