"""The options that stand for settings, each declared once: its name, its help, and the setting that it changes."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from cyclopts import Group, Parameter

from cnnpar.config.data import DATA_NAMES
from cnnpar.errors import InputError
from cnnpar.files import expanded

if TYPE_CHECKING:
    from cyclopts import Token

# Headings of the help, in this order.
DATA, TRAINING, WORKERS, FILES, OUTPUT = map(
    Group.create_ordered, ("Data", "Training", "Workers and Ray", "Files of the run", "Output and other")
)


class Sets(NamedTuple):
    """The settings that an option changes: tables of the configuration, made of the value that was given."""

    tables: Callable[[Any], dict[str, dict[str, Any]]]


def option(text: str, group: Group, name: str | None = None) -> Parameter:
    """Explain an option under a heading of the help, and spell it where its name is not the parameter's."""
    return Parameter(name=name, help=text, group=group, negative="", show_default=False)


def sets(section: str, key: str) -> Sets:
    """Change one setting to the value as it was given."""
    return Sets(lambda given: {section: {key: given}})


def whole(_: Any, tokens: "Sequence[Token]") -> int:
    """Convert an option's text to a whole number. Raises InputError for any other text: 2.9 and 2.0, 1e3, 0x10.

    Cyclopts would round a number with a point.
    """
    (token,) = tokens
    if not re.fullmatch("[+-]?[0-9]{1,20}", token.value):
        raise InputError(f"{token.keyword} {token.value}: expected a whole number, such as 10")
    return int(token.value)


def one_of(meanings: Mapping[int, str]) -> "Callable[[Any, Sequence[Token]], int]":
    """Return the converter of an option that takes one of a few numbers; it raises InputError for any other text."""
    expected = " or ".join(f"{number} ({meaning})" for number, meaning in meanings.items())

    def convert(_: Any, tokens: "Sequence[Token]") -> int:
        (token,) = tokens
        if token.value not in map(str, meanings):
            raise InputError(f"{token.keyword} {token.value}: expected {expected}")
        return int(token.value)

    return convert


def place(_: Any, tokens: "Sequence[Token]") -> Path:
    """Convert an option's text to a path, with `~` and variables replaced where the shell did not: `--config=~/a.toml`.

    Raises InputError for a variable that is not set.
    """
    (token,) = tokens
    return Path(expanded(token.value))


def name_or_place(_: Any, tokens: "Sequence[Token]") -> Path:
    """Convert a word to a path as `place` does; as it stands only the name of a data set is one: `./digits` is a path.

    The type is a path's so that shells complete it.
    """
    (token,) = tokens
    if token.value in DATA_NAMES:
        return Path(token.value)
    path = Path(expanded(token.value))
    return path.absolute() if str(path) in DATA_NAMES else path


Whole = Annotated[int, Parameter(converter=whole)]
NameOrPlace = Annotated[Path, Parameter(converter=name_or_place)]
Place = Annotated[Path, Parameter(converter=place)]
Channels = Annotated[Literal[1, 3], Parameter(converter=one_of({1: "grey", 3: "colour"}))]


def _workers(text: str) -> int | str:
    """Return a number of workers as one; LOW:HIGH, and what is wrong, is left to the settings' check."""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else text


def size_of(text: str) -> tuple[int, int]:
    """Return height and width of `--size`. Raises InputError where the text is not both."""
    if not re.fullmatch("[0-9]{1,9},[0-9]{1,9}", text):
        raise InputError(f"--size {text}: expected HEIGHT,WIDTH in pixels, such as 64,64")
    height, _, width = text.partition(",")
    return int(height), int(width)


Workers = Annotated[
    str | None,
    option("Ray workers, one core each: N, or LOW:HIGH as there is room; 0: none, without Ray.", WORKERS),
    Sets(lambda given: {"engine": {"workers": _workers(given)}}),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options that choose the training data, and say what is made of the files."""

    data: Annotated[
        str | None,
        option("A known data set: digits (embedded; the default) or mnist.", DATA),
        Sets(lambda given: {"data": {"name": given, "train": "", "test": ""}}),
    ] = None
    train_data: Annotated[
        Place | None,
        option("Training data: .csv[.gz], IDX, .npz, or a folder of class folders.", DATA),
        Sets(lambda given: {"data": {"name": "", "train": str(given), "test": ""}}),
    ] = None
    label: Annotated[
        str | None, option("Column of the label in a CSV: first, last, or its name.", DATA), sets("data", "label")
    ] = None
    size: Annotated[
        str | None,
        option("HEIGHT,WIDTH that pictures get (default: their own, if all are alike).", DATA),
        Sets(lambda given: {"data": {"size": size_of(given)}}),
    ] = None
    channels: Annotated[
        Channels | None,
        option("Channels that pictures get: 1, grey, or 3, colour.", DATA),
        sets("data", "channels"),
    ] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class LrFindOptions(DataOptions):
    """Options of `cnnpar lr-find` that stand for settings."""

    workers: Workers = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainOptions(DataOptions):
    """Options of `cnnpar train` that stand for settings. Of two that set the same, the later one wins."""

    test_data: Annotated[
        Place | None,
        option("Test data, of the kinds of --train-data.", DATA),
        Sets(lambda given: {"data": {"test": str(given)}}),
    ] = None
    fold: Annotated[
        str | None,
        option("Hold out one of equal parts of the training data: 2/5 is the second of five.", DATA),
        sets("data", "fold"),
    ] = None
    augmenter_ratio: Annotated[
        Literal[1, 4] | None,
        Parameter(converter=one_of({1: "the images alone", 4: "and their four shifts"})),
        option("4: train on each image and on its four one-pixel shifts.", DATA),
        sets("augment", "ratio"),
    ] = None
    epochs: Annotated[Whole | None, option("Passes over the training data.", TRAINING), sets("train", "epochs")] = None
    batch_size: Annotated[
        Whole | None,
        option("Samples of one optimizer step, over all workers together.", TRAINING),
        sets("train", "batch_size"),
    ] = None
    microbatch: Annotated[
        Whole | None, option("Samples of one unit of arithmetic.", TRAINING), sets("train", "microbatch")
    ] = None
    optimizer: Annotated[
        str | None,
        option("sgd, adam, adamw, rmsprop, adagrad, lars or lamb.", TRAINING),
        sets("optimizer", "type"),
    ] = None
    lr: Annotated[
        float | None,
        option("Learning rate, which the schedule multiplies.", TRAINING),
        sets("optimizer", "learning_rate"),
    ] = None
    weight_decay: Annotated[
        float | None, option("Weight decay; 0: none.", TRAINING), sets("optimizer", "weight_decay")
    ] = None
    momentum: Annotated[
        float | None,
        option("Momentum of sgd, rmsprop and lars, below 1.", TRAINING),
        sets("optimizer", "momentum"),
    ] = None
    seed: Annotated[
        Whole | None,
        option("Decides initial weights, order of samples, augmentation, dropout.", TRAINING),
        sets("train", "seed"),
    ] = None
    workers: Workers = None
    min_workers: Annotated[
        Whole | None,
        option("With fewer the run waits for new ones (default: LOW, or 1).", WORKERS),
        sets("engine", "min_workers"),
    ] = None
    max_worker_failures: Annotated[
        Whole | None,
        option("With more lost workers the run ends; -1: no limit (default).", WORKERS),
        sets("engine", "max_worker_failures"),
    ] = None
    address: Annotated[
        str | None,
        option("Ray cluster: auto or HOST:PORT (default: RAY_ADDRESS, or its own).", WORKERS),
        sets("engine", "address"),
    ] = None
    transport: Annotated[
        Literal["direct", "ray"] | None,
        option("How gradients travel: direct (default, faster) or ray.", WORKERS),
        sets("engine", "transport"),
    ] = None


DataWords = Annotated[
    NameOrPlace, Parameter(help="[FILE.toml] [DATA [TEST DATA]]: --config, --data or --train-data, --test-data.")
]
ConfigFile = Annotated[Place | None, option("Settings of the run, a TOML file.", TRAINING)]
Assignments = Annotated[
    tuple[str, ...], option("Any setting, as SECTION.KEY=VALUE; may be repeated.", TRAINING, "--set")
]
Json = Annotated[bool, option("Print one JSON object as the last line.", OUTPUT)]
Overwrite = Annotated[bool, option("Replace a file that is there.", OUTPUT)]
Debug = Annotated[bool, option("Show the traceback of an error.", OUTPUT)]
TRAIN_DEFAULTS, LR_FIND_DEFAULTS, KERNELS_DEFAULTS = TrainOptions(), LrFindOptions(), DataOptions()
