"""The environment of the process that imports ray, which reads it then. This file does not import ray itself."""

import os
import secrets

from cnnpar.config.sections import Engine


def meant_address(settings: Engine) -> str:
    """Return the address of the cluster to attach to; empty: start one on this machine."""
    address = settings.address or os.environ.get("RAY_ADDRESS", "")
    return "" if address == "local" else address


def ray_environment(settings: Engine) -> dict[str, str]:
    """Return this process's environment with variables that make Ray quiet and private; those of the user stay.

    But for PYTHONOPTIMIZE: Ray takes docstrings apart as it is imported, and 2 leaves none.
    """
    quiet = {
        "RAY_ENABLE_AUTO_CONNECT": "0",  # a late call must not start a Ray, or attach to one that was not asked for
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_NUM_REDIS_GET_RETRIES": "5",  # attempts, about a second each, at a cluster that refuses the connection
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` Ray would build a second environment for each worker
    }
    if not meant_address(settings):
        seconds = str(max(round(settings.start_timeout), 30))
        quiet |= {
            "RAY_worker_niceness": "0",  # this machine's cores are the workers' to use
            "RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE": "1",  # a small /dev/shm is no reason to stop
            "RAY_gcs_rpc_server_connect_timeout_s": "1",  # five times: a start gives up soon if its Ray is killed
            # On a busy machine Ray's own limits are too short for its start; those of its agents (20 s) are fixed.
            "RAY_raylet_start_wait_time_s": seconds,
            "RAY_gcs_server_port_wait_time_s": seconds,
            "RAY_worker_register_timeout_seconds": seconds,
        }
        if "RAY_AUTH_MODE" not in os.environ:  # this cluster is ours alone; its token is in no file
            quiet |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return quiet | {name: value for name, value in os.environ.items() if name != "PYTHONOPTIMIZE"}
