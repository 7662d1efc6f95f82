"""cnnpar for scripts: `train` does what `cnnpar-train` does, `load` reads a model that predicts."""

import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cnnpar.blas import portable_environment, use_one_thread
from cnnpar.config.resolve import read_toml, resolve
from cnnpar.config.sections import Config
from cnnpar.errors import InputError
from cnnpar.report.progress import Progress
from cnnpar.run.prepare import prepare
from cnnpar.run.resume import check_workers, find, settings_of
from cnnpar.run.stop import StopSignal
from cnnpar.run.summary import Summary
from cnnpar.run.train import train_run
from cnnpar.storage.checkpoint import Payload, read
from cnnpar.storage.packing import unpack
from cnnpar.storage.rundir import Place, newest_in
from cnnpar.text import shown
from cnnpar.training.state import EpochRecord

_AT_A_TIME = 64  # images predicted in one pass


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


class Model:
    """A trained network, from a checkpoint alone. Several threads may use it; they take turns."""

    def __init__(self, payload: Payload, source: str) -> None:
        use_one_thread()
        self.config: Config = payload.config
        self.history: list[EpochRecord] = payload.history
        self.class_names: tuple[str, ...] = payload.preprocessing.class_names
        self.image_shape = payload.preprocessing.image_shape  # (H, W, C)
        self._preprocessing = payload.preprocessing
        self._turn = threading.Lock()  # a network computes in memory that it keeps
        self.network, state = unpack(payload, source)
        self.weights_sha256 = state.digest
        with state.evaluation_weights() as weights:
            self.weights = weights.copy()  # (network.layout.size,): parameters, and buffers behind them

    def parameters(self) -> dict[str, NDArray[np.float32]]:
        """Return parameters and buffers by name, such as conv1.weight: views of `weights`."""
        return self.network.layout.views(self.weights)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the probability of each class, (N, classes), for images as in `predict`.

        With the loss `binary_cross_entropy` each class has one of its own, and they need not add up to 1; models that
        were trained by `mse` or `hinge` rank the classes rightly, but what they give is no frequency.
        """
        whole = self._images(images)
        parts = (whole[start : start + _AT_A_TIME] for start in range(0, len(whole), _AT_A_TIME))
        with self._turn:
            found = [self.network.probabilities(self.weights, self._preprocessing.normalise(part)) for part in parts]
        return np.concatenate(found) if found else np.zeros((0, len(self.class_names)))

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the class of each image, (N,), as an index into `class_names`.

        Images are uint8, (N, H, W, C), or (N, H, W) if they are grey, of the size that the model was trained on.
        Raises InputError for others.
        """
        found: NDArray[np.int64] = self.probabilities(images).argmax(axis=1)
        return found

    def _images(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        try:
            whole = np.asarray(images)
        except ValueError as error:
            raise InputError(f"images: no array: {error}") from error
        if whole.ndim == 3 and self.image_shape[2] == 1:
            whole = whole[..., np.newaxis]
        if whole.dtype != np.uint8 or whole.ndim != 4 or whole.shape[1:] != self.image_shape:
            wanted = ", ".join(map(str, self.image_shape))
            raise InputError(f"images are {np.shape(images)} {whole.dtype}, and the model takes (N, {wanted}) uint8")
        return whole


def train(
    config: Config | Mapping[str, Any] | str | Path | None = None,
    *,
    run_dir: str | Path | None = None,
    resume: str | Path | None = None,
    quiet: bool = True,
) -> Result:
    """Train a network, with workers and files as configured, and wait for it; Ctrl-C saves first.

    `config`: a TOML file, its tables as dictionaries, or a `cnnpar.config.Config`; None: the defaults, or those of the
    checkpoint `resume`, a file or a run's directory, or "auto": that of `run_dir`, if there is one. `quiet` leaves the
    progress out. Raises InputError or RunError, in one or two lines, as the command prints.
    """
    resumed = find(str(resume), Path(run_dir) if run_dir else None, None) if resume is not None else None
    if config is None:
        resolved = settings_of(resumed.payload) if resumed else Config()
        if resumed:
            check_workers(resolved.engine, resumed.path)
    elif isinstance(config, Config | Mapping):
        resolved = resolve(msgspec.to_builtins(config, enc_hook=_plain))
    elif isinstance(config, str | Path):
        resolved = resolve(read_toml(config), source=str(config))
    else:
        raise InputError(f"config: {shown(config)} is neither a TOML file, nor tables, nor a cnnpar.config.Config")
    if resolved.engine.portable and portable_environment():
        raise InputError("engine.portable: kernels are chosen before numpy is loaded; use the command cnnpar-train")
    resolved = resolved.absolute()
    name = Path(config).stem if isinstance(config, str | Path) else resolved.data.title
    place = Place(Path(run_dir) if run_dir else None, None, name)
    main = threading.current_thread() is threading.main_thread()
    with StopSignal() if main else _Unstoppable() as stop:
        run = prepare(resolved, place, resumed)
        del resumed  # its arrays need not stay in memory
        summary = train_run(run, Progress("quiet" if quiet else "auto"), stop)
    if summary.stopped_by is not None:  # all is saved, so let it do what it would have done
        signal.raise_signal(signal.Signals[summary.stopped_by])
    return Result(summary, Path(summary.checkpoint).absolute())


def load(path: str | Path) -> Model:
    """Load the model of a checkpoint, or of a run's directory. Raises InputError when it cannot be read."""
    file = newest_in(Path(path))
    return Model(read(file), str(file))


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
