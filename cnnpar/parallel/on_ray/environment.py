"""The environment that Ray reads when it is imported. This file does not import ray itself."""

import os
import secrets
import sys

from cnnpar.config.sections import Engine


def meant_address(settings: Engine) -> str:
    """Return the address of the cluster to attach to; empty: start one on this machine."""
    address = settings.address or os.environ.get("RAY_ADDRESS", "")
    return "" if address == "local" else address


def prepare_ray(settings: Engine) -> None:
    """Make Ray quiet and private through the environment; variables that the user has set stay.

    Does nothing once ray is imported: it would have no effect.
    """
    if "ray" in sys.modules:
        return
    quiet = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_NUM_REDIS_GET_RETRIES": "5",  # attempts, about a second each, at a cluster that refuses the connection
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` Ray would build a second environment for each worker
    }
    if not meant_address(settings):
        quiet |= {
            "RAY_worker_niceness": "0",  # this machine's cores are the workers' to use
            "RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE": "1",  # a small /dev/shm is no reason to stop
            "RAY_gcs_rpc_server_connect_timeout_s": "1",  # five times: a start gives up soon if its Ray is killed
        }
        if "RAY_AUTH_MODE" not in os.environ:  # this cluster is ours alone; its token is in no file
            quiet |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
