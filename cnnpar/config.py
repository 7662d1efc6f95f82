"""Every setting of a run, with its default: frozen, typed, strict.

A configuration is a TOML file whose tables are the structs below. `Config()` is the run that `cnnpar-train`
does without options, and `configs/digits.toml` spells it out. `cnnpar/settings.py` reads, checks and writes them.
"""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

_LARGEST = sys.float_info.max  # infinity is no setting
_MOST = 2**53  # every reader of JSON keeps integers up to here
Positive = Annotated[int, Meta(ge=1, le=_MOST)]
Count = Annotated[int, Meta(ge=0, le=_MOST)]
PositiveFloat = Annotated[float, Meta(gt=0, le=_LARGEST)]
Seconds = Annotated[float, Meta(ge=0.01, le=1e7)]
NonNegative = Annotated[float, Meta(ge=0, le=_LARGEST)]
Share = Annotated[float, Meta(ge=0, lt=1)]

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


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the TOML file."""


class Data(_Table, frozen=True):
    """Where the samples come from. Exactly one of `name` and `train` is in force."""

    name: str = ""  # a known data set: digits (embedded) or mnist; "" with `train` empty means digits
    train: str = ""  # path: .csv, .csv.gz, IDX images, .npz, or a folder of class folders
    test: str = ""  # path of test data of the same shape and classes
    shape: tuple[Positive, ...] = ()  # (height, width) or (height, width, channels) of a CSV row; () = square grey
    validation: Share = 0.1  # share of the training set held out to measure each epoch; 0 = none

    def __post_init__(self) -> None:
        if self.name and self.train:
            raise ValueError("give either `name` or `train`, not both")
        if not self.name and not self.train:
            msgspec.structs.force_setattr(self, "name", "digits")
        if self.name and self.name not in DATA_NAMES:
            raise ValueError(f"unknown data set {self.name!r}; known: {', '.join(DATA_NAMES)} (files go into `train`)")
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


class Augment(_Table, frozen=True):
    """Variation of the training images, drawn anew from (seed, epoch, sample) and never stored."""

    ratio: Literal[1, 4] = 1  # 4: an epoch is every image and its one-pixel shifts left, right, up, down
    shift: Count = 0  # largest random shift in pixels, per sample and epoch, along both axes


class Model(_Table, frozen=True):
    """The network: a list of layers, each a table with a `type` (see cnnpar/nn/layers)."""

    layers: tuple[dict[str, Any], ...] = DEFAULT_LAYERS

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("`layers` is empty: a network needs at least one dense layer")


class CrossEntropy(_Table, frozen=True, tag_field="type", tag="cross_entropy"):
    """Softmax and cross-entropy. `class_weights`: one for each class, in their order; () = all alike."""

    label_smoothing: Share = 0.0  # share of a label that is spread over all classes
    class_weights: tuple[NonNegative, ...] = ()


class MSE(_Table, frozen=True, tag_field="type", tag="mse"):
    """The mean square of the difference from 1 at the label and 0 elsewhere."""


class BinaryCrossEntropy(_Table, frozen=True, tag_field="type", tag="binary_cross_entropy"):
    """Sigmoid and cross-entropy, each class against all others."""


class Hinge(_Table, frozen=True, tag_field="type", tag="hinge"):
    """How far the label is from leading all other classes by `margin`."""

    margin: PositiveFloat = 1.0


class Train(_Table, frozen=True):
    """How long, on how much at a time, and from which seed."""

    epochs: Positive = 30
    batch_size: Positive = 64  # samples of one optimizer step, whatever the number of workers
    microbatch: Positive = 16  # samples of one unit of arithmetic; changing it changes the bits
    seed: Count = 0
    on_nonfinite: Literal["stop", "skip"] = "stop"  # skip: a step whose loss or gradient is not finite changes nothing
    ema_decay: Share = 0.0  # share of a running mean of the weights that a step keeps, and that is evaluated; 0 = none
    clip_value: NonNegative = 0.0  # largest number of a batch's mean gradient; others are moved there; 0 = no limit
    clip_norm: NonNegative = 0.0  # and then largest L2 norm of it; longer ones are shortened to it; 0 = no limit


class SGD(_Table, frozen=True, tag_field="type", tag="sgd"):
    """Stochastic gradient descent; `weight_decay` is L2 (added to the gradient)."""

    learning_rate: PositiveFloat = 0.05
    momentum: Share = 0.9
    nesterov: bool = True
    weight_decay: NonNegative = 1e-4

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ValueError("`nesterov` needs a `momentum` above 0")


class Adam(_Table, frozen=True, tag_field="type", tag="adam"):
    """Adam (Kingma and Ba 2015); `weight_decay` is L2 (added to the gradient)."""

    learning_rate: PositiveFloat = 0.001
    beta1: Share = 0.9
    beta2: Share = 0.999
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegative = 0.0


class AdamW(_Table, frozen=True, tag_field="type", tag="adamw"):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    learning_rate: PositiveFloat = 0.001
    beta1: Share = 0.9
    beta2: Share = 0.999
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegative = 0.01


class RMSprop(_Table, frozen=True, tag_field="type", tag="rmsprop"):
    """RMSprop (Tieleman and Hinton 2012); `weight_decay` is L2 (added to the gradient)."""

    learning_rate: PositiveFloat = 0.01
    alpha: Share = 0.99  # what the running mean of squares keeps at each step
    momentum: Share = 0.0
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegative = 0.0


class Adagrad(_Table, frozen=True, tag_field="type", tag="adagrad"):
    """Adagrad (Duchi et al. 2011); `weight_decay` is L2 (added to the gradient)."""

    learning_rate: PositiveFloat = 0.01
    epsilon: PositiveFloat = 1e-10
    weight_decay: NonNegative = 0.0


class LARS(_Table, frozen=True, tag_field="type", tag="lars"):
    """SGD with momentum whose steps are in proportion to each array of weights (You et al. 2017), for large batches.

    Parameters of one dimension (biases; scale and shift of normalisation) take plain steps, without `weight_decay`.
    """

    learning_rate: PositiveFloat = 0.05
    momentum: Share = 0.9
    trust_coefficient: PositiveFloat = 0.02  # a step's length, over that of the weights, at learning rate 1
    weight_decay: NonNegative = 1e-4


class LAMB(_Table, frozen=True, tag_field="type", tag="lamb"):
    """AdamW whose steps are in proportion to each array of weights (You et al. 2020), for large batches.

    Parameters of one dimension (biases; scale and shift of normalisation) take Adam's steps, without `weight_decay`.
    """

    learning_rate: PositiveFloat = 0.01
    beta1: Share = 0.9
    beta2: Share = 0.999
    epsilon: PositiveFloat = 1e-6
    weight_decay: NonNegative = 0.01


class Constant(_Table, frozen=True, tag_field="type", tag="constant"):
    """The optimizer's learning rate, always."""


class StepDecay(_Table, frozen=True, tag_field="type", tag="step"):
    """The learning rate times `factor` after every `every_epochs` epochs."""

    every_epochs: Positive = 10
    factor: Annotated[float, Meta(gt=0, le=1)] = 0.1


class Cosine(_Table, frozen=True, tag_field="type", tag="cosine"):
    """Linear warm-up over `warmup_epochs`, then half a cosine down to `final` times the learning rate."""

    warmup_epochs: NonNegative = 0.0
    final: Annotated[float, Meta(ge=0, le=1)] = 0.0


class OneCycle(_Table, frozen=True, tag_field="type", tag="one_cycle"):
    """From `start` up to 1 over the first `warmup` share of all steps, then down to `final`, both times as half
    a cosine; factors of the learning rate (Smith and Topin 2018).
    """

    warmup: Annotated[float, Meta(gt=0, lt=1)] = 0.3
    start: Annotated[float, Meta(ge=0, le=1)] = 0.04
    final: Annotated[float, Meta(ge=0, le=1)] = 0.0004


Loss = CrossEntropy | MSE | BinaryCrossEntropy | Hinge
Optimizer = SGD | Adam | AdamW | RMSprop | Adagrad | LARS | LAMB
Schedule = Constant | StepDecay | Cosine | OneCycle


class Engine(_Table, frozen=True):
    """Who computes. Nothing here changes the weights, and all of it may change when a run is resumed."""

    workers: Workers = 2  # Ray actors of one core each; LOW:HIGH = what there is room for; 0 = in this process, no Ray
    min_workers: Annotated[int, Meta(ge=0, le=MOST_WORKERS)] = 0  # with fewer a run waits; 0 = LOW, or else 1
    max_worker_failures: Annotated[int, Meta(ge=-1, le=_MOST)] = -1  # with more lost workers a run ends; -1 = no limit
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


class Checkpoint(_Table, frozen=True):
    """When and how the state is saved."""

    every_seconds: PositiveFloat = 60.0  # besides at each epoch's end
    arrays: Literal["base64", "decimal"] = "base64"  # decimal: numbers that people can read; both are exact


class Report(_Table, frozen=True):
    """What is written down on the way."""

    every_steps: Positive = 50  # steps between lines of metrics.jsonl, besides one for each epoch


class Config(_Table, frozen=True):
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
