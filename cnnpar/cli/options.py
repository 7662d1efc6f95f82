"""Options that several commands have, and the settings that they stand for."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from cnnpar.config.resolve import Option, read_toml, resolve, to_tables
from cnnpar.config.sections import Config
from cnnpar.errors import InputError

if TYPE_CHECKING:
    from cnnpar.run.resume import Resume


def option(text: str, name: str | None = None) -> Parameter:
    """How an option is explained, and how it is spelled where that is not the parameter's name."""
    return Parameter(name=name, help=text, negative="", show_default=False)


ConfigFile = Annotated[Path | None, option("Settings of the run, a TOML file.")]
DataName = Annotated[str | None, option("A known data set: digits (embedded; the default) or mnist.")]
TrainData = Annotated[
    Path | None, option("Training data: .csv[.gz] with the label first, IDX, .npz, or a folder of class folders.")
]
Workers = Annotated[
    str | None, option("Ray workers, one core each: N, or LOW:HIGH as there is room; 0: none, without Ray.")
]
Assignments = Annotated[tuple[str, ...], option("Any setting, as SECTION.KEY=VALUE; may be repeated.", "--set")]
Json = Annotated[bool, option("Print one JSON object as the last line.")]
Debug = Annotated[bool, option("Show the traceback of an error.")]

# What each option sets; of two that set the same, the later one wins.
_SETS: dict[str, Callable[[Any], dict[str, dict[str, Any]]]] = {
    "workers": lambda given: {"engine": {"workers": _number(given)}},
    "min_workers": lambda given: {"engine": {"min_workers": given}},
    "max_worker_failures": lambda given: {"engine": {"max_worker_failures": given}},
    "address": lambda given: {"engine": {"address": given}},
    "transport": lambda given: {"engine": {"transport": given}},
    "epochs": lambda given: {"train": {"epochs": given}},
    "batch_size": lambda given: {"train": {"batch_size": given}},
    "microbatch": lambda given: {"train": {"microbatch": given}},
    "seed": lambda given: {"train": {"seed": given}},
    "augmenter_ratio": lambda given: {"augment": {"ratio": given}},
    "train_data": lambda given: {"data": {"name": "", "train": str(given), "test": ""}},
    "test_data": lambda given: {"data": {"test": str(given)}},
    "data": lambda given: {"data": {"name": given, "train": "", "test": ""}},
}


def chosen(**given: object) -> list[Option]:
    """The settings that options, by the names of their parameters, stand for; None: not given."""
    if given["data"] is not None and (given["train_data"] or given.get("test_data")):
        raise InputError("--data names a known data set; it goes without --train-data and --test-data")
    return [
        Option(f"--{name.replace('_', '-')} {given[name]}", section, key, setting)
        for name, tables in _SETS.items()
        if given.get(name) is not None
        for section, table in tables(given[name]).items()
        for key, setting in table.items()
    ]


def resolve_options(
    file: Path | None, resumed: "Resume | None", options: Sequence[Option], assignments: Sequence[str]
) -> Config:
    """The settings of the file, or else of the checkpoint, or else the defaults; changed by the options.

    Where the kernels are to be pinned (`engine.portable`), this program is started anew, once: they are chosen when
    numpy is loaded.
    """
    tables: dict[str, Any] = {}
    source = "settings"
    if file is not None:
        tables, source = read_toml(file), str(file)
    elif resumed is not None:
        tables, source = to_tables(resumed.payload.config), str(resumed.path)
        tables["engine"]["address"] = ""  # whom to connect to is for who types the command to say, not for a file
    resolved = resolve(tables, assignments, source, options)
    if resolved.engine.portable:
        from cnnpar.fingerprint import portable_environment

        environment = portable_environment()
        if environment:
            os.execve(sys.executable, sys.orig_argv, {**os.environ, **environment})
    return resolved.absolute()


def _number(text: str) -> int | str:
    """A number of workers as one; what is none is left to the settings' check."""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else text
