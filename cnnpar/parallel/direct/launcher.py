"""Who brings the worker processes: the interface between the direct transport and Ray, or plain processes in tests."""

from dataclasses import dataclass
from typing import Protocol

from cnnpar.parallel.direct.handshake import Endpoint
from cnnpar.parallel.direct.mailbox import Mailbox
from cnnpar.parallel.transport import Lost, Note


@dataclass(frozen=True)
class Started:
    """A worker process is up, and waits to be told what to serve."""

    worker: int
    here: bool  # on the server's node
    exact: bool = True  # computes the same bits as the server's process


class Launcher(Protocol):
    """Whoever brings the worker processes."""

    @property
    def host(self) -> str:
        """The server's address on its own network."""

    @property
    def news(self) -> Mailbox[Started | Lost | Note]:
        """What becomes of workers that were asked for."""

    def start(self, worker: int) -> None:
        """Begin to bring a worker; does not wait for it."""

    def serve(self, worker: int, endpoint: Endpoint, key: bytes) -> None:
        """Have the worker call `worker.serve`; does not wait for it."""

    def why_ended(self, worker: int, seconds: float) -> str | None:
        """Why the worker's `serve` is over; None when it goes on after that many seconds."""

    def kill(self, worker: int) -> None:
        """End the worker's process, also one that is stopped."""

    def shortage(self) -> str:
        """What keeps workers from coming, and what to do; empty if nothing is known."""

    def close(self) -> None:
        """End all of them."""
