"""Who takes part in bench_throughput.py: cnnpar with some number of workers, and groups of PyTorch processes."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any

from cnnpar import config, optim
from cnnpar.data.dataset import Dataset
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.nn.network import Network, Sums
from cnnpar.parallel.server import Server
from cnnpar.parallel.start import start
from cnnpar.parallel.work import Kind, Training
from cnnpar.state import EpochRecord, TrainState
from cnnpar.training import train
from scripts.bench.networks import LEARNING_RATE, MOMENTUM, TASKS, make_data, make_network

WARM_UP_SECONDS = 4.0  # besides caches and pages: Ray goes on starting helpers of its own for a while


class Silent:
    """Follows a run and says nothing."""

    def step_done(self, state: TrainState, sums: Sums, rate: float) -> None:
        """Nothing to do."""

    def step_skipped(self, state: TrainState, count: int, reason: str, rate: float) -> None:
        """Nothing."""

    def epoch_done(self, state: TrainState, record: EpochRecord) -> None:
        """Nothing to do."""


@cache
def data_of(name: str) -> tuple[Dataset, Preprocessing]:
    """The samples of a network, made once."""
    return make_data(TASKS[name])


def open_run(
    network: Network, data: Dataset, preprocessing: Preprocessing, batch: int, microbatch: int, workers: int
) -> tuple[config.Config, Training, Server, TrainState]:
    """All that `cnnpar.training.train` needs; the server is the caller's to close."""
    settings = config.Config(
        train=config.Train(epochs=10**6, batch_size=batch, microbatch=microbatch),
        optimizer=config.SGD(learning_rate=LEARNING_RATE, momentum=MOMENTUM, nesterov=True, weight_decay=0.0),
        schedule=config.Constant(),
        engine=config.Engine(workers=workers, transport="direct"),
    )
    work = Training(network, preprocessing, settings.augment, settings.train, {Kind.TRAIN: len(data)})
    server = start(settings.engine, work, {Kind.TRAIN: data}, lambda text: print(text, file=sys.stderr), lambda: False)
    return settings, work, server, TrainState(network.init(0), optim.init(settings.optimizer, network.layout.trained))


def cnnpar_rate(name: str, batch: int, workers: int, microbatch: int, seconds: float) -> float:
    """Samples per second of cnnpar; its workers are started for this, and gone afterwards."""
    network = make_network(TASKS[name])
    settings, work, server, state = open_run(network, *data_of(name), batch, microbatch, workers)

    def run(duration: float) -> float:
        before, began = state.samples, time.perf_counter()
        train(
            settings,
            network,
            work.steps_per_epoch,
            False,
            server,
            state,
            Silent(),
            lambda: time.perf_counter() - began >= duration,
        )
        return (state.samples - before) / (time.perf_counter() - began)

    try:
        run(WARM_UP_SECONDS)
        return run(seconds)
    finally:
        server.close()


def side_by_side(name: str, batch: int, microbatch: int, seconds: float, runs: int = 2) -> float:
    """Samples per second of runs that have nothing to do with each other, at the same time, all together.

    Each computes in a process of its own, so no engine is to be paid for: what the cores can do, but for noise.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(runs, context, _agree_on, (context.Barrier(runs),)) as pool:
        rates = [pool.submit(_rate_in_company, name, batch, microbatch, seconds) for _ in range(runs)]
        return sum(rate.result() for rate in rates)


def _agree_on(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _rate_in_company(name: str, batch: int, microbatch: int, seconds: float) -> float:
    data_of(name)
    _barrier.wait()
    return cnnpar_rate(name, batch, 0, microbatch, seconds)


_barrier: Any = None  # where the runs of `side_by_side` wait for each other


class Peers:
    """A group of PyTorch processes that are measured together; once it exists, it waits in silence."""

    def __init__(self, processes: int) -> None:
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
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "scripts.bench.peer_ddp", "--rank", str(rank), "--processes", str(processes)],
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
            self._answer(process)  # imports and rendezvous are over, and disturb nobody's measurement

    def measure(self, name: str, batch: int, variant: str, seconds: float) -> dict[str, Any]:
        """`rate` and `rule`, or `error`. Raises RuntimeError when a process died."""
        return self.ask({"action": "measure", "task": name, "batch": batch, "variant": variant, "seconds": seconds})

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """What the first process answers. Raises RuntimeError when one died."""
        answers: list[dict[str, Any]] = []
        for process in self._processes:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it died; reading will tell
                print(json.dumps(job), file=process.stdin)
        for process in self._processes:
            answers.append(self._answer(process))
            self.idle += answers[-1]["idle"]
        return answers[0]

    def _answer(self, process: "subprocess.Popen[str]") -> dict[str, Any]:
        """The next line that a process writes."""
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise RuntimeError(f"a PyTorch process died:\n{self._log.read()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the processes: their input ends."""
        for process in self._processes:
            process.communicate()
        self._log.close()
