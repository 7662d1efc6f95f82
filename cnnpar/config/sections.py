"""Every setting of a run, with its default: frozen, typed, strict.

A configuration is a TOML file whose tables are the structs below. `Config()` is the run that `cnnpar-train`
does without options, and `configs/digits.toml` spells it out. `cnnpar/config/resolve.py` reads, checks and writes them.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from cnnpar.config.choices import (
    MOST,
    SGD,
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
    Share,
    Table,
    Whole,
)

BestBy = Literal["accuracy", "loss"]
Pattern = Annotated[str, Meta(min_length=1, max_length=100)]  # of names, as of a shell
FilePath = Annotated[str, Meta(pattern=r"^[^\0]*$")]

MOST_WORKERS = 4096
Workers = Annotated[
    Annotated[int, Meta(ge=0, le=MOST_WORKERS)] | Annotated[str, Meta(pattern="^[1-9][0-9]{0,3}:[1-9][0-9]{0,3}$")],
    Meta(description=f"a number from 0 to {MOST_WORKERS}, or LOW:HIGH, such as 2:8"),  # for errors
]

DATA_NAMES = ("digits", "mnist")

# A small LeNet-like network that fits any image of 4 x 4 pixels or more; the last layer has one unit per class.
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


class Data(Table, frozen=True):
    """Where the samples come from. Exactly one of `name` and `train` is in force."""

    name: str = ""  # a known data set: digits (embedded) or mnist; "" with `train` empty means digits
    train: str = ""  # path: .csv, .csv.gz, IDX images, .npz, or a folder of class folders
    test: str = ""  # path of test data of the same shape and classes
    shape: tuple[Positive, ...] = ()  # (height, width) or (height, width, channels) of a CSV row; () = square grey
    validation: Share = 0.1  # share of the training set held out to measure each epoch; 0 = none
    balance: bool = False  # an epoch, of the same size, shows all classes equally often, however many samples they have

    def __post_init__(self) -> None:
        if self.name and self.train:
            raise ValueError("give either `name` or `train`, not both")
        if not self.name and not self.train:
            msgspec.structs.force_setattr(self, "name", "digits")
        if self.name and self.name not in DATA_NAMES:
            raise ValueError(f"`name` is {self.name!r}; known are {', '.join(DATA_NAMES)} (files go into `train`)")
        if self.name and self.test:
            raise ValueError(f"data set {self.name!r} has its own test data; `test` goes with `train`")
        if len(self.shape) not in (0, 2, 3):
            raise ValueError("`shape` is [height, width] or [height, width, channels]")

    @property
    def title(self) -> str:
        """What a run on these data is called, if it has no other name."""
        return self.name or Path(self.train).name.partition(".")[0] or "run"

    def absolute(self) -> "Data":
        """The same, found from any folder."""
        places = {key: str(Path(path).absolute()) for key in ("train", "test") if (path := getattr(self, key))}
        return msgspec.structs.replace(self, **places)


class Augment(Table, frozen=True):
    """Variation of the training images, drawn anew from (seed, epoch, sample) and never stored; 0 and false are off.

    What is outside of an image is 0. See cnnpar/data/augment/augmenter.py for what is done in which order.
    """

    ratio: Literal[1, 4] = 1  # 4: an epoch is every image and its one-pixel shifts left, right, up, down
    shift: Count = 0  # largest shift in pixels along both axes: a frame of so many zeros, and a random window of it
    rotation: Annotated[float, Meta(ge=0, le=180)] = 0.0  # largest angle in degrees, either way
    scale: Share = 0.0  # largest relative change of size; 0.1 = 0.9 to 1.1 times
    shear: Annotated[float, Meta(ge=0, le=10)] = 0.0  # largest slant, in pixels to the side for each row
    elastic_alpha: Annotated[float, Meta(ge=0, le=1e6)] = 0.0  # strength in pixels; they move by 0.16 alpha / sigma
    elastic_sigma: Annotated[float, Meta(ge=0.1, le=1000)] = 4.0  # pixels over which displacements are smoothed
    flip: bool = False  # half of the images, mirrored left to right
    brightness: Whole = 0.0  # largest relative change of all values
    contrast: Whole = 0.0  # of the differences from the mean of the image
    saturation: Whole = 0.0  # of the differences from the pixel's grey; for images of three channels
    cutout: Count = 0  # side of a square in pixels, filled with the mean of the data
    mixup: Annotated[float, Meta(ge=0, le=1e6)] = 0.0  # alpha: images mixed in pairs, shares from Beta(alpha, alpha)
    plain_epochs: Count = 0  # the last epochs, in which images are mirrored and moved by whole pixels, and nothing else


class Model(Table, frozen=True):
    """The network: a list of layers, each a table with a `type` (see cnnpar/nn/layers).

    In a file or on the command line `preset` may name one of cnnpar/config/presets instead.
    """

    layers: tuple[dict[str, Any], ...] = DEFAULT_LAYERS
    freeze: Annotated[tuple[Pattern, ...], Meta(max_length=100)] = ()  # layers or parameters that keep their bits
    init_from: FilePath = ""  # checkpoint, or run directory, of weights to begin with where name and shape agree

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("`layers` is empty: a network needs at least one dense layer")

    def absolute(self) -> "Model":
        """The same, found from any folder."""
        return msgspec.structs.replace(self, init_from=str(Path(self.init_from).absolute()) if self.init_from else "")


class Train(Table, frozen=True):
    """How long, on how much at a time, and from which seed."""

    epochs: Positive = 30
    batch_size: Positive = 64  # samples of one optimizer step, whatever the number of workers
    microbatch: Positive = 16  # samples of one unit of arithmetic; changing it changes the bits
    seed: Count = 0
    on_nonfinite: Literal["stop", "skip"] = "stop"  # skip: a step whose loss or gradient is not finite changes nothing
    ema_decay: Share = 0.0  # share of a running mean of the weights that a step keeps, and that is evaluated; 0 = none
    clip_value: NonNegative = 0.0  # largest number of a batch's mean gradient; others are moved there; 0 = no limit
    clip_norm: NonNegative = 0.0  # and then largest L2 norm of it; longer ones are shortened to it; 0 = no limit
    best_by: BestBy = "accuracy"  # of the validation: which epoch is the best one, whose weights best.json keeps
    patience: Count = 0  # epochs without a better one after which a run ends; 0 = it does all its epochs


class Engine(Table, frozen=True):
    """Who computes. But for `portable` nothing here changes the weights, and it may change when a run is resumed."""

    workers: Workers = 2  # Ray actors of one core each; LOW:HIGH = what there is room for; 0 = in this process, no Ray
    min_workers: Annotated[int, Meta(ge=0, le=MOST_WORKERS)] = 0  # with fewer a run waits; 0 = LOW, or else 1
    max_worker_failures: Annotated[int, Meta(ge=-1, le=MOST)] = -1  # with more lost workers a run ends; -1 = no limit
    transport: Literal["direct", "ray"] = "direct"
    address: str = ""  # Ray cluster: "auto" or HOST:PORT; "" = RAY_ADDRESS if set, else a Ray of its own
    start_timeout: Seconds = 120.0  # seconds for Ray and all workers to be there, and to wait when none is left
    step_timeout: Seconds = 120.0  # seconds after which a worker that has not answered is given up, in any case
    deadline_factor: Annotated[float, Meta(ge=1, le=1e6)] = 4.0  # times the usual time; then another computes it too
    deadline_floor: Seconds = 0.1  # seconds; nobody is late before
    give_up_after: Seconds = 10.0  # seconds after which a late worker is replaced, or five deadlines if that is more
    portable: bool = False  # pin CPU kernels to what every x86-64-v3 machine has, so that unlike machines agree
    allow_inexact: bool = False  # accept workers or checkpoints of another fingerprint; the run then says exact: false

    def __post_init__(self) -> None:
        if self.most > MOST_WORKERS:
            raise ValueError(f"`workers` is LOW:HIGH, and HIGH is at most {MOST_WORKERS}")
        if self.fewest > self.most:
            raise ValueError("`workers` is LOW:HIGH, and LOW is larger than HIGH")
        if self.min_workers > self.most:
            raise ValueError(f"`min_workers` is {self.min_workers}, and `workers` only {self.most}")

    @property
    def fewest(self) -> int:
        """Workers that a run begins with at least."""
        return int(str(self.workers).partition(":")[0])

    @property
    def most(self) -> int:
        """Workers that a run has at most."""
        return int(str(self.workers).rpartition(":")[2])

    @property
    def minimum(self) -> int:
        """Workers without which a step does not begin."""
        return self.min_workers or (self.fewest if self.fewest < self.most else 1)


class Checkpoint(Table, frozen=True):
    """When and how the state is saved."""

    every_seconds: PositiveFloat = 60.0  # besides at each epoch's end
    arrays: Literal["base64", "decimal"] = "base64"  # decimal: numbers that people can read; both are exact


class Report(Table, frozen=True):
    """What is written down on the way."""

    every_steps: Positive = 50  # steps between lines of metrics.jsonl, besides one for each epoch


class Config(Table, frozen=True):
    """A whole run. With the data it determines the weights to the bit."""

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
        """The same, its files found from any folder."""
        return msgspec.structs.replace(self, data=self.data.absolute(), model=self.model.absolute())
