"""cnnpar for scripts: `train` does what `cnnpar-train` does, `load` reads a model that predicts."""

import signal
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from cnnpar.blas import use_one_thread
from cnnpar.config.sections import Config
from cnnpar.data.dataset import Pixels
from cnnpar.data.given import image_array, samples_given
from cnnpar.data.load import Given
from cnnpar.data.pixels import as_pixels_like
from cnnpar.data.readers.arrays import channels_first, channels_hint, is_turned
from cnnpar.data.readers.files import Part
from cnnpar.data.readers.pillow_images import converted
from cnnpar.errors import InputError
from cnnpar.files import expanded
from cnnpar.report.history import History, as_arrays
from cnnpar.report.notebook import html_table
from cnnpar.report.progress import Progress
from cnnpar.run.prepare import prepare
from cnnpar.run.python_settings import settings_from
from cnnpar.run.python_words import in_python_words
from cnnpar.run.resume import find
from cnnpar.run.stop import StopSignal
from cnnpar.run.summary import Summary, facts
from cnnpar.run.train import train_run
from cnnpar.storage.checkpoint import Payload, read
from cnnpar.storage.packing import unpack
from cnnpar.storage.rundir import Place, newest_in
from cnnpar.training.state import EpochRecord

if TYPE_CHECKING:
    from cnnpar.report.picture import Picture

Images = ArrayLike | Image.Image | Sequence[Image.Image]

_AT_A_TIME = 64  # images predicted in one pass


@dataclass(frozen=True)
class Result:
    """Result of a run, and the model that came of it. A notebook shows it as a table."""

    summary: Summary  # accuracies, digest, files: what `cnnpar-train --json` prints
    _checkpoint: Path  # absolute
    _records: tuple[EpochRecord, ...] = field(default=(), repr=False)

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

    def _repr_html_(self) -> str:
        return html_table(facts(self.summary))

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

    def probabilities(self, images: Images) -> NDArray[np.float64]:
        """Return the probability of each class, (N, classes), for images as in `predict`; for a single one (classes,).

        With the loss `binary_cross_entropy` each class has one of its own, and they need not add up to 1; models that
        were trained by `mse` or `hinge` rank the classes rightly, but what they give is no frequency.
        """
        whole, single = self._images(images)
        parts = (whole[start : start + _AT_A_TIME] for start in range(0, len(whole), _AT_A_TIME))
        with self._turn:
            found = [self.network.probabilities(self.weights, self._preprocessing.normalise(part)) for part in parts]
        if single:
            return np.array(found[0][0])
        return np.concatenate(found) if found else np.zeros((0, len(self.class_names)))

    def predict(self, images: Images) -> NDArray[np.int64]:
        """Return the class of each image, (N,), as an index into `class_names`; for a single one a number of numpy, ().

        Images are (N, H, W, C), or one of them, (H, W, C), and without C if they are grey; of the size, the type and
        the range of those that the model was trained on. `data.scale` of the run multiplies them as it did those.
        A model of float32 takes whole numbers too, but for uint8 and uint16, which are likely to have another range.
        Tensors of torch may have their channels first. An image of Pillow, or a list of them, becomes what it would
        become in training. Raises InputError for others.
        """
        found: NDArray[np.int64] = self.probabilities(images).argmax(axis=-1)
        return found

    def _images(self, images: Images) -> tuple[Pixels, bool]:
        """Return images as (N, H, W, C), of the type of the training's, and whether a single one was given."""
        if pictures := _pictures(images):
            pixels = converted(pictures, self.config.data)
            if pixels.shape[1:] != self.image_shape or pixels.dtype != self._preprocessing.pixels:
                raise self._unlike(pixels, "; with data.size and data.channels in its training, pictures become that")
            return pixels, isinstance(images, Image.Image)
        try:
            whole = image_array(images)
        except ValueError as error:
            raise InputError(f"images: no array: {error}") from error
        shape, wanted = whole.shape, self._preprocessing.pixels
        turned = channels_first(shape[-3:]) or is_turned(shape[-3:], self.image_shape)
        if hasattr(images, "detach") and (whole.ndim == 4 or self.image_shape[2] > 1) and turned:
            whole = np.moveaxis(whole, -3, -1)  # a tensor of torch
        if self.image_shape[2] == 1 and shape[-2:] == self.image_shape[:2] and whole.ndim < 4:
            whole = whole[..., np.newaxis]
        single = whole.shape == self.image_shape
        if single:
            whole = whole[np.newaxis]
        fits = whole.ndim == 4 and whole.shape[1:] == self.image_shape and whole.dtype.kind in "buif"
        if fits:
            pixels = as_pixels_like(whole, self.config.data.scale, wanted, "images")
        if not fits or pixels.dtype != wanted:
            raise self._unlike(whole, self._remedy(whole) if fits else channels_hint(whole.shape, self.image_shape))
        return pixels, single

    def _unlike(self, images: NDArray[Any], remedy: str) -> InputError:
        """Return the error of images that the model does not take."""
        takes = f"(N, {', '.join(map(str, self.image_shape))}) {self._preprocessing.pixels}"
        return InputError(f"images are {images.shape} {images.dtype}, and the model takes {takes}{remedy}")

    def _remedy(self, images: NDArray[Any]) -> str:
        """Say how images of another type become those of the model's."""
        wanted, (low, high) = self._preprocessing.pixels, (images.min(), images.max())
        if wanted != "float32" and images.dtype.kind == "f":
            most = np.iinfo(wanted).max
            return f"; np.rint(images * {most}).astype(np.{wanted}) turns 0 to 1 into 0 to {most}"
        mean = ", ".join(f"{value:.4g}" for value in self._preprocessing.mean)
        return f"; bring {low:g} to {high:g} to the range of the training, whose mean was {mean}, and to that type"


def _pictures(images: object) -> list[Image.Image]:
    """Return images of Pillow: one, or those of a list; none of what is something else."""
    members = images if isinstance(images, list | tuple) else (images,)
    pictures = [member for member in members if isinstance(member, Image.Image)]
    return pictures if len(pictures) == len(members) else []


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
        resolved = settings_from(config, resumed, given=data is not None)
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
