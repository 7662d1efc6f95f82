"""Starts Ray for tests, again where it gave up: its own limits are short for a busy machine."""

import subprocess
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster as Nodes

NODE_CPUS = 9
TRIES = 4
TOO_LATE = "The current node timed out during startup"  # Ray's own words

# Ray reads them at its import, its processes at their start. What cannot be set (Ray 2.60): 20 s for a node's agents to
# be up, after which the node ends, and 30 s for a node to be known, which `raylet_start_wait_time_s` extends.
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",  # the nodes are this process's own
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # as in the nodes that cnnpar starts; with Ray's 15 all else on the machine goes first
    "RAY_raylet_start_wait_time_s": "60",
    "RAY_gcs_server_port_wait_time_s": "60",
    "RAY_worker_register_timeout_seconds": "120",
}


def started_nodes() -> "Nodes":
    """Start two nodes of `NODE_CPUS` each and attach to the first. Skips the test where Ray does not start."""
    for _ in range(TRIES):
        try:
            return _start_nodes()
        except Exception as error:  # of whatever kind: Ray has many for what came too late
            reason = str(error).partition("\n")[0]
    pytest.skip(f"Ray did not start in {TRIES} tries: {reason}")


def with_own_ray(run: "Callable[[], subprocess.CompletedProcess[str]]") -> "subprocess.CompletedProcess[str]":
    """Run a command that starts a Ray of its own. Skips the test where Ray does not start in time."""
    for _ in range(TRIES):
        done = run()
        if TOO_LATE not in done.stderr:
            return done
    pytest.skip(f"Ray did not start in {TRIES} tries: {TOO_LATE}")


def _start_nodes() -> "Nodes":
    import ray
    from ray.cluster_utils import Cluster as Nodes

    node: dict[str, Any] = {"num_cpus": NODE_CPUS, "object_store_memory": 100 << 20}
    less = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}  # a third of the start's time
    nodes = Nodes()
    try:
        nodes.add_node(**node, **less, resources={"first": 1})
        nodes.add_node(**node, resources={"second": 1})
        ray.init(address=nodes.address, logging_level="error", log_to_driver=False)
    except Exception as error:
        ray.shutdown()
        for half_started in _nodes_within(error):
            half_started.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        nodes.shutdown()
        raise
    return nodes


def _nodes_within(error: Exception) -> Iterator[Any]:
    """Find Ray's nodes whose start raised the error: nobody else knows of them."""
    from ray._private.node import Node

    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(node := frame.f_locals.get("self"), Node):
            yield node
