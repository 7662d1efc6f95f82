"""All settings of a run with their types, ranges and defaults: one frozen struct for each table of the TOML file.

`Config()` is the run that `cnnpar-train` does without options; `configs/digits.toml` spells it out.
`cnnpar/config/resolve.py` reads, checks and writes settings.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from cnnpar.config.choices import (
    MOST,
    SGD,
    BelowOne,
    Cosine,
    Count,
    CrossEntropy,
    Loss,
    NonNegative,
    OneCycle,
    Optimizer,
    Positive,
    PositiveFloat,
    Schedule,
    Seconds,
    Table,
    UpToOne,
)
from cnnpar.config.data import Data
from cnnpar.files import expanded

Kernels = Literal["fast", "numpy", "scipy"]
BestBy = Literal["accuracy", "loss"]
Layout = Literal["hwio", "torch", "keras"]  # of weights in files; see cnnpar/exchange/layouts.py
Pattern = Annotated[str, Meta(min_length=1, max_length=100)]  # shell wildcards: * ? [abc]
FilePath = Annotated[str, Meta(pattern=r"^[^\0]*$")]  # the system refuses NUL in paths

MOST_WORKERS = 4096
Workers = Annotated[
    Annotated[int, Meta(ge=0, le=MOST_WORKERS)] | Annotated[str, Meta(pattern="^[1-9][0-9]{0,3}:[1-9][0-9]{0,3}$")],
    Meta(description=f"a number from 0 to {MOST_WORKERS}, or LOW:HIGH, such as 2:8"),  # quoted in error messages
]

# Like LeNet, and small; fits images from 4 x 4 pixels up. A `dense` without `units` has one unit per class.
DEFAULT_LAYERS: tuple[dict[str, Any], ...] = (
    {"type": "conv2d", "channels": 16, "kernel": 3, "padding": "same"},
    {"type": "relu"},
    {"type": "maxpool2d", "size": 2},
    {"type": "conv2d", "channels": 32, "kernel": 3, "padding": "same"},
    {"type": "relu"},
    {"type": "maxpool2d", "size": 2},
    {"type": "flatten"},
    {"type": "dense", "units": 64},
    {"type": "relu"},
    {"type": "dropout", "rate": 0.25},
    {"type": "dense"},
)


class Augment(Table, frozen=True):
    """Augmentation of the training images, drawn anew from (seed, epoch, sample); 0 and false are off.

    Pixels outside of an image count as 0. The order of operations stands in cnnpar/data/augment/augmenter.py.
    """

    ratio: Literal[1, 4] = 1  # 4: an epoch has each image and its four shifts by one pixel (5 N samples); 1: N samples
    shift: Count = 0  # largest random shift along each axis, in pixels (as a random crop after zero padding)
    rotation: Annotated[float, Meta(ge=0, le=180)] = 0.0  # largest rotation either way, in degrees, 0 to 180
    scale: BelowOne = 0.0  # largest relative change of size, below 1; 0.1 = 0.9 to 1.1 times
    shear: Annotated[float, Meta(ge=0, le=10)] = 0.0  # largest shear, in pixels sideways per row, 0 to 10
    # Elastic distortion (Simard, Steinkraus and Platt 2003); the paper takes alpha 34, sigma 4 for 28 x 28 digits.
    elastic_alpha: Annotated[float, Meta(ge=0, le=1e6)] = 0.0  # in pixels; displacements: 0.16 alpha / sigma (std)
    elastic_sigma: Annotated[float, Meta(ge=0.1, le=1000)] = 4.0  # Gaussian that smooths them, in pixels, from 0.1
    flip: bool = False  # mirror each image left to right with probability 1/2
    brightness: UpToOne = 0.0  # largest relative change of brightness, 0 to 1
    contrast: UpToOne = 0.0  # largest relative change of the differences from the image's mean grey, 0 to 1
    saturation: UpToOne = 0.0  # as contrast, of the differences from each pixel's own grey; 3 channels only
    cutout: Count = 0  # side in pixels of a square filled with the data's mean (DeVries and Taylor 2017)
    mixup: Annotated[float, Meta(ge=0, le=1e6)] = 0.0  # alpha of the pairs' weights, Beta(alpha, alpha) distributed
    plain_epochs: Count = 0  # number of last epochs with only ratio, shift and flip (He et al. 2019)


class Model(Table, frozen=True):
    """The network: a list of layers, each a table with a `type` (see cnnpar/nn/layers).

    In TOML files and on the command line `preset` may name a file of cnnpar/config/presets instead of `layers`.
    """

    layers: tuple[dict[str, Any], ...] = DEFAULT_LAYERS
    kernels: Kernels = "fast"  # numpy: layers as a textbook has them (cnnpar/nn/textbook); scipy: its convolution
    freeze: Annotated[tuple[Pattern, ...], Meta(max_length=100)] = ()  # patterns of layers or parameters not trained
    init_from: FilePath = ""  # checkpoint, run directory, .safetensors or .npz: weights of the same name and shape
    init_layout: Literal["auto", Layout] = "auto"  # of that file; "auto" = what it says, as cnnpar's own do

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("`layers` is empty: a network needs at least one dense layer")

    def absolute(self) -> "Model":
        """Return the same settings with absolute paths, `~` and environment variables replaced. Raises InputError."""
        place = str(Path(expanded(self.init_from)).absolute()) if self.init_from else ""
        return msgspec.structs.replace(self, init_from=place)


class Train(Table, frozen=True):
    """Length of the run, sizes of batches, seed, and care of the weights."""

    epochs: Positive = 30  # passes over the training data, from 1 up
    batch_size: Positive = 64  # samples per optimizer step, over all workers together
    # Samples per gradient computation; batch_size / microbatch workers can help. 0 = a quarter of the batch, 16 to 64:
    # the weights follow from the settings alone, whatever the machine and the workers.
    microbatch: Count = 0
    seed: Count = 0  # of initial weights, order of samples, augmentation and dropout
    on_nonfinite: Literal["stop", "skip"] = "stop"  # if a loss or gradient is not finite: end the run, or skip the step
    ema_decay: BelowOne = 0.0  # decay of the evaluated exponential moving average (EMA) of the weights; 0 = none
    clip_value: NonNegative = 0.0  # clip each element of the batch's mean gradient to +- this; 0 = no clipping
    clip_norm: NonNegative = 0.0  # then scale the gradient down to at most this L2 norm; 0 = no clipping
    best_by: BestBy = "accuracy"  # validation measure that chooses the epoch kept in best.json
    patience: Count = 0  # early stopping: epochs without a better one after which the run ends; 0 = never

    def __post_init__(self) -> None:
        if not self.microbatch:
            msgspec.structs.force_setattr(self, "microbatch", min(max(self.batch_size // 4, 16), 64))


class Engine(Table, frozen=True):
    """Workers, their deadlines and Ray. Only `portable` changes the weights; the rest may change on resume."""

    workers: Workers = 2  # Ray actors, one core each; "LOW:HIGH" = as many as fit; 0 = this process alone, no Ray
    min_workers: Annotated[int, Meta(ge=0, le=MOST_WORKERS)] = 0  # with fewer the run waits; 0 = LOW, or else 1
    max_worker_failures: Annotated[int, Meta(ge=-1, le=MOST)] = -1  # more lost workers end the run; -1 = no limit
    transport: Literal["direct", "ray"] = "direct"  # way of parameters and gradients: own connections, or Ray's
    address: str = ""  # Ray cluster: "auto" or HOST:PORT; "" = RAY_ADDRESS if set, else a new local Ray
    start_timeout: Seconds = 120.0  # seconds to wait for Ray and the first workers, and for new ones when none is left
    cluster_timeout: Seconds = 300.0  # seconds to wait for a cluster to come back that died during the run
    fallback: bool = True  # if a Ray of our own dies and can't be started again, go on in this process, without Ray
    step_timeout: Seconds = 120.0  # seconds without an answer after which a worker is replaced in any case
    deadline_factor: Annotated[float, Meta(ge=1, le=1e6)] = 4.0  # deadline in usual times; then another races it
    deadline_floor: Seconds = 0.1  # shortest deadline, in seconds
    give_up_after: Seconds = 10.0  # seconds after which a late worker is replaced; at least five deadlines
    portable: bool = False  # use only CPU features of x86-64-v3, so that unlike machines compute the same bits
    allow_inexact: bool = False  # take workers and checkpoints of other fingerprints; the run is then exact: false

    def __post_init__(self) -> None:
        if self.most > MOST_WORKERS:
            raise ValueError(f"`workers` is LOW:HIGH, and HIGH is at most {MOST_WORKERS}")
        if self.fewest > self.most:
            raise ValueError("`workers` is LOW:HIGH, and LOW is larger than HIGH")
        if self.min_workers > self.most:
            raise ValueError(f"`min_workers` is {self.min_workers}, and `workers` only {self.most}")

    @property
    def fewest(self) -> int:
        """Smallest number of workers that a run begins with."""
        return int(str(self.workers).partition(":")[0])

    @property
    def most(self) -> int:
        """Largest number of workers of a run; 0 = no Ray."""
        return int(str(self.workers).rpartition(":")[2])

    @property
    def minimum(self) -> int:
        """Smallest number of workers with which a step begins."""
        return self.min_workers or (self.fewest if self.fewest < self.most else 1)


class Checkpoint(Table, frozen=True):
    """Times and form of saved checkpoints."""

    every_seconds: PositiveFloat = 60.0  # seconds between checkpoints, above 0; one more at the end of each epoch
    arrays: Literal["base64", "decimal"] = "base64"  # decimal: numbers that people can read; exact too, larger


class Report(Table, frozen=True):
    """Measurements written to metrics.jsonl."""

    every_steps: Positive = 50  # steps between lines, from 1 up; one more for each epoch


class Config(Table, frozen=True):
    """All settings of a run. Together with the data they determine the weights to the bit."""

    data: Data = Data()
    augment: Augment = Augment()
    model: Model = Model()
    loss: Loss = CrossEntropy()
    train: Train = Train()
    optimizer: Optimizer = SGD()
    schedule: Schedule = OneCycle()
    engine: Engine = Engine()
    checkpoint: Checkpoint = Checkpoint()
    report: Report = Report()

    def __post_init__(self) -> None:
        if isinstance(self.schedule, Cosine) and self.schedule.warmup_epochs > self.train.epochs:
            raise ValueError(
                f"`warmup_epochs` of the schedule is {self.schedule.warmup_epochs:g}, `epochs` only {self.train.epochs}"
            )

    def absolute(self) -> "Config":
        """Return the same settings with absolute paths, `~` and environment variables replaced. Raises InputError."""
        return msgspec.structs.replace(self, data=self.data.absolute(), model=self.model.absolute())
