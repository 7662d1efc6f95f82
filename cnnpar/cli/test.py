"""`cnnpar test`: the model of a checkpoint is evaluated on test data."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number

from cnnpar.cli.console import say, say_json
from cnnpar.cli.options import DATA, FILES, OUTPUT, WORKERS, Debug, Json, NameOrPlace, Place, Whole, option
from cnnpar.cli.settings import check_data, is_data_name, read_before_data
from cnnpar.cli.shell_words import in_words_of_model
from cnnpar.config.data import DATA_NAMES
from cnnpar.config.sections import MOST_WORKERS
from cnnpar.errors import InputError
from cnnpar.text import did_you_mean


def evaluate(
    model: Annotated[Place | None, Parameter(help="The checkpoint: --from-path.")] = None,
    test: Annotated[NameOrPlace | None, Parameter(help="The test data: --test-data or --data.")] = None,
    /,
    *,
    from_path: Annotated[Place | None, option("The checkpoint: a model.json, or the run's directory.", FILES)] = None,
    test_data: Annotated[
        Place | None, option("Test data (default: those of the run): .csv[.gz], IDX, .npz, folders.", DATA)
    ] = None,
    data: Annotated[str | None, option("A known data set: digits or mnist.", DATA)] = None,
    workers: Annotated[
        Whole,
        Parameter(validator=Number(gte=0, lte=MOST_WORKERS)),
        option("Ray workers; 0: none, without Ray.", WORKERS),
    ] = 0,
    by_class: Annotated[bool, option("Show precision, recall and confusion of each class.", OUTPUT)] = False,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> int:
    """Test the model of a checkpoint; the file alone is enough."""
    from_path = _only(model, from_path)
    if test is not None:
        if test_data is not None or data is not None:
            raise InputError(f"{test} and --{'data' if data else 'test-data'}: two ways to say the same; give one")
        data, test_data = (str(test), None) if is_data_name(test) else (None, test)
    check_data(data, test_data=test_data)
    if data is not None and data not in DATA_NAMES:
        alike = did_you_mean(data, DATA_NAMES)
        raise InputError(f"--data {data}: no known data set{alike}; there are {', '.join(DATA_NAMES)}")
    from cnnpar.run.resume import check_data_there, settings_of

    path, payload = read_before_data(from_path)
    config = settings_of(payload)
    trained_on = config.data
    source = _as_path(test_data) if test_data else data or trained_on.name or trained_on.test or None
    if test_data is None and data is None:
        check_data_there(trained_on, ("test",) if trained_on.test else ("train",), "--test-data")
    engine = msgspec.structs.replace(config.engine, workers=workers, min_workers=0)
    from cnnpar.report.announced import announced
    from cnnpar.report.scores import as_text
    from cnnpar.run.evaluate import evaluate as evaluate_model

    note, asked = partial(say, stream=sys.stderr), source or trained_on.train
    with in_words_of_model(payload.preprocessing.image_shape), announced(note, f"testing on {asked}"):
        found = evaluate_model(payload, source, engine, str(path), note)
    if json:
        say_json(found)
    else:
        say(as_text(found, by_class), sys.stdout)
    return 0


def _only(model: Path | None, from_path: Path | None) -> Path:
    """Return the checkpoint that was given, in one of two ways. Raises InputError for none, and for both."""
    if model is not None and from_path is not None:
        raise InputError(f"{model} and --from-path: two ways to say the same; give one of them")
    found = model or from_path
    if found is None:
        raise InputError("which checkpoint? Name it first, as a file or a run's directory, or with --from-path")
    return found


def _as_path(path: Path) -> str:
    """Return the path as text that is not mistaken for the name of a data set."""
    return f"./{path}" if str(path) in DATA_NAMES else str(path)
