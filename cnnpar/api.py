"""cnnpar for scripts: `train` does what `cnnpar-train` does, `load` reads a model that predicts."""

import signal
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from cnnpar.blas import portable_environment
from cnnpar.config.data import GIVEN, Data
from cnnpar.config.resolve import read_toml, resolve, to_tables
from cnnpar.config.sections import Config
from cnnpar.data.given import samples_given
from cnnpar.data.load import Given
from cnnpar.data.readers.files import Part
from cnnpar.errors import InputError
from cnnpar.files import expanded
from cnnpar.report.progress import Progress
from cnnpar.run.model import Model
from cnnpar.run.prepare import prepare
from cnnpar.run.python_words import in_python_words
from cnnpar.run.resume import Resume, check_workers, find, settings_of
from cnnpar.run.stop import StopSignal
from cnnpar.run.summary import Summary
from cnnpar.run.train import train_run
from cnnpar.storage.checkpoint import read
from cnnpar.storage.rundir import Place, newest_in
from cnnpar.text import shown


@dataclass(frozen=True)
class Result:
    """Result of a run, and the model that came of it."""

    summary: Summary  # accuracies, digest, files: what `cnnpar-train --json` prints
    _checkpoint: Path  # absolute

    @property
    def test_accuracy(self) -> float | None:
        """Accuracy on the test data, in 0..1; None without test data."""
        return self.summary.test_accuracy

    @property
    def weights_sha256(self) -> str:
        """Digest of the final weights; the same for any number of workers."""
        return self.summary.weights_sha256

    @cached_property
    def model(self) -> "Model":
        """Model of the last step. Raises InputError where its checkpoint has gone, or is of a later state."""
        model = load(self._checkpoint)
        if model.weights_sha256 != self.weights_sha256:
            raise InputError(f"{self._checkpoint}: the run has gone on since; its model is `cnnpar.load` of that file")
        return model


def train(
    config: Config | Mapping[str, Any] | str | Path | None = None,
    *,
    data: Any = None,
    test: Any = None,
    validation: Any = None,
    run_dir: str | Path | None = None,
    resume: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = True,
) -> Result:
    """Train a network, with workers and files as configured, and wait for it; Ctrl-C saves first.

    `config`: a TOML file, its tables as dictionaries, or a `cnnpar.config.Config`; None: the defaults, or those of the
    checkpoint `resume`, a file or a run's directory, or "auto": that of `run_dir`, if there is one. Dictionaries change
    single settings of these. `overwrite`: a run that is in `run_dir` is removed, once this one can begin. `quiet`
    leaves the progress out. In paths, `~` and environment variables are replaced as a shell does.

    `data`, instead of files that `config` names: arrays (images, labels), or an object with `__len__` and
    `__getitem__` that gives (image, label), or a dictionary of both, such as a data set of torchvision or of Hugging
    Face's `datasets`. So are `test`, and `validation`, without which a part of `data` is held out. Images are
    (N, H, W) or (N, H, W, C) of uint8, uint16 or float32, or other numbers, which become one of these; labels (N,) of
    any hashable kind: whole numbers, names, members of an Enum. They are copied. Images of Pillow are treated as
    pictures in files are, by `data.size`, `fit`, `channels`, `background` and `on_bad`. A run that goes on needs the
    samples again.

    What is odd about the data is a warning, and in `Result.summary.notes`. Raises InputError or RunError, in one or two
    lines, as the command prints.
    """
    with in_python_words():
        config = Path(expanded(str(config))) if isinstance(config, str | Path) else config
        directory = Path(expanded(str(run_dir))) if run_dir else None
        resumed = find(expanded(str(resume)), directory, None) if resume is not None else None
        resolved = _settings(config, resumed, given=data is not None)
        given = _given(resolved, data, test, validation)
        name = config.stem if isinstance(config, Path) else resolved.data.title
        if overwrite and (resume is not None or directory is None):
            raise InputError("overwrite=True: goes with run_dir=..., and without resume=...")
        place = Place(directory, None, name, overwrite)
        main = threading.current_thread() is threading.main_thread()
        with StopSignal() if main else _Unstoppable() as stop:
            run = prepare(resolved, place, resumed, given)
            del resumed, given  # their arrays need not stay in memory
            for doubt in run.doubts if quiet else ():
                warnings.warn(doubt, stacklevel=2)
            summary = train_run(run, Progress("quiet" if quiet else "auto"), stop)
    if summary.stopped_by is not None:  # all is saved, so let it do what it would have done
        signal.raise_signal(signal.Signals[summary.stopped_by])
    return Result(summary, Path(summary.checkpoint).absolute())


def load(path: str | Path) -> Model:
    """Load the model of a checkpoint, or of a run's directory. Raises InputError when it cannot be read.

    In the path, `~` and environment variables are replaced as a shell does.
    """
    file = newest_in(Path(expanded(str(path))))
    return Model(read(file), str(file))


def _settings(config: object, resumed: Resume | None, *, given: bool) -> Config:
    """Return the settings that `config` means; see `train`. `given`: the samples are no files. Raises InputError."""
    own_workers = config is None  # those of the checkpoint, where there is one
    if config is None:
        resolved = settings_of(resumed.payload) if resumed else Config()
    elif isinstance(config, Config | Mapping):
        tables = msgspec.to_builtins(config, enc_hook=_plain)
        if resumed is not None and isinstance(config, Mapping):
            engine = tables.get("engine")
            own_workers = not (isinstance(engine, dict) and "workers" in engine)
            tables = _changed(to_tables(settings_of(resumed.payload)), tables)
        resolved = resolve(tables)
    elif isinstance(config, str | Path):
        resolved = resolve(read_toml(config), source=str(config))
    else:
        raise InputError(f"config: {shown(config)} is neither a TOML file, nor tables, nor a cnnpar.config.Config")
    if resumed is not None and own_workers:
        check_workers(resolved.engine, resumed.path)
    if resolved.engine.portable and portable_environment():
        raise InputError("engine.portable: kernels are chosen before numpy is loaded; use the command cnnpar-train")
    resolved = resolved.absolute()
    if not given:
        return resolved
    settings = resolved.data
    if config is not None:
        for key, value in (("train", settings.train), ("test", settings.test), ("name", settings.name)):
            if value not in ("", GIVEN, Data().name):
                what = f"config names data.{key} = {shown(value)}, and data=... gives others"
                raise InputError(f"{what}; leave one of them out")
    return replace(resolved, data=replace(settings, name=GIVEN, train="", test=""))


def _changed(settings: dict[str, Any], tables: Any) -> dict[str, Any]:
    """Return settings with those of some tables in their place; a table of another `type` is taken as a whole."""
    merged = dict(settings)
    for name, table in tables.items():
        old = settings.get(name)
        alike = (
            isinstance(table, dict) and isinstance(old, dict) and table.get("type", old.get("type")) == old.get("type")
        )
        merged[name] = {**old, **table} if alike and old is not None else table
    return merged


def _given(config: Config, data: object, test: object, validation: object) -> Given | None:
    """Return the samples that were given to `train`; None if there are none. Raises InputError."""
    parts: dict[Part, object] = {"train": data, "validation": validation, "test": test}
    there = {part: value for part, value in parts.items() if value is not None}
    if data is None and there:
        raise InputError(f"{next(iter(there))}=... goes with data=...; files are named in config, by data.test")
    return samples_given(there, config.data) if there else None


def _plain(value: Any) -> Any:
    """Turn numbers and arrays of numpy, paths and other mappings into plain data, as TOML has them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise InputError(f"configuration: {shown(value)} is no setting")


class _Unstoppable(StopSignal):
    """Stop signal of a thread that is not the main one: signals do not reach it."""

    def notice(self) -> None:
        """Do nothing: no signal comes."""
