"""What was typed becomes settings: words without an option's name, options, `--set`, a file or a checkpoint."""

import os
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from cnnpar.cli.options import DataOptions, Sets
from cnnpar.config import Config
from cnnpar.config.data import DATA_NAMES
from cnnpar.config.resolve import Option, parse_assignment, read_toml, resolve, to_tables
from cnnpar.errors import InputError
from cnnpar.text import did_you_mean

if TYPE_CHECKING:
    from cnnpar.run.resume import Resume
    from cnnpar.storage.checkpoint import Payload

Options = TypeVar("Options", bound=DataOptions)


def is_data_name(word: Path) -> bool:
    """Tell whether a word (see `options.name_or_place`) names a known data set, or else a path.

    Raises InputError where it could be either, and where it is nearly a name and no path.
    """
    name, there = str(word), os.path.lexists(word)
    if name in DATA_NAMES and there:
        raise InputError(f"{name}: names a data set, and a path that is here; write --data {name} or ./{name}")
    alike = did_you_mean(name, DATA_NAMES)
    if name not in DATA_NAMES and not there and alike and name.isalnum():
        raise InputError(f"{name}: no such file or folder{alike}")
    return name in DATA_NAMES


def read_before_data(word: Path) -> "tuple[Path, Payload]":
    """Return the path and the content of the checkpoint that is the first of a model and data. Raises InputError."""
    from cnnpar.storage.checkpoint import NoCheckpointError, read
    from cnnpar.storage.find import newest_in

    try:
        path = newest_in(word)
        return path, read(path)
    except NoCheckpointError as error:
        raise InputError(f"{error}; of a model and data, the model comes first") from error


def take_words(
    words: Sequence[Path], config: Path | None, options: Options, resume: str | None = None
) -> tuple[Path | None, Options]:
    """Return the settings' file and the options, with the words that stand without an option's name.

    `[FILE.toml] [DATA [TEST DATA]]` are --config, --data or --train-data, and --test-data. Raises InputError for other
    words, where an option says the same, and where data that do not go together are named. `resume`: that of a run that
    goes on, and has data.
    """
    given: dict[str, Any] = {}
    for word in words:
        if word.suffix == ".toml":
            name = "config"
        elif "data" in given or "train_data" in given:
            name = "test_data"
        else:
            name = "data" if is_data_name(word) else "train_data"
        if name in given or not (name == "config" or hasattr(options, name)):
            raise InputError(f"{word}: too many words; before the options there may be [FILE.toml] [DATA [TEST DATA]]")
        if (config if name == "config" else getattr(options, name)) is not None:
            raise InputError(f"{word} and --{name.replace('_', '-')}: two ways to say the same; give one of them")
        given[name] = str(word) if name == "data" else word
    config, taken = given.pop("config", config), replace(options, **given)
    test_data: Path | None = getattr(taken, "test_data", None)
    check_data(taken.data, train_data=taken.train_data, test_data=test_data)
    if test_data is not None and taken.train_data is None and config is None and resume is None:
        raise InputError("--test-data goes with --train-data; the known data sets have their own test data")
    return config, taken


def check_data(data: str | None, **files: Path | None) -> None:
    """Raise InputError where `--data` is a path, or stands beside files of data.

    `files`: by the names of their options, of which the first is for a path.
    """
    given = [f"--{name.replace('_', '-')}" for name, path in files.items() if path is not None]
    if data is not None and given:
        raise InputError(f"--data names a known data set; it goes without {' and '.join(given)}")
    if data and data not in DATA_NAMES and (os.path.lexists(data) or not data.replace("-", "").isalnum()):
        known, option = " or ".join(DATA_NAMES), next(iter(files)).replace("_", "-")
        raise InputError(f"--data {data}: expected a known data set, {known}; a path goes into --{option} {data}")


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
            emptied = option[1:] == ("data", "test", "")  # no value that anybody gave
            if option[1:3] == other[1:3] and option.value != other.value and not emptied:
                raise InputError(
                    f"{option.words} and {other.words}: two values of {other.section}.{other.key}; give one"
                )


def resolve_options(
    file: Path | None, resumed: "Resume | None", options: Sequence[Option], assignments: Sequence[str]
) -> Config:
    """Resolve the settings of the file, or else of the checkpoint, or else the defaults; changed by the options.

    Data that have moved (`--resume --train-data NEW`) leave the checkpoint's test data as they are. Where the kernels
    are to be pinned (`engine.portable`), this program is started anew, once: they are chosen when numpy is loaded.
    """
    tables: dict[str, Any] = {}
    source = "settings"
    if file is not None:
        tables, source = read_toml(file), str(file)
    elif resumed is not None:
        from cnnpar.run.resume import settings_of

        tables, source = to_tables(settings_of(resumed.payload)), str(resumed.path)
        if any((option.section, option.key) == ("data", "train") and option.value for option in options):
            options = [option for option in options if option[1:] != ("data", "test", "")]
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
    typed = [option.words for option in assigned if (option.section, option.key) == ("model", "layers")]
    if typed or file is not None:
        from cnnpar.nn.tables import check_tables

        check_tables(resolved.model.layers, typed[-1] if typed else source)
    return resolved.absolute()
