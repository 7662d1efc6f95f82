"""cnnpar for scripts: `train` does what `cnnpar-train` does, `load` reads a model that predicts."""

import signal
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnpar.config.sections import Config
from cnnpar.data.given import samples_given
from cnnpar.data.load import Given
from cnnpar.data.readers.files import Part
from cnnpar.errors import InputError
from cnnpar.files import expanded
from cnnpar.report.history import History, as_arrays
from cnnpar.report.notebook import html_table
from cnnpar.report.progress import Progress
from cnnpar.run.model import Model
from cnnpar.run.prepare import prepare
from cnnpar.run.python_settings import settings_from
from cnnpar.run.python_words import in_python_words
from cnnpar.run.resume import find
from cnnpar.run.stop import StopSignal
from cnnpar.run.summary import Summary, facts
from cnnpar.run.train import train_run
from cnnpar.storage.checkpoint import read
from cnnpar.storage.find import newest_in
from cnnpar.storage.rundir import Place
from cnnpar.training.state import EpochRecord

if TYPE_CHECKING:
    from cnnpar.report.picture import Picture


@dataclass(frozen=True, repr=False)
class Result:
    """Result of a run, and the model that came of it. A notebook shows it as a table."""

    summary: Summary  # accuracies, digest, files: what `cnnpar-train --json` prints
    _checkpoint: Path  # absolute
    _records: tuple[EpochRecord, ...] = ()

    @property
    def test_accuracy(self) -> float | None:
        """Accuracy on the test data, in 0..1; None without test data."""
        return self.summary.test_accuracy

    @property
    def weights_sha256(self) -> str:
        """Digest of the final weights; the same for any number of workers."""
        return self.summary.weights_sha256

    @property
    def history(self) -> History:
        """Arrays by name, one number for each epoch, resumed ones included; NaN where nothing was measured.

        `epoch` (from 1), `train_loss`, `train_accuracy`, `validation_loss`, `validation_accuracy` (in 0..1), and
        `seconds` of each epoch.
        """
        return as_arrays(self._records)

    def plot(self) -> "Picture":
        """Return the accuracies over the epochs as a figure of matplotlib, which a notebook shows.

        Raises ValueError where no epoch is finished.
        """
        from cnnpar.report.plots import accuracy_figure  # here, as nothing else needs matplotlib

        return accuracy_figure(self._records, f"Accuracy of {self._checkpoint.parent.name}", self.summary.best_epoch)

    def __repr__(self) -> str:
        found = [f"{name} {value}" for name, value in facts(self.summary) if name != "note"]
        return f"<cnnpar.Result: {', '.join(found)}>"

    def _repr_html_(self) -> str:
        return html_table(facts(self.summary))

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

    From then on, BLAS, which numpy computes products by, has one thread in this process: more would change bits.

    What is odd about the data is a warning, and in `Result.summary.notes`. Raises InputError or RunError, in one or two
    lines, as the command prints.
    """
    with in_python_words():
        config = Path(expanded(str(config))) if isinstance(config, str | Path) else config
        directory = Path(expanded(str(run_dir))) if run_dir else None
        resumed = find(expanded(str(resume)), directory, None) if resume is not None else None
        resolved = settings_from(config, resumed, given=data is not None)
        given = _given(resolved, data, test, validation)
        name = config.stem if isinstance(config, Path) else resolved.data.title
        if overwrite and (resume is not None or directory is None):
            raise InputError("overwrite=True: goes with run_dir=..., and without resume=...")
        place = Place(directory, None, name, overwrite)
        main = threading.current_thread() is threading.main_thread()
        with StopSignal() if main else _Unstoppable() as stop:
            progress = Progress("quiet" if quiet else "auto")
            run = prepare(resolved, place, resumed, given, progress.note)
            del resumed, given  # their arrays need not stay in memory
            for doubt in run.doubts if quiet else ():
                warnings.warn(doubt, stacklevel=2)
            summary = train_run(run, progress, stop)
            records = tuple(run.state.history)
    if summary.stopped_by is not None:  # all is saved, so let it do what it would have done
        try:
            signal.raise_signal(signal.Signals[summary.stopped_by])
        except KeyboardInterrupt as error:
            error.add_note(f"The run is saved; cnnpar.train(resume={summary.checkpoint!r}) goes on.")
            raise
    return Result(summary, Path(summary.checkpoint).absolute(), records)


def load(path: str | Path) -> Model:
    """Load the model of a checkpoint, or of a run's directory. Raises InputError when it cannot be read.

    In the path, `~` and environment variables are replaced as a shell does.
    """
    file = newest_in(Path(expanded(str(path))))
    return Model(read(file), str(file))


def _given(config: Config, data: object, test: object, validation: object) -> Given | None:
    """Return the samples that were given to `train`; None if there are none. Raises InputError."""
    parts: dict[Part, object] = {"train": data, "validation": validation, "test": test}
    there = {part: value for part, value in parts.items() if value is not None}
    if data is None and there:
        raise InputError(f"{next(iter(there))}=... goes with data=...; files are named in config, by data.test")
    return samples_given(there, config.data) if there else None


class _Unstoppable(StopSignal):
    """Stop signal of a thread that is not the main one: signals do not reach it."""

    def notice(self) -> None:
        """Do nothing: no signal comes."""
