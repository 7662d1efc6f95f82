"""One Ray cluster of two nodes for all tests that need Ray; most need none."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from cnnpar.parallel.cluster import Cluster

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # Ray reads it at its import; the nodes are this process's own
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

NODE_CPUS = 6

# Machines that run tests are busy ones: no example is too slow there. `--hypothesis-profile=thorough` tries more.
hypothesis.settings.register_profile("quick", max_examples=50, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=1000, deadline=None)
hypothesis.settings.load_profile("quick")


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """Two nodes of six CPUs each, the driver attached to the first."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster as Nodes

    node = {"num_cpus": NODE_CPUS, "object_store_memory": 100 << 20, "include_dashboard": False}
    nodes = Nodes(initialize_head=True, head_node_args=node)
    nodes.add_node(num_cpus=NODE_CPUS, object_store_memory=100 << 20)
    ray.init(address=nodes.address, logging_level="error", log_to_driver=False)
    yield nodes.address
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="session")
def eight_workers(ray_address: str) -> Iterator["Cluster"]:
    """Workers on both nodes, holding the work and samples of `toys.made_run`."""
    from cnnpar import config
    from cnnpar.parallel.cluster import Cluster
    from tests.toys import fail, made_run

    _, work, data = made_run()
    cluster = Cluster(config.Engine(workers=8), work, data, fail)
    yield cluster
    cluster.close()
