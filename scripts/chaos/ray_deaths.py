"""Faults of a run's own Ray: each of its processes killed, the run's control process among them.

The driver must go on by itself and do each step once. What a dead Ray leaves must be gone some seconds later.
"""

import signal
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random

from scripts.chaos.moments import stop_as_it_evaluates
from scripts.chaos.processes import Process, descendants
from scripts.chaos.training_run import Broken, Run, Skipped

# Parts of the command lines of Ray's processes, or the titles that they set.
RUNTIME_ENV_AGENT, DASHBOARD_AGENT = "ray::RuntimeEnvAgent", "ray::DashboardAgent"
RAYLET, GCS = "/raylet/raylet ", "/gcs/gcs_server "
MONITOR, LOG_MONITOR, DASHBOARD = "/autoscaler/_private/monitor.py", "/log_monitor.py", "/dashboard/dashboard.py"
_START_SECONDS = 60.0  # for Ray to have begun to start
_LOOK = 0.002
_WITHOUT_SECONDS = 1.5  # for what the death of a process that the run does not need might do

Strike = Callable[[Run, Random], None]


def killing(title: str) -> Strike:
    """Make the fault that kills a process of Ray with which the whole Ray dies."""
    return lambda run, _: lose_ray(run, lambda: [service(run, title)])


def killing_unneeded(title: str) -> Strike:
    """Make the fault that kills a process of Ray without which workers go on."""

    def strike(run: Run, random: Random) -> None:
        run.some_worker(random)
        victim, workers = service(run, title), run.all_workers

        def kill() -> None:
            victim.send(signal.SIGKILL)
            time.sleep(_WITHOUT_SECONDS)

        run.outlive(kill, [victim])
        if not set(workers) & set(run.all_workers):
            raise Broken("lost its workers")

    return strike


def control_killed(run: Run, _: Random) -> None:
    """Send SIGKILL to the control process, which talks to Ray."""
    lose_ray(run, lambda: [run.control])


def raylet_stopped_and_killed(run: Run, random: Random) -> None:
    """Send SIGSTOP to the raylet, and SIGKILL a little later."""

    def stop() -> Sequence[Process]:
        raylet = service(run, RAYLET)
        raylet.send(signal.SIGSTOP)
        time.sleep(random.uniform(0.1, 3.0))
        return [raylet]

    lose_ray(run, stop)


def ray_killed_as_it_evaluates(run: Run, random: Random) -> None:
    """Kill a process that the run's Ray needs, within the evaluation after an epoch."""
    title = random.choice([RAYLET, GCS, ""])

    def stop() -> Sequence[Process]:
        stop_as_it_evaluates(run)
        return [service(run, title) if title else run.control]

    lose_ray(run, stop)


def ray_killed_as_it_starts(run: Run, random: Random) -> None:
    """Stop the driver with SIGTERM, resume it, and kill a process of the Ray that it starts then."""
    run.strike(signal.SIGTERM)
    run.end(143)
    run.begin()
    title = random.choice([RAYLET, GCS, DASHBOARD, DASHBOARD_AGENT, RUNTIME_ENV_AGENT, ""])
    found: list[Process] = []

    def is_there() -> bool:
        found[:] = [one for one in descendants(run.driver.pid) if (title in one.title if title else one.is_control)]
        return bool(found)

    run.until(is_there, "start Ray", _START_SECONDS, look=_LOOK)
    time.sleep(random.uniform(0.0, 0.5))
    found[0].send(signal.SIGKILL)
    run.remains.expect_gone(found, "its Ray as it started")
    run.train()


def driver_and_control_killed(run: Run, random: Random) -> None:
    """Send SIGKILL to the driver and its control process, perhaps with stopped workers; the next start must clean up.

    Nothing of the old Ray may be left when the resumed run trains.
    """
    run.some_worker(random)
    control, old = run.control, descendants(run.control.pid)
    if random.random() < 0.5:
        for worker in run.all_workers:
            worker.send(signal.SIGSTOP)
    first, second = random.sample([partial(run.strike, signal.SIGKILL), partial(control.send, signal.SIGKILL)], 2)
    run.strike()
    first()
    second()
    run.end(-signal.SIGKILL)
    run.begin()
    run.train()
    left = [one.title for one in [control, *old] if one.alive]
    if left or len(run.remains.sessions()) > 1:
        raise Broken(f"the next start left {left or run.remains.sessions()}")


def service(run: Run, title: str) -> Process:
    """Find a process of the run's own Ray. Raises Skipped when there is none now."""
    found = [one for one in descendants(run.control.pid) if title in one.title]
    if not found:
        raise Skipped(f"there is no {title.strip()} now")
    return found[0]


def lose_ray(run: Run, choose: Callable[[], Iterable[Process]]) -> None:
    """Kill the processes that `choose` returns while the run trains; its Ray must die, and the run go on with another.

    A driver that `choose` has stopped goes on after the kill.
    """
    run.train()
    while not run.all_workers:
        run.until(lambda: bool(run.all_workers), "have a worker", _START_SECONDS, look=0.05)
    old = [run.control, *descendants(run.control.pid)]

    def kill() -> None:
        for victim in choose():
            victim.send(signal.SIGKILL)
        run.remains.expect_gone(old, "its Ray")
        run.driver.send_signal(signal.SIGCONT)

    run.outlive(kill, old)  # perhaps by a step whose last answer had come before
    run.until(lambda: bool(run.all_workers), "go on with a worker of another Ray", _START_SECONDS, look=0.05)
