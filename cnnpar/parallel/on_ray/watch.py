"""Watch over the Ray that a run uses: the processes of a Ray of our own, and whether head and node still listen."""

import socket
import time

import ray

from cnnpar.parallel.on_ray.start_watch import NEEDED

_LOOK = 0.5  # seconds between looks
_CONNECT_SECONDS = 2.0


class Watch:
    """Looks, at most twice a second, at the head and at this process's node of a cluster."""

    def __init__(self, head: str, node: str) -> None:
        """Take the address HOST:PORT of the head, and Ray's id of this node."""
        known = {entry["NodeID"]: entry for entry in ray.nodes()}[node]
        host, _, port = head.rpartition(":")
        self._places = {
            f"the head of the Ray cluster, {head},": (host.strip("[]"), int(port)),
            "Ray's process on this node": (known["NodeManagerAddress"], known["NodeManagerPort"]),
        }
        self._looked_at = 0.0

    def death(self) -> str | None:
        """Return the reason why the cluster is of no use any more; None while it is alive."""
        from ray._private import worker

        own = worker._global_node
        if own is not None and own.head:
            dead = [name for name, _ in own.dead_processes() if name in NEEDED]
            return f"Ray has ended (its {dead[0]} process is gone)" if dead else None
        now = time.monotonic()
        if now - self._looked_at < _LOOK:
            return None
        self._looked_at = now
        return next((f"{name} is gone" for name, place in self._places.items() if _refuses(*place)), None)


def _refuses(host: str, port: int) -> bool:
    """Tell whether nothing listens at an address any more. A silent one may be busy, or the network is down."""
    try:
        socket.create_connection((host, port), _CONNECT_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
