"""Every setting of a run, with its default: frozen, typed, strict.

A configuration is a TOML file whose tables are the structs below. `Config()` is the run that `cnnpar-train`
does without options, and `configs/digits.toml` spells it out. Unknown keys and wrong types are errors that name
the place and what is allowed there.
"""

import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import tomli_w
from msgspec import Meta, Struct

from cnnpar.errors import InputError

_LARGEST = sys.float_info.max  # infinity is no setting
_MOST = 2**53  # every reader of JSON keeps integers up to here
Positive = Annotated[int, Meta(ge=1, le=_MOST)]
Count = Annotated[int, Meta(ge=0, le=_MOST)]
PositiveFloat = Annotated[float, Meta(gt=0, le=_LARGEST)]
Seconds = Annotated[float, Meta(ge=0.01, le=1e7)]
NonNegative = Annotated[float, Meta(ge=0, le=_LARGEST)]
Share = Annotated[float, Meta(ge=0, lt=1)]

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


class Train(_Table, frozen=True):
    """How long, on how much at a time, and from which seed."""

    epochs: Positive = 30
    batch_size: Positive = 64  # samples of one optimizer step, whatever the number of workers
    microbatch: Positive = 16  # samples of one unit of arithmetic; changing it changes the bits
    seed: Count = 0


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


class Constant(_Table, frozen=True, tag_field="type", tag="constant"):
    """The optimizer's learning rate, always."""


class StepDecay(_Table, frozen=True, tag_field="type", tag="step"):
    """The learning rate times `factor` after every `every_epochs` epochs."""

    every_epochs: Positive = 10
    factor: PositiveFloat = 0.1


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


Optimizer = SGD | Adam | AdamW
Schedule = Constant | StepDecay | Cosine | OneCycle


class Engine(_Table, frozen=True):
    """Who computes. Nothing here changes the weights, and all of it may change when a run is resumed."""

    # Ray actors of one core each, or "LOW:HIGH": as many as there is room for. 0 = in this process, without Ray
    workers: Annotated[int, Meta(ge=0, le=4096)] | Annotated[str, Meta(pattern=r"^[1-9]\d{0,3}:[1-9]\d{0,3}$")] = 2
    min_workers: Annotated[int, Meta(ge=0, le=4096)] = 0  # with fewer a run waits for new ones; 0 = LOW, or else 1
    max_worker_failures: Annotated[int, Meta(ge=-1, le=_MOST)] = -1  # lost workers that end a run; -1 = no limit
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
        if self.fewest > self.most:
            raise ValueError("`workers` is LOW:HIGH, and LOW is larger than HIGH")
        if self.min_workers > self.most:
            raise ValueError("`min_workers` is larger than `workers`")

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
    train: Train = Train()
    optimizer: Optimizer = SGD()
    schedule: Schedule = OneCycle()
    engine: Engine = Engine()
    checkpoint: Checkpoint = Checkpoint()
    report: Report = Report()


_DEFAULT_TYPES = {name: msgspec.to_builtins(getattr(Config(), name))["type"] for name in ("optimizer", "schedule")}


def read(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises InputError with line and column of a syntax error."""
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise InputError(f"{path}: cannot read the configuration: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not a TOML file: {error}") from error


def resolve(tables: Mapping[str, Any], assignments: Sequence[str] = (), source: str = "configuration") -> Config:
    """A checked `Config` from TOML tables and `section.key=value` assignments, which win.

    Raises InputError that names `source`, the place, and what is allowed there.
    """
    merged = {name: dict(table) if isinstance(table, Mapping) else table for name, table in tables.items()}
    for assignment in sorted(assignments, key=lambda text: not text.partition("=")[0].endswith(".type")):
        _assign(merged, assignment)
    for name, kind in _DEFAULT_TYPES.items():
        table = merged.get(name)
        if isinstance(table, dict):
            table.setdefault("type", kind)
    try:
        return msgspec.convert(merged, Config)
    except msgspec.ValidationError as error:
        raise InputError(f"{source}: {_explain(error, merged)}") from error


def to_tables(config: Config) -> dict[str, Any]:
    """The plain tables of a configuration; `resolve(to_tables(c)) == c`."""
    tables: dict[str, Any] = msgspec.to_builtins(config)
    return tables


def to_toml(config: Config) -> str:
    """The configuration as TOML text, every setting spelled out."""
    return tomli_w.dumps(to_tables(config))


def _assign(tables: dict[str, Any], assignment: str) -> None:
    """Put one `section.key=value` into the tables; the value is read as TOML, or else as a plain string."""
    path, equals, text = assignment.partition("=")
    section, dot, key = path.strip().partition(".")
    if not equals or not dot or not key or "." in key:
        raise InputError(f"--set {assignment}: expected section.key=value, for example --set train.epochs=5")
    if section not in Config.__struct_fields__:
        raise InputError(f"--set {assignment}: no section `{section}`; there are {', '.join(Config.__struct_fields__)}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text.strip()
    table = tables.setdefault(section, {})
    if not isinstance(table, dict):
        raise InputError(f"--set {assignment}: `{section}` is no table in the configuration")
    if key == "type" and table.get("type", _DEFAULT_TYPES.get(section)) != value:
        table.clear()  # settings of another optimizer or schedule mean nothing to this one
    table[key] = value


def _explain(error: msgspec.ValidationError, tables: Mapping[str, Any]) -> str:
    """msgspec's message, with what is allowed where a key, a type or a choice is unknown."""
    message = str(error)
    if not message.startswith(("Object contains unknown field", "Invalid enum value", "Invalid value")):
        return message
    section, _, key = message.partition(" - at `$.")[2].rstrip("`").partition(".")
    allowed: Sequence[Any] = Config.__struct_fields__
    if section:
        hint = get_type_hints(Config)[section]
        kinds = {kind.__struct_config__.tag: kind for kind in get_args(hint) or (hint,)}
        kind = kinds.get(tables[section].get("type") if len(kinds) > 1 else None)
        if kind is None or key == "type":
            allowed = list(kinds)
        elif not key:
            allowed = kind.__struct_fields__
        else:
            hint = get_type_hints(kind)[key]
            allowed = get_args(hint) if get_origin(hint) is Literal else ()
    return f"{message}; allowed: {', '.join(map(str, allowed))}" if allowed else message
