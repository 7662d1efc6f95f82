"""Workers as plain processes and threads, without Ray: faults on demand, and a transport that records what it sees."""

import multiprocessing
import os
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from cnnpar.data.dataset import Dataset
from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums
from cnnpar.parallel.direct.handshake import Endpoint
from cnnpar.parallel.direct.transport import DirectTransport
from cnnpar.parallel.direct.worker import serve
from cnnpar.parallel.launcher import Launcher, News, Started
from cnnpar.parallel.mailbox import Mailbox
from cnnpar.parallel.transport import Answer, Event
from cnnpar.parallel.tree import Span
from cnnpar.parallel.work import Kind, Prepared, Step, Work
from tests.helpers.made_runs import Around


@dataclass(frozen=True)
class Cursed(Around):
    """A work in which `deed` is done once, by the first process to find and remove the file `curse`."""

    curse: Path  # made by the test when the deed is to be done
    deed: Callable[[], object]

    def compute(self, step: Step, microbatch: int, prepared: Prepared, parameters: Vector, out: Vector) -> Sums:
        sums = super().compute(step, microbatch, prepared, parameters, out)
        try:
            self.curse.unlink()
        except FileNotFoundError:
            return sums
        self.deed()
        return sums


class Processes:
    """A launcher of workers as plain processes, in place of a cluster of Ray actors."""

    host = "127.0.0.1"

    def __init__(self, work: Work, data: Mapping[Kind, Dataset], shared: list[bool]) -> None:
        """Share memory with the server as `shared` says for each worker; later workers do as the last one."""
        self.news: Mailbox[News] = Mailbox()
        self.processes: dict[int, BaseProcess] = {}
        self._shared = shared
        self._work = work.with_data(data)
        self._context = multiprocessing.get_context("forkserver")  # which has imported what a worker needs, once
        self._context.set_forkserver_preload(["pytest", "tests.helpers.plain_workers"])

    def start(self, worker: int) -> None:
        self.news.put(Started(worker, self._shared[min(worker, len(self._shared) - 1)]))

    def serve(self, worker: int, endpoint: Endpoint, key: bytes) -> None:
        process = self._context.Process(target=serve, args=(self._work, endpoint, key, worker), daemon=True)
        process.start()
        self.processes[worker] = process

    def signal(self, worker: int, number: int) -> None:
        os.kill(self.pid(worker), number)

    def pid(self, worker: int) -> int:
        pid = self.processes[worker].pid
        assert pid is not None
        return pid

    def why_ended(self, worker: int, seconds: float) -> str | None:
        self.processes[worker].join(seconds)
        code = self.processes[worker].exitcode
        return None if code is None else f"exit code {code}"

    def kill(self, worker: int) -> None:
        self.processes[worker].kill()

    def shortage(self) -> str:
        return ""

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.join()
            process.close()
        self.news.close()


class Watched(DirectTransport):
    """A direct transport that records the span given to each worker, and the workers that answered."""

    def __init__(self, work: Work, launcher: Launcher) -> None:
        super().__init__(work, launcher, 60.0)
        self.given: dict[int, Span] = {}
        self.answered: list[int] = []

    def assign(self, worker: int, job: int, step: Step, span: Span) -> None:
        self.given[worker] = span
        super().assign(worker, job, step, span)

    def wait(self, seconds: float) -> list[Event]:
        events = super().wait(seconds)
        self.answered += [event.worker for event in events if isinstance(event, Answer)]
        return events


Serve = Callable[[Work, Endpoint, bytes, int], None]


class Threads:
    """Workers as threads of this process, of which some may misbehave."""

    host = "127.0.0.1"

    def __init__(self, work: Work, data: Mapping[Kind, Dataset], shared: bool, rogues: Mapping[int, Serve]) -> None:
        """Run `rogues` by worker instead of `serve`; they must end when the server hangs up."""
        self.news: Mailbox[News] = Mailbox()
        self.calls: dict[int, Future[None]] = {}
        self.endpoints: list[Endpoint] = []
        self._work = work.with_data(data)
        self._shared = shared
        self._rogues = rogues
        self._pool = ThreadPoolExecutor(16)

    def start(self, worker: int) -> None:
        self.news.put(Started(worker, self._shared))

    def serve(self, worker: int, endpoint: Endpoint, key: bytes) -> None:
        own = pickle.loads(pickle.dumps(self._work))  # a network serves one thread
        self.endpoints.append(endpoint)
        self.calls[worker] = self._pool.submit(self._rogues.get(worker, serve), own, endpoint, key, worker)

    def why_ended(self, worker: int, seconds: float) -> str | None:
        try:
            error = self.calls[worker].exception(seconds)
        except TimeoutError:
            return None
        return f"{type(error).__name__}: {error}" if error else "it hung up"

    def kill(self, worker: int) -> None:
        pass  # it ends by itself when the server has hung up

    def shortage(self) -> str:
        return ""

    def close(self) -> None:
        self._pool.shutdown()
        self.news.close()
