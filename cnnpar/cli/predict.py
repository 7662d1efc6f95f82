"""`cnnpar predict`: the classes of pictures, CSV files and arrays, by the model of a checkpoint."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from cnnpar.cli.answers import AnswerOptions, opened_outputs
from cnnpar.cli.console import say
from cnnpar.cli.options import DATA, Channels, Debug, Json, Place, option, size_of
from cnnpar.cli.settings import read_before_data
from cnnpar.errors import InputError, RunError
from cnnpar.text import listed

if TYPE_CHECKING:
    from cnnpar.config.data import Data
    from cnnpar.report.predictions import Answers
    from cnnpar.storage.checkpoint import Payload


_DEFAULTS = AnswerOptions()
_MOST_ALIKE = 3  # inputs that the same is wrong with, and that are named


class _NothingAnswered(Exception):  # noqa: N818  # what was wrong was said
    """No input could be read: no file is written."""


class _Failures:
    """Inputs that are left out, and why: of those with which the same is wrong, few are named."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []
        self._alike = Counter[str]()  # inputs, by what is wrong

    def add(self, name: str, line: str) -> None:
        """Take an input and the line that says what is wrong with it."""
        self.all.append((name, line))
        what = line.removeprefix(name)
        self._alike[what] += 1
        if self._alike[what] <= _MOST_ALIKE:
            say(f"cnnpar: error: {line}", sys.stderr)

    def say_rest(self) -> None:
        """Say how many were not named."""
        for what, times in self._alike.items():
            if times > _MOST_ALIKE:
                say(f"cnnpar: error: {times - _MOST_ALIKE:,} other inputs{what}", sys.stderr)


def _loaded(model: Path, changes: dict[str, Any]) -> "tuple[str, Payload, Data]":
    """Return the checkpoint's path and content, and how its samples are read. Raises InputError."""
    import msgspec

    from cnnpar.run.resume import settings_of

    path, payload = read_before_data(model)
    return str(path), payload, msgspec.structs.replace(settings_of(payload).data, **changes)


def _announced(
    options: AnswerOptions, inputs: Sequence[Path], note: Callable[[str], None]
) -> AbstractContextManager[None]:
    """Have it said what is done, where no answers are seen as they come."""
    from cnnpar.report.announced import announced

    if options.out is None:
        return nullcontext()
    return announced(note, f"predicting {listed([*map(str, inputs)], _MOST_ALIKE)}")


def predict(
    model: Annotated[Place, Parameter(help="The checkpoint: a model.json, or the run's directory.")],
    /,
    *inputs: Annotated[Place, Parameter(help="Pictures, folders of them, .csv, .npz, .npy, IDX; -: standard input.")],
    options: AnswerOptions = _DEFAULTS,
    size: Annotated[str | None, option("HEIGHT,WIDTH that pictures get (default: as in the training).", DATA)] = None,
    channels: Annotated[
        Channels | None,
        option("Channels that they get: 1, grey, or 3, colour (default: as in the training).", DATA),
    ] = None,
    label: Annotated[
        str | None, option("Column of the label in a CSV, which is left out: first, last, NAME.", DATA)
    ] = None,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> int:
    """Predict the classes of samples: the most likely one of each, and its probability.

    Each input that cannot be read is a line on standard error; the exit code
    is then 1, or 2 if none can be read.
    """
    if not inputs:
        raise InputError("which inputs? Name pictures, folders or files behind the checkpoint; - is standard input")
    options.check([model, *inputs])
    changes = {"size": size_of(size) if size else None, "channels": channels, "label": label}
    from cnnpar.data.readers.inputs import opened
    from cnnpar.run.predict import predict as predict_inputs
    from cnnpar.run.samples import same_samples

    path, payload, settings = _loaded(model, {key: value for key, value in changes.items() if value is not None})
    failures, count = _Failures(), 0

    def add(answers: "Answers") -> None:
        nonlocal count
        count += len(answers.origins)
        for output in outputs:
            output.add(answers)

    names, note = payload.preprocessing.class_names, partial(say, stream=sys.stderr)
    for source in (source for source in inputs if same_samples(str(source), settings.train)):
        note(f"{source}: the model was trained on these")
    try:
        with opened(inputs) as sources, opened_outputs(options, names, json) as outputs:
            with _announced(options, inputs, note):
                predict_inputs(payload, path, sources, settings, add, failures.add, note)
            if not count:
                raise _NothingAnswered
            for output in outputs:
                output.end(failures.all)
    except _NothingAnswered:
        return InputError.exit_code
    finally:
        failures.say_rest()
    if options.out is not None and not json:
        say(f"{count:,} sample{'s' * (count > 1)} predicted, written to {options.out}", sys.stdout)
    return RunError.exit_code if failures.all else 0
