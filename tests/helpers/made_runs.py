"""Made data, works of small runs on them, servers in this process, and observers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnnpar.config.resolve import resolve
from cnnpar.config.sections import Config, Engine
from cnnpar.data.dataset import Dataset
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums
from cnnpar.parallel.in_process import InProcess
from cnnpar.parallel.server import Server
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
    """Return images of noise with a bright bar whose row is the class: easy to learn, no file needed."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % classes
    images = rng.integers(0, 120, (samples, side, side, 1), dtype=np.uint8)
    images[np.arange(samples), 2 * labels + 1] += 100
    return Dataset(images, labels.astype(np.int64), tuple(map(str, range(classes))))


def made_run(samples: int = 70, settings: Config | None = None) -> tuple[Config, Training, dict[Kind, Dataset]]:
    """Make a run with dropout, augmentation, a short last batch, and batches that are no multiple of the microbatch."""
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
    """Make a run with all features that might tie numbers to a worker: buffers, random streams, mixup, EMA, balance."""
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
    """An observer that does nothing, and allows no skipped step."""

    def step_done(self, state: TrainState, sums: Sums, rate: float) -> None:
        pass

    def step_skipped(self, state: TrainState, count: int, reason: str, rate: float) -> None:
        raise AssertionError(f"step {state.step} was skipped: {reason}")

    def epoch_done(self, state: TrainState, record: object) -> None:
        pass


class At(Nobody):
    """An observer that calls functions after some of a run's steps."""

    def __init__(self, deeds: Mapping[int, Callable[[], object]]) -> None:
        """Take the functions by the number of steps that are done."""
        self._deeds = deeds

    def step_done(self, state: TrainState, sums: Sums, rate: float) -> None:
        self._deeds.get(state.step, lambda: None)()


def fresh() -> TrainState:
    """Return a state of three parameters before its first step."""
    return TrainState(np.zeros(3, np.float32), {})


def trained(settings: Config, work: Training, server: Server, observer: Nobody | None = None) -> TrainState:
    """Train a whole run, and return its last state."""
    state = first_state(settings, work.network)
    train(settings, work, server, state, observer or Nobody(), lambda: False)
    return state


def in_process(work: Work, data: Mapping[Kind, Dataset]) -> Server:
    return opened(Server(work, InProcess(work.with_data(data)), Engine(workers=0), fail))


def opened(server: Server) -> Server:
    """Open a server, which waits for its workers, and return it."""
    try:
        server.open()
    except BaseException:
        server.close()
        raise
    return server


def step_until(server: Server, fact: Callable[[], bool]) -> None:
    """Compute a gradient, once or until `fact` is true; its bits are always those of this process."""
    _, work, data = made_run()
    parameters = work.network.init(0)
    expected = in_process(work, data).gradient(parameters, 0, 0)[0].tobytes()
    assert server.gradient(parameters, 0, 0)[0].tobytes() == expected
    while not fact():
        assert server.gradient(parameters, 0, 0)[0].tobytes() == expected


def fail(text: str) -> None:
    if not text.startswith("starting "):  # what a slow start is told of
        raise AssertionError(f"unexpected warning: {text}")


@dataclass(frozen=True)
class Around:
    """A work that passes everything to another work; subclasses add to it."""

    work: Work

    @property
    def size(self) -> int:
        return self.work.size

    @property
    def libraries(self) -> frozenset[str]:
        return self.work.libraries

    def load_loops(self) -> None:
        self.work.load_loops()

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
