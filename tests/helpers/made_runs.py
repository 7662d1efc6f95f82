"""Small made things that several test modules share: data, a run's work, workers in plain processes and threads."""

import multiprocessing
import os
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from cnnpar.config.resolve import resolve
from cnnpar.config.sections import Config, Engine
from cnnpar.data.dataset import Dataset
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums
from cnnpar.parallel.direct.handshake import Endpoint
from cnnpar.parallel.direct.launcher import Launcher, Started
from cnnpar.parallel.direct.mailbox import Mailbox
from cnnpar.parallel.direct.transport import DirectTransport
from cnnpar.parallel.direct.worker import serve
from cnnpar.parallel.in_process import InProcess
from cnnpar.parallel.server import Server
from cnnpar.parallel.transport import Answer, Event, Lost, Note
from cnnpar.parallel.tree import Span
from cnnpar.parallel.work import Kind, Prepared, Step, Work
from cnnpar.training.loop import train
from cnnpar.training.microbatch import Training
from cnnpar.training.state import TrainState, first_state

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


def made_run(samples: int = 70, settings: Config | None = None) -> tuple[Config, Training, dict[Kind, Dataset]]:
    """A run with dropout, augmentation, a ragged last batch, and batches that are no multiple of the microbatch."""
    settings = settings or resolve(
        {
            "model": {"layers": LAYERS},
            "augment": {"ratio": 4, "shift": 1},
            "train": {"epochs": 2, "batch_size": 50, "microbatch": 8, "seed": 7},
        }
    )
    data = {Kind.TRAIN: made_data(samples), Kind.VALIDATION: made_data(21, 1), Kind.TEST: made_data(30, 2)}
    preprocessing = Preprocessing.of(data[Kind.TRAIN])
    network = Network.from_config(settings, (8, 8, 1), 3)
    sizes = {kind: len(part) for kind, part in data.items()}
    balance = settings.data.balance
    return settings, Training(network, preprocessing, settings.augment, settings.train, sizes, balance), data


def rich_run() -> tuple[Config, Training, dict[Kind, Dataset]]:
    """A run with all that might make a worker's numbers depend on its place: buffers, streams, mixtures, means."""
    layers: list[dict[str, Any]] = [
        {"type": "conv2d", "channels": 4, "kernel": 3},
        {"type": "batchnorm2d"},
        {"type": "silu"},
        {"type": "maxpool2d", "size": 2},
        {
            "type": "residual",
            "layers": [
                {"type": "conv2d", "channels": 8, "groups": 4, "stride": 2},
                {"type": "dropout", "rate": 0.2},
                {"type": "residual", "layers": [{"type": "batchnorm2d"}, {"type": "dropout", "rate": 0.2}]},
            ],
            "shortcut": [{"type": "conv2d", "channels": 8, "kernel": 1, "stride": 2, "bias": False}],
        },
        {"type": "groupnorm", "groups": 2},
        {"type": "globalavgpool2d"},
        {"type": "layernorm"},
        {"type": "dense"},
    ]
    augment = {"rotation": 10.0, "elastic_alpha": 4.0, "flip": True, "contrast": 0.2, "cutout": 2, "mixup": 0.4}
    settings = resolve(
        {
            "data": {"balance": True},
            "model": {"layers": layers, "freeze": ["residual1.residual*", "groupnorm1.scale"]},
            "augment": {"shift": 1, **augment, "plain_epochs": 1},
            "loss": {"label_smoothing": 0.1},
            "train": {
                "epochs": 2,
                "batch_size": 50,
                "microbatch": 8,
                "seed": 7,
                "ema_decay": 0.8,
                "clip_norm": 1.0,
                "clip_value": 0.5,
            },
            "optimizer": {"type": "lamb"},
        }
    )
    return made_run(170, settings)


class Nobody:
    """An observer that looks away."""

    def step_done(self, state: TrainState, sums: Sums, rate: float) -> None:
        pass

    def step_skipped(self, state: TrainState, count: int, reason: str, rate: float) -> None:
        raise AssertionError(f"step {state.step} was skipped: {reason}")

    def epoch_done(self, state: TrainState, record: object) -> None:
        pass


class At(Nobody):
    """Does something after some of a run's steps."""

    def __init__(self, deeds: Mapping[int, Callable[[], object]]) -> None:
        """By the number of steps that are done."""
        self._deeds = deeds

    def step_done(self, state: TrainState, sums: Sums, rate: float) -> None:
        self._deeds.get(state.step, lambda: None)()


def trained(settings: Config, work: Training, server: Server, observer: Nobody | None = None) -> TrainState:
    """The state after a whole run."""
    state = first_state(settings, work.network)
    train(settings, work, server, state, observer or Nobody(), lambda: False)
    return state


def in_process(work: Work, data: Mapping[Kind, Dataset]) -> Server:
    return opened(Server(work, InProcess(work.with_data(data)), Engine(workers=0), fail))


def opened(server: Server) -> Server:
    """The server once its workers are there."""
    try:
        server.open()
    except BaseException:
        server.close()
        raise
    return server


def step_until(server: Server, fact: Callable[[], bool]) -> None:
    """Compute a gradient, once at least; its bits are always those of this process."""
    _, work, data = made_run()
    parameters = work.network.init(0)
    expected = in_process(work, data).gradient(parameters, 0, 0)[0].tobytes()
    assert server.gradient(parameters, 0, 0)[0].tobytes() == expected
    while not fact():
        assert server.gradient(parameters, 0, 0)[0].tobytes() == expected


def fail(text: str) -> None:
    raise AssertionError(f"unexpected warning: {text}")


@dataclass(frozen=True)
class Around:
    """Another work, to which something may be added."""

    work: Work

    @property
    def size(self) -> int:
        return self.work.size

    def with_data(self, data: Mapping[Kind, Dataset]) -> "Around":
        return replace(self, work=self.work.with_data(data))

    def microbatches(self, step: Step) -> int:
        return self.work.microbatches(step)

    def length(self, step: Step) -> int:
        return self.work.length(step)

    def following(self, step: Step) -> Step | None:
        return self.work.following(step)

    def prepare(self, step: Step, microbatch: int) -> Prepared:
        return self.work.prepare(step, microbatch)

    def compute(self, step: Step, microbatch: int, prepared: Prepared, parameters: Vector, out: Vector) -> Sums:
        return self.work.compute(step, microbatch, prepared, parameters, out)


@dataclass(frozen=True)
class Cursed(Around):
    """In the middle of it something befalls the process that is at it: once for each time that the curse is laid."""

    curse: Path  # a file; who finds it takes it away, and has to do the deed
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
    """Workers as plain processes: what `Cluster` is for Ray, without Ray."""

    host = "127.0.0.1"

    def __init__(self, work: Work, data: Mapping[Kind, Dataset], shared: list[bool]) -> None:
        """`shared`: for each worker whether it is to share memory with the server; later ones do as the last one."""
        self.news: Mailbox[Started | Lost | Note] = Mailbox()
        self.processes: dict[int, BaseProcess] = {}
        self._shared = shared
        self._work = work.with_data(data)
        self._context = multiprocessing.get_context("forkserver")  # which has imported what a worker needs, once
        self._context.set_forkserver_preload(["pytest", "tests.helpers.made_runs"])

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
    """Remembers who was given what, and who answered."""

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
    """Workers as threads of this process, some of which need not behave as workers do."""

    host = "127.0.0.1"

    def __init__(self, work: Work, data: Mapping[Kind, Dataset], shared: bool, rogues: Mapping[int, Serve]) -> None:
        """`rogues`: what these workers do instead of `serve`; they must come to an end when the server hangs up."""
        self.news: Mailbox[Started | Lost | Note] = Mailbox()
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
