"""Faults of the driver: killed, stopped, interrupted, at any time, as it saves, as it evaluates, and as it starts."""

import signal
import time
from random import Random

from scripts.chaos.moments import stop_as_it_evaluates, stop_as_it_saves
from scripts.chaos.training_run import Run

_START_SECONDS = 60.0  # for Ray to have begun to start


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
    stop_as_it_saves(run)
    run.strike(signal.SIGKILL)
    run.end(-signal.SIGKILL)
    run.begin()


def driver_killed_as_it_evaluates(run: Run, _: Random) -> None:
    """Send SIGKILL to the driver within the evaluation after an epoch."""
    run.train()
    stop_as_it_evaluates(run)
    run.strike(signal.SIGKILL)
    run.end(-signal.SIGKILL)
    run.begin()


def driver_killed_as_it_starts(run: Run, random: Random) -> None:
    """Send SIGKILL to the driver, and again within the first second of its next start."""
    run.strike(signal.SIGKILL)
    run.end(-signal.SIGKILL)
    run.begin()
    time.sleep(random.uniform(0.0, 1.0))
    run.strike(signal.SIGKILL)
    run.end(-signal.SIGKILL)
    run.begin()


def driver_killed_as_ray_starts(run: Run, random: Random) -> None:
    """Send SIGKILL to the driver, and again while its next Ray starts."""
    run.strike(signal.SIGKILL)
    run.end(-signal.SIGKILL)
    run.begin()
    run.until(lambda: bool(run.remains.sessions()), "start Ray", _START_SECONDS, look=0.01)
    time.sleep(random.uniform(0.0, 3.0))
    run.strike(signal.SIGKILL)
    run.end(-signal.SIGKILL)
    run.begin()


def driver_paused(run: Run, random: Random) -> None:
    """Send SIGSTOP to the driver, and SIGCONT a little later."""
    run.driver.send_signal(signal.SIGSTOP)
    time.sleep(random.uniform(0.2, 4.0))
    run.driver.send_signal(signal.SIGCONT)


def rescaled_on_resume(run: Run, random: Random) -> None:
    """Stop the driver with SIGTERM, and resume with other workers, and perhaps another transport."""
    run.strike(signal.SIGTERM)
    run.end(143)
    run.workers = random.choice([number for number in ("1", "2", "3") if number != run.workers])
    run.transport = random.choice(["direct", "ray"])
    run.begin()


def _strike(run: Run, random: Random, codes: list[int], number: signal.Signals) -> None:
    run.strike(number)
    run.end(*codes)
    run.begin()
    if random.random() < 0.3:
        time.sleep(random.uniform(0.5, 5.0))
        run.strike(number)
        run.end(*codes)
        run.begin()
