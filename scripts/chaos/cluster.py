"""Faults of a standing cluster: nodes lost and added, the head gone for a while or for long."""

import os
import signal
import time
from random import Random

from cnnpar.storage.checkpoint import read
from scripts.chaos import records
from scripts.chaos.nodes import NODE_CPUS
from scripts.chaos.processes import descendants
from scripts.chaos.ray_deaths import DASHBOARD_AGENT, RUNTIME_ENV_AGENT
from scripts.chaos.training_run import Broken, Run

_REPLACED_SECONDS = 60.0  # for a worker on a new node
_SHORT_SECONDS = 3  # that the run waits for its cluster


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


def own_node_killed(run: Run, random: Random) -> None:
    """Kill the raylet or an agent of the node that the control process is attached to, and add a node for it later."""
    nodes = run.cluster
    run.some_worker(random)
    control = run.control
    raylet = nodes.node_of(control)
    agents = [one for one in descendants(raylet.pid) if one.title.startswith((RUNTIME_ENV_AGENT, DASHBOARD_AGENT))]
    victim = random.choice([raylet, *agents])

    def kill() -> None:
        victim.send(signal.SIGKILL)
        time.sleep(random.uniform(1.0, 3.0))
        nodes.add(NODE_CPUS)

    run.outlive(kill, [raylet, control])
    if raylet in nodes.others:
        nodes.forget(raylet)


def head_restarted(run: Run, random: Random) -> None:
    """Kill the head with all nodes, and start them again some seconds later: the run must attach again by itself."""
    nodes = run.cluster
    run.some_worker(random)
    old = [run.control, *run.all_workers]

    def restart() -> None:
        nodes.end_head()
        time.sleep(random.uniform(0.0, 5.0))
        nodes.restore()

    run.outlive(restart, old)


def head_gone_for_long(run: Run, _: Random) -> None:
    """Let the run wait for a short time only, and kill the head with all nodes: the run must save and say why it ends.

    It is resumed when the head is back.
    """
    nodes = run.cluster
    run.strike(signal.SIGTERM)
    run.end(143)
    run.begin("--set", f"engine.cluster_timeout={_SHORT_SECONDS}")
    try:
        run.train()
        said = run.log.stat().st_size
        run.strike()
        nodes.end_head()
        run.end(1)
    finally:
        nodes.restore()
    errors = [line for line in run.log.read_bytes()[said:].splitlines() if b": error: " in line]
    if len(errors) != 1 or b"--resume" not in errors[0]:
        raise Broken(f"ended with the errors {errors}")
    saved, done = read(run.directory / "model.json").state.step, records.last(run.metrics).step
    if saved != done:
        raise Broken(f"saved step {saved} of {done}")
    if os.path.lexists(run.directory / ".running"):
        raise Broken("left its .running")
    run.begin()


def _lose_node(run: Run, random: Random, number: signal.Signals) -> None:
    nodes = run.cluster
    victim = random.choice(nodes.others)
    nodes.strike(victim, number)
    time.sleep(random.uniform(1.0, 3.0))
    nodes.add(NODE_CPUS)
    time.sleep(random.uniform(1.0, 3.0))
    nodes.forget(victim)
