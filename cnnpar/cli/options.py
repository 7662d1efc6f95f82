"""The options that stand for settings, each declared once: its name, its help, and the setting that it changes."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_type_hints

from cyclopts import Parameter

from cnnpar.config import Config
from cnnpar.config.resolve import Option, parse_assignment, read_toml, resolve, to_tables
from cnnpar.errors import InputError

if TYPE_CHECKING:
    from cyclopts import Token

    from cnnpar.run.resume import Resume


class Sets(NamedTuple):
    """The settings that an option changes: tables of the configuration, made of the value that was given."""

    tables: Callable[[Any], dict[str, dict[str, Any]]]


def option(text: str, name: str | None = None) -> Parameter:
    """Explain an option, and spell it where its name is not the parameter's."""
    return Parameter(name=name, help=text, negative="", show_default=False)


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


Whole = Annotated[int, Parameter(converter=whole)]


def _workers(text: str) -> int | str:
    """Return a number of workers as one; LOW:HIGH, and what is wrong, is left to the settings' check."""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else text


Workers = Annotated[
    str | None,
    option("Ray workers, one core each: N, or LOW:HIGH as there is room; 0: none, without Ray."),
    Sets(lambda given: {"engine": {"workers": _workers(given)}}),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options that choose the training data."""

    data: Annotated[
        str | None,
        option("A known data set: digits (embedded; the default) or mnist."),
        Sets(lambda given: {"data": {"name": given, "train": "", "test": ""}}),
    ] = None
    train_data: Annotated[
        Path | None,
        option("Training data: .csv[.gz] with the label first, IDX, .npz, or a folder of class folders."),
        Sets(lambda given: {"data": {"name": "", "train": str(given), "test": ""}}),
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
        Path | None,
        option("Test data, of the kinds of --train-data."),
        Sets(lambda given: {"data": {"test": str(given)}}),
    ] = None
    workers: Workers = None
    min_workers: Annotated[
        Whole | None,
        option("With fewer the run waits for new ones (default: LOW, or 1)."),
        sets("engine", "min_workers"),
    ] = None
    max_worker_failures: Annotated[
        Whole | None,
        option("With more lost workers the run ends; -1: no limit (default)."),
        sets("engine", "max_worker_failures"),
    ] = None
    address: Annotated[
        str | None,
        option("Ray cluster: auto or HOST:PORT (default: RAY_ADDRESS, or its own)."),
        sets("engine", "address"),
    ] = None
    transport: Annotated[
        Literal["direct", "ray"] | None,
        option("How gradients travel: direct (default, faster) or ray."),
        sets("engine", "transport"),
    ] = None
    epochs: Annotated[Whole | None, option("Passes over the training data."), sets("train", "epochs")] = None
    batch_size: Annotated[
        Whole | None,
        option("Samples of one optimizer step, over all workers together."),
        sets("train", "batch_size"),
    ] = None
    microbatch: Annotated[Whole | None, option("Samples of one unit of arithmetic."), sets("train", "microbatch")] = (
        None
    )
    seed: Annotated[
        Whole | None,
        option("Decides initial weights, order of samples, augmentation, dropout."),
        sets("train", "seed"),
    ] = None
    augmenter_ratio: Annotated[
        Literal[1, 4] | None,
        Parameter(converter=whole),  # which of them is left to the settings' check
        option("4: train on each image and on its four one-pixel shifts."),
        sets("augment", "ratio"),
    ] = None


ConfigFile = Annotated[Path | None, option("Settings of the run, a TOML file.")]
Assignments = Annotated[tuple[str, ...], option("Any setting, as SECTION.KEY=VALUE; may be repeated.", "--set")]
Json = Annotated[bool, option("Print one JSON object as the last line.")]
Debug = Annotated[bool, option("Show the traceback of an error.")]
TRAIN_DEFAULTS, LR_FIND_DEFAULTS = TrainOptions(), LrFindOptions()


def check_data(data: str | None, **files: Path | None) -> None:
    """Raise InputError where `--data` and files of data are given; `files`: by the names of their options."""
    given = [f"--{name.replace('_', '-')}" for name, path in files.items() if path is not None]
    if data is not None and given:
        raise InputError(f"--data names a known data set; it goes without {' and '.join(given)}")


def chosen(options: DataOptions) -> list[Option]:
    """Return the settings that the given options stand for."""
    hints = get_type_hints(type(options), include_extras=True)
    return [
        Option(f"--{field.name.replace('_', '-')} {given}", section, key, setting)
        for field in fields(options)
        if (given := getattr(options, field.name)) is not None
        for what in hints[field.name].__metadata__
        if isinstance(what, Sets)
        for section, table in what.tables(given).items()
        for key, setting in table.items()
    ]


def _check_agreement(options: Sequence[Option], assigned: Sequence[Option]) -> None:
    """Raise InputError where an option and a `--set` give one setting two values."""
    for option in options:
        for other in assigned:
            if option[1:3] == other[1:3] and option.value != other.value:
                raise InputError(
                    f"{option.words} and {other.words}: two values of {other.section}.{other.key}; give one"
                )


def resolve_options(
    file: Path | None, resumed: "Resume | None", options: Sequence[Option], assignments: Sequence[str]
) -> Config:
    """Resolve the settings of the file, or else of the checkpoint, or else the defaults; changed by the options.

    Where the kernels are to be pinned (`engine.portable`), this program is started anew, once: they are chosen when
    numpy is loaded.
    """
    tables: dict[str, Any] = {}
    source = "settings"
    if file is not None:
        tables, source = read_toml(file), str(file)
    elif resumed is not None:
        from cnnpar.run.resume import settings_of

        tables, source = to_tables(settings_of(resumed.payload)), str(resumed.path)
    assigned = [parse_assignment(text) for text in assignments]
    _check_agreement(options, assigned)
    resolved = resolve(tables, assignments, source, options)
    named = [(option.section, option.key) for option in (*options, *assigned)]
    if file is None and resumed is not None and ("engine", "workers") not in named:
        from cnnpar.run.resume import check_workers

        check_workers(resolved.engine, resumed.path)
    if resolved.engine.portable:
        from cnnpar.blas import portable_environment

        environment = portable_environment()
        if environment:
            os.execve(sys.executable, sys.orig_argv, {**os.environ, **environment})
    return resolved.absolute()
