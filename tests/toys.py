"""Small made things that several test modules share: data, a run's work, workers in plain processes."""

import multiprocessing
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnpar import config, optim
from cnnpar.data.dataset import Dataset
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.nn.network import Network, Sums
from cnnpar.parallel.direct import serve
from cnnpar.parallel.server import Server
from cnnpar.parallel.transport import InProcess
from cnnpar.parallel.wire import Endpoint
from cnnpar.parallel.work import Kind, Training, Work
from cnnpar.state import TrainState
from cnnpar.training import train

LAYERS: tuple[dict[str, Any], ...] = (
    {"type": "conv2d", "channels": 3, "kernel": 3},
    {"type": "relu"},
    {"type": "maxpool2d", "size": 2},
    {"type": "flatten"},
    {"type": "dropout", "rate": 0.3},
    {"type": "dense"},
)


def made_data(samples: int, seed: int = 0, classes: int = 3, side: int = 8) -> Dataset:
    """Noise with a bright bar whose row is the class: easy to learn, no file needed."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % classes
    images = rng.integers(0, 120, (samples, side, side, 1), dtype=np.uint8)
    images[np.arange(samples), 2 * labels + 1] += 100
    return Dataset(images, labels.astype(np.int64), tuple(map(str, range(classes))))


def made_run(
    samples: int = 70, settings: config.Config | None = None
) -> tuple[config.Config, Training, dict[Kind, Dataset]]:
    """A run with dropout, augmentation, a ragged last batch, and batches that are no multiple of the microbatch."""
    settings = settings or config.resolve(
        {
            "model": {"layers": LAYERS},
            "augment": {"ratio": 4, "shift": 1},
            "train": {"epochs": 2, "batch_size": 50, "microbatch": 8, "seed": 7},
        }
    )
    data = {Kind.TRAIN: made_data(samples), Kind.VALIDATION: made_data(21, 1), Kind.TEST: made_data(30, 2)}
    preprocessing = Preprocessing.of(data[Kind.TRAIN])
    network = Network.from_tables(settings.model.layers, (8, 8, 1), 3)
    sizes = {kind: len(part) for kind, part in data.items()}
    return settings, Training(network, preprocessing, settings.augment, settings.train, sizes), data


class Nobody:
    """An observer that looks away."""

    def step_done(self, state: TrainState, sums: Sums, rate: float) -> None:
        pass

    def epoch_done(self, state: TrainState, record: object) -> None:
        pass


def trained(settings: config.Config, work: Training, server: Server) -> TrainState:
    """The state after a whole run."""
    network = work.network
    state = TrainState(network.init(settings.train.seed), optim.init(settings.optimizer, network.layout.size))
    train(settings, network, work.steps_per_epoch, True, server, state, Nobody(), lambda: False)
    return state


def in_process(work: Work, data: Mapping[Kind, Dataset]) -> Server:
    return Server(work, InProcess(work.with_data(data)), 60.0, fail)


def fail(text: str) -> None:
    raise AssertionError(f"unexpected warning: {text}")


class Processes:
    """Workers as plain processes: what `Cluster` is for Ray, without Ray."""

    host = "127.0.0.1"

    def __init__(self, work: Work, data: Mapping[Kind, Dataset], shared: list[bool]) -> None:
        self.count = len(shared)
        self.processes: dict[int, Any] = {}
        self._shared = shared
        self._work = work.with_data(data)

    def on_this_node(self, worker: int) -> bool:
        return self._shared[worker]

    def serve(self, worker: int, endpoint: Endpoint, key: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        self.processes[worker] = context.Process(target=serve, args=(self._work, endpoint, key, worker), daemon=True)
        self.processes[worker].start()

    def why_ended(self, worker: int, seconds: float) -> str | None:
        self.processes[worker].join(seconds)
        code = self.processes[worker].exitcode
        return None if code is None else f"exit code {code}"

    def kill(self, worker: int) -> None:
        self.processes[worker].kill()

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.join()
