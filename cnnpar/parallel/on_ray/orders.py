"""Messages between a run and its control process: orders in one direction, reports in the other.

They go, pickled, through a pair of sockets that only these two processes have.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnpar.config.sections import Engine
from cnnpar.fingerprint import Fingerprint
from cnnpar.parallel.direct.handshake import Endpoint
from cnnpar.parallel.direct.samples import Layout
from cnnpar.parallel.launcher import Started
from cnnpar.parallel.transport import Lost, Note


@dataclass(frozen=True)
class Begin:
    """Attach to a cluster, or start a Ray of our own. The first order."""

    settings: Engine
    pickled: bytes  # the work, without data
    layout: Layout  # of the samples, whose memory is inherited
    fingerprint: Fingerprint  # of the run's process, which workers must have
    address: str  # of the cluster; empty: start a Ray of our own
    directory: str  # private one of that Ray
    cpus: int  # of that Ray
    runtime_env: Mapping[str, Any] | None  # of the cluster that the run's process is attached to itself


@dataclass(frozen=True)
class Start:
    """Start a worker."""

    worker: int


@dataclass(frozen=True)
class Serve:
    """Have a worker that is up connect to the server."""

    worker: int
    endpoint: Endpoint
    key: bytes


@dataclass(frozen=True)
class Kill:
    """End a worker's process."""

    worker: int


@dataclass(frozen=True)
class Close:
    """End all workers, and a Ray of our own."""


@dataclass(frozen=True)
class Up:
    """The cluster is there."""

    host: str  # address of this node that other nodes can reach
    address: str  # of the cluster


@dataclass(frozen=True)
class Failed:
    """There is no cluster."""

    reason: str
    usage: bool = False  # it is the user's mistake: InputError


@dataclass(frozen=True)
class Ended:
    """A worker that was connected has ended."""

    worker: int
    reason: str


@dataclass(frozen=True)
class Shortage:
    """Why workers are missing, and what to do about it."""

    text: str


Order = Start | Serve | Kill | Close
Report = Up | Failed | Started | Lost | Note | Ended | Shortage
