"""A Ray cluster of several nodes on this machine, which can be killed one by one, and started again."""

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from scripts.chaos.processes import Process, descendants

# With these Ray notices a dead node within two seconds and a stopped one in four; with its own settings in 15 and 65.
# They must be in the environment of the head when it starts.
QUICK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_timeout_ms_task_wait_for_death_info": "200",
}
NODE_CPUS = 2
_STORE_BYTES = 80 << 20


class Nodes:
    """A head, to which drivers attach, and nodes that are added and lost."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """Start the head; `environment` is for all nodes, and for drivers that attach. `folder` is for Ray."""
        folder.mkdir(parents=True, exist_ok=True)
        self.environment = {**environment, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        os.environ.update({**self.environment, "RAY_TMPDIR": str(folder)})
        self._port = 0  # of the head's server; 0: any
        self._others: dict[Process, Any] = {}
        self.begin_head()
        self.address = str(self._cluster.address)
        self._port = int(self.address.rpartition(":")[2])

    def begin_head(self) -> None:
        """Start the head, at the port that it had before."""
        from ray.cluster_utils import Cluster  # reads the environment

        self._cluster: Any = Cluster()  # another for each head: its connections know the head by an id
        more = {"gcs_server_port": self._port} if self._port else {}
        self._cluster.add_node(num_cpus=1, object_store_memory=_STORE_BYTES, include_dashboard=False, **more)
        self._head = self._raylet(self._cluster.head_node)

    def end_head(self) -> None:
        """Kill the head and all other nodes at once: they would die without it, and know nothing of its successor."""
        head = self._cluster.head_node
        if head is None:
            return
        for one in [Process.of(info.process.pid) for infos in head.all_processes.values() for info in infos]:
            one.send(signal.SIGKILL)
        for raylet in [self._head, *self.others]:
            self.strike(raylet, signal.SIGKILL)
        for raylet in self.others:
            self.forget(raylet)
        with suppress(Exception):  # Ray's own account of its processes is out of date
            self._cluster.remove_node(head, allow_graceful=False)

    def node_of(self, driver: Process) -> Process:
        """Find the raylet of the node that a process which uses this cluster is attached to."""
        from ray.core.generated.gcs_pb2 import JobTableData

        jobs = self._cluster.global_state._connect_and_get_accessor().get_job_table(
            skip_submission_job_info_field=True, skip_is_running_tasks_field=True
        )
        [found] = [job for job in map(JobTableData.FromString, jobs) if job.driver_pid == driver.pid]
        nodes = {node.node_id: node for node in self._cluster.list_all_nodes()}
        return self._raylet(nodes[found.driver_address.node_id.hex()])

    @property
    def raylets(self) -> list[int]:
        """List the process number of each node's raylet, the head's first."""
        return [self._head.pid, *(raylet.pid for raylet in self._others)]

    @property
    def others(self) -> list[Process]:
        """List the raylet of each node but the head, oldest first."""
        return list(self._others)

    def restore(self) -> None:
        """Leave exactly one whole node besides a whole head."""
        if not self._head.alive:
            self.end_head()
            self.begin_head()
        for raylet in self.others:
            if not raylet.alive or len(self._others) > 1:
                self.forget(raylet)
        if not self._others:
            self.add(NODE_CPUS)

    def add(self, cpus: int) -> Process:
        """Add a node; its raylet."""
        node = self._cluster.add_node(num_cpus=cpus, object_store_memory=_STORE_BYTES)
        raylet = self._raylet(node)
        self._others[raylet] = node
        return raylet

    def strike(self, raylet: Process, number: signal.Signals) -> None:
        """Send a signal to all processes of a node at once."""
        for one in [raylet, *descendants(raylet.pid)]:
            one.send(number)

    def forget(self, raylet: Process) -> None:
        """End what is left of a node, and have Ray's cluster forget it."""
        children = descendants(raylet.pid)
        for one in [raylet, *children]:
            one.send(signal.SIGKILL)
        node = self._others.pop(raylet)
        with suppress(Exception):  # Ray's own account of the node may be out of date
            self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        """End the whole cluster."""
        for raylet in self.others:
            self.forget(raylet)
        self._cluster.shutdown()

    @staticmethod
    def _raylet(node: Any) -> Process:
        return Process.of(node.all_processes["raylet"][0].process.pid)
