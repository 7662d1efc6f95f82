"""`cnnpar kernels`: the engine's kernels beside the textbook's and scipy's, layer by layer."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from cnnpar.cli.console import say, say_json
from cnnpar.cli.options import (
    KERNELS_DEFAULTS,
    OUTPUT,
    Assignments,
    ConfigFile,
    DataOptions,
    Debug,
    Json,
    NameOrPlace,
    Whole,
    option,
)
from cnnpar.cli.settings import check_data, chosen, resolve_options, take_words
from cnnpar.config.resolve import Option
from cnnpar.errors import InputError

if TYPE_CHECKING:
    from cnnpar.run.resume import Resume


def kernels(
    *paths: Annotated[NameOrPlace, Parameter(help="[FILE.toml | MODEL] [DATA]: settings or a checkpoint, and data.")],
    config: ConfigFile = None,
    options: DataOptions = KERNELS_DEFAULTS,
    repeats: Annotated[
        Whole,
        Parameter(validator=Number(gte=1, lte=1000)),
        option("Times of each, of which the median is shown.", OUTPUT),
    ] = 5,
    set_: Assignments = (),
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> int:
    """Compare the kernels that a network can be trained with: fast, numpy, scipy.

    Of each layer: the time of a microbatch, and how far the results are from
    those of the formulas in plain numpy.
    """
    saved: Resume | None = None
    if paths and _is_model(paths[0]):
        saved, paths = _read(paths[0]), paths[1:]
        if config is not None or set_:
            raise InputError(f"{saved.path}: a checkpoint has settings of its own; --config and --set are for others")
    config, options = take_words(paths, config, options)
    if saved is not None and config is not None:
        raise InputError(f"{config}: {saved.path} has settings of its own; give one of them")
    check_data(options.data, train_data=options.train_data)
    changes = [*chosen(options), Option("--workers 0", "engine", "workers", 0)]  # none are started
    resolved = resolve_options(config, saved, changes, set_)
    if saved is not None:
        from cnnpar.run.resume import check_data_there

        check_data_there(resolved.data, ("train",), "--train-data")
    from cnnpar.compiling import telling
    from cnnpar.report.kernels import as_text
    from cnnpar.run.kernels import compare

    with telling(lambda text: say(text, sys.stderr)):
        found = compare(resolved, saved, repeats)
    if json:
        say_json(found)
    else:
        say(as_text(found), sys.stdout)
    return 0


def _is_model(word: Path) -> bool:
    """Tell whether a word names a checkpoint, of any name, or a run's directory, or is neither settings nor data."""
    from cnnpar.files import open_input

    if word.suffix.lower() in (".json", ".onnx", ".safetensors") or (word / "model.json").exists():
        return True
    try:
        with os.fdopen(open_input(word), "rb") as file:
            return file.read(1) == b"{"  # as in the JSON of a checkpoint alone
    except OSError:
        return False


def _read(word: Path) -> "Resume":
    from cnnpar.run.resume import Resume
    from cnnpar.storage.checkpoint import read
    from cnnpar.storage.find import newest_in

    path = newest_in(word)
    return Resume(path, read(path))
