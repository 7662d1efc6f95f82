"""What Ray reads from the environment when it is imported; it does not import ray itself."""

import os
import secrets
import sys

from cnnpar.config.sections import Engine


def meant_address(settings: Engine) -> str:
    """The cluster to attach to; empty: start one on this machine."""
    address = settings.address or os.environ.get("RAY_ADDRESS", "")
    return "" if address == "local" else address


def prepare_ray(settings: Engine) -> None:
    """Make Ray quiet and private. What the user has set stays; too late once ray has been imported."""
    if "ray" in sys.modules:
        return
    quiet = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_NUM_REDIS_GET_RETRIES": "5",  # times, about a second each, to try a cluster that refuses us
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` Ray would build a second environment for each worker
    }
    if not meant_address(settings):
        quiet |= {
            "RAY_worker_niceness": "0",  # this machine's cores are the workers' to use
            "RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE": "1",  # a small /dev/shm is no reason to stop
            "RAY_gcs_rpc_server_connect_timeout_s": "1",  # five times: who starts as its Ray is killed soon gives up
        }
        if "RAY_AUTH_MODE" not in os.environ:  # nobody else is to use this cluster, and no file need keep its token
            quiet |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
