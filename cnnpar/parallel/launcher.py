"""The interface through which the direct transport starts and ends worker processes: of Ray, or plain ones in tests."""

from dataclasses import dataclass
from typing import Protocol

from cnnpar.parallel.direct.handshake import Endpoint
from cnnpar.parallel.mailbox import Mailbox
from cnnpar.parallel.transport import ClusterBack, ClusterGivenUp, ClusterGone, Lost, Note


@dataclass(frozen=True)
class Started:
    """A worker process is up, and waits for the call of `Launcher.serve`."""

    worker: int  # its number
    here: bool  # it runs on the server's node
    exact: bool = True  # its fingerprint is that of the server's process


News = Started | Lost | Note | ClusterGone | ClusterBack | ClusterGivenUp


class Launcher(Protocol):
    """Starts and ends worker processes. Only `why_ended` waits, and only as long as it is told to."""

    @property
    def host(self) -> str:
        """Address of the server's node that other nodes can reach."""

    @property
    def news(self) -> Mailbox[News]:
        """Mailbox of events: workers that are up or cannot be had, the cluster's end, and notes to the user."""

    def start(self, worker: int) -> None:
        """Start a worker process; `news` reports when it is up."""

    def serve(self, worker: int, endpoint: Endpoint, key: bytes) -> None:
        """Have the process of a worker that is up call `worker.serve`."""

    def why_ended(self, worker: int, seconds: float) -> str | None:
        """Return the reason why the worker's `serve` ended, within so many seconds; None while it goes on."""

    def kill(self, worker: int) -> None:
        """End the worker's process, even if it is stopped (SIGSTOP)."""

    def shortage(self) -> str:
        """Return the reason why workers are missing, and what to do about it; empty if none is known."""

    def close(self) -> None:
        """End all worker processes. May be called twice."""
