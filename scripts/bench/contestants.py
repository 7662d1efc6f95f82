"""Contestants of the speed benchmarks: cnnpar with some number of workers, and groups of PyTorch processes."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any

from cnnpar.config.choices import SGD, Constant
from cnnpar.config.sections import Config, Engine, Train
from cnnpar.data.dataset import Dataset
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.nn.network import Network
from cnnpar.nn.sums import Sums
from cnnpar.parallel.work import Kind
from cnnpar.training.loop import Observer, train
from cnnpar.training.microbatch import Training
from cnnpar.training.state import EpochRecord, TrainState, first_state
from scripts.bench.networks import LEARNING_RATE, MOMENTUM, TASKS, make_data, make_network
from scripts.harness import ROOT, Stepper

WARM_UP_SECONDS = 4.0  # caches and pages; besides, Ray goes on starting helpers of its own for a while
VARIANTS = [f"{layout} {mode}" for layout in ("channels-last", "channels-first") for mode in ("eager", "compiled")]


class Silent:
    """An observer of a run that does nothing."""

    def step_done(self, state: TrainState, sums: Sums, rate: float) -> None:
        """Do nothing."""

    def step_skipped(self, state: TrainState, count: int, reason: str, rate: float) -> None:
        """Do nothing."""

    def epoch_done(self, state: TrainState, record: EpochRecord) -> None:
        """Do nothing."""


class Loop:
    """The whole training loop, `cnnpar.training.loop.train`, on a network and data, with its workers."""

    def __init__(
        self,
        network: Network,
        data: Dataset,
        preprocessing: Preprocessing,
        batch: int,
        microbatch: int,
        workers: int,
    ) -> None:
        """Start the workers; `close` ends them."""
        self._network = network
        self._config = Config(
            train=Train(epochs=10**6, batch_size=batch, microbatch=microbatch),
            optimizer=SGD(learning_rate=LEARNING_RATE, momentum=MOMENTUM, nesterov=True, weight_decay=0.0),
            schedule=Constant(),
            engine=Engine(workers=workers, transport="direct"),
        )
        self.work = Training(network, preprocessing, self._config.augment, self._config.train, {Kind.TRAIN: len(data)})
        self.state = first_state(self._config, network)
        self._stepper = Stepper(self._config, self.work, {Kind.TRAIN: data}, self.state)
        self.server = self._stepper.server

    def train(self, observer: Observer, stopped: Callable[[], bool]) -> None:
        """Train on from where the state is, until `stopped()` is true after some step."""
        train(self._config, self.work, self.server, self.state, observer, stopped)

    def rate(self, seconds: float) -> float:
        """Train for about so many seconds; samples per second."""
        before, began = self.state.samples, time.perf_counter()
        self.train(Silent(), lambda: time.perf_counter() - began >= seconds)
        return (self.state.samples - before) / (time.perf_counter() - began)

    def close(self) -> None:
        """End the workers."""
        self._stepper.close()


@cache
def data_of(name: str) -> tuple[Dataset, Preprocessing]:
    """Make the samples of a task, once in a process."""
    return make_data(TASKS[name])


def cnnpar_rate(name: str, batch: int, workers: int, microbatch: int, seconds: float) -> float:
    """Measure samples per second of cnnpar; its workers are started for this, and ended afterwards."""
    loop = Loop(make_network(TASKS[name]), *data_of(name), batch, microbatch, workers)
    try:
        loop.rate(WARM_UP_SECONDS)
        return loop.rate(seconds)
    finally:
        loop.close()


def side_by_side(name: str, batch: int, microbatch: int, seconds: float) -> float:
    """Measure samples per second of two separate runs at the same time, all together.

    Each computes in a process of its own, without an engine between them: what the cores can do together.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, _keep_barrier, (context.Barrier(2),)) as pool:
        rates = [pool.submit(_rate_at_once, name, batch, microbatch, seconds) for _ in range(2)]
        return sum(rate.result() for rate in rates)


def _keep_barrier(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _rate_at_once(name: str, batch: int, microbatch: int, seconds: float) -> float:
    data_of(name)
    _barrier.wait()
    return cnnpar_rate(name, batch, 0, microbatch, seconds)


_barrier: Any = None  # at which the runs of `side_by_side` wait for each other


class Peers:
    """A group of PyTorch processes that are measured together; between two jobs they wait in a read."""

    def __init__(self, processes: int) -> None:
        """Start the processes, and wait until all have imported PyTorch and found each other."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {
            **os.environ,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
            "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no pool of compilers that stays around
        }
        self.idle = 0.0  # CPU seconds spent between jobs
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        command = [sys.executable, "-m", "scripts.bench.peer_ddp", "--processes", str(processes)]
        self._processes = [
            subprocess.Popen(
                [*command, "--rank", str(rank)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=environment,
                text=True,
                bufsize=1,
            )
            for rank in range(processes)
        ]
        for process in self._processes:
            self._answer(process)

    def measure(self, name: str, batch: int, variant: str, seconds: float) -> dict[str, Any]:
        """Return `rate` and `rule`, or `error`. Raises RuntimeError when a process died."""
        return self.ask({"action": "measure", "task": name, "batch": batch, "variant": variant, "seconds": seconds})

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """Give all processes a job, and return the answer of the first. Raises RuntimeError when one died."""
        answers: list[dict[str, Any]] = []
        for process in self._processes:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it died, which reading shows
                print(json.dumps(job), file=process.stdin)
        for process in self._processes:
            answers.append(self._answer(process))
            self.idle += answers[-1]["idle"]
        return answers[0]

    def _answer(self, process: "subprocess.Popen[str]") -> dict[str, Any]:
        """Read the next line that a process writes."""
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise RuntimeError(f"a PyTorch process died:\n{self._log.read()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the processes by closing their input."""
        for process in self._processes:
            process.communicate()
        self._log.close()
