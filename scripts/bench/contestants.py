"""Contestants of the speed benchmarks: the training loop with some number of workers, and two runs side by side."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
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
from scripts.harness import Stepper

FIRST_SECONDS = 3.0  # caches and pages; besides, Ray goes on starting helpers of its own for a while
WARM_UP_SECONDS = 0.3  # of each measurement: others had the caches


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
        """Train for about so many seconds, after a warm-up; samples per second."""
        self._train_for(WARM_UP_SECONDS)
        return self._train_for(seconds)

    def _train_for(self, seconds: float) -> float:
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


def make_loop(name: str, batch: int, workers: int, microbatch: int) -> Loop:
    """Start the training of a task, and warm it up."""
    loop = Loop(make_network(TASKS[name]), *data_of(name), batch, microbatch, workers)
    loop.rate(FIRST_SECONDS)
    return loop


class SideBySide:
    """Two separate runs at the same time, each in a process of its own: what the cores can do without an engine."""

    def __init__(self, name: str, batch: int, microbatch: int) -> None:
        """Start the processes; `close` ends them."""
        context = multiprocessing.get_context("spawn")
        self._task = name, batch, 0, microbatch
        self._pool = ProcessPoolExecutor(2, context, _keep_barrier, (context.Barrier(2),))

    def rate(self, seconds: float) -> float:
        """Train for about so many seconds; samples per second of both together."""
        rates = [self._pool.submit(_rate_at_once, self._task, seconds) for _ in range(2)]
        return sum(rate.result() for rate in rates)

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown()


def _keep_barrier(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


_barrier: Any = None  # at which the runs of `SideBySide` wait for each other
_loop_at_once = cache(make_loop)


def _rate_at_once(task: tuple[str, int, int, int], seconds: float) -> float:
    data_of(task[0])
    _barrier.wait()  # so each process takes one of the two runs
    loop = _loop_at_once(*task)
    _barrier.wait()
    return loop.rate(seconds)
