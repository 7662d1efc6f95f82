"""CNNClassifier: a convolutional network as an estimator of scikit-learn."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from cnnpar.data.given import samples_given
from cnnpar.errors import InputError
from cnnpar.report.history import as_arrays
from cnnpar.run.in_memory import train_in_memory
from cnnpar.run.model import Model
from cnnpar.run.prepare import prepare
from cnnpar.run.python_words import in_python_words
from cnnpar.sklearn.images import rows_of, shape_of
from cnnpar.sklearn.settings import settings
from cnnpar.storage.checkpoint import decode, encode
from cnnpar.storage.rundir import Place
from cnnpar.text import is_plain, shown

_SOURCE = "CNNClassifier.checkpoint_"


class CNNClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A convolutional network that is trained as `cnnpar.train` does, in this process, without files or output.

    The same parameters and samples give the same weights to the bit, also with workers. Sample weights and further
    training of a fitted one (`partial_fit`) are not supported; `init_from` starts with the weights of a checkpoint.
    BLAS, which numpy computes products by, has one thread in this process from the first fit on, as bits need it.

    Parameters
    ----------
    layers : str, list of dict, default=None
        Name of a preset, such as "resnet8", or layers, each with a `type`. None is the default network of
        `cnnpar-train`, on images below 4 x 4 without its pools.
    epochs : int, default=30
        Passes over the samples.
    batch_size : int, default=64
        Samples of one step.
    optimizer : str, default="sgd"
        "sgd", "adam", "adamw", "rmsprop", "adagrad", "lars" or "lamb".
    learning_rate : float, default=None
        Base rate, which the schedule multiplies. None is the optimizer's own default.
    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of the image that a row of X holds. None is a square grey one where
        the number of features is a square of 16 or more, and else one line.
    init_from : str or path, default=None
        Checkpoint or run directory, whose weights of the same name and shape the network starts with.
    random_state : int, RandomState, default=0
        Seed, as `train.seed` is; None draws one from numpy's global generator.
    workers : int, default=0
        Processes on Ray; 0 is this process alone, without Ray.
    config : dict of dict, default=None
        Further settings, such as {"augment": {"shift": 1}, "optimizer": {"weight_decay": 0}}. Nothing is held out for
        validation unless {"data": {"validation": 0.1}} says so.

    Attributes
    ----------
    classes_ : array of shape (K,)
        Labels, sorted.
    n_features_in_, feature_names_in_ : int, array of str
        Number of features, and their names where X has some.
    image_shape_ : tuple of int
        (H, W, C).
    history_ : dict of arrays
        Numbers of each epoch by name, as `cnnpar.Result.history`.
    checkpoint_ : bytes
        The model. Written to a file, it is what `cnnpar test`, `inspect` and `cnnpar.load` take; pickles hold it too.
    notes_ : tuple of str
        What is odd about the samples, a line each.
    """

    def __init__(
        self,
        layers: str | Sequence[Mapping[str, Any]] | None = None,
        *,
        epochs: int = 30,
        batch_size: int = 64,
        optimizer: str = "sgd",
        learning_rate: float | None = None,
        image_shape: Sequence[int] | None = None,
        init_from: str | Path | None = None,
        random_state: int | np.random.RandomState | None = 0,
        workers: int = 0,
        config: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.layers = layers
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.image_shape = image_shape
        self.init_from = init_from
        self.random_state = random_state
        self.workers = workers
        self.config = config

    def fit(self, X: Any, y: Any) -> "CNNClassifier":
        """Train a new network; return self.

        X: (N, features), or images (N, H, W) or (N, H, W, C); any finite numbers, which are taken as float32. y: (N,)
        labels, such as numbers or names, of two classes or more. Raises ValueError for what does not fit, and
        cnnpar.RunError where the training diverges.
        """
        for fitted in ("checkpoint_", "_model"):  # a fit that fails leaves no model of other classes
            self.__dict__.pop(fitted, None)
        rows, found = rows_of(X)
        rows, y = validate_data(self, rows, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y holds one class only, {shown(self.classes_.tolist()[0])}; at least two classes are needed"
            )
        self.image_shape_ = shape_of(rows.shape[1], self.image_shape, found)
        with _as_value_errors():
            config = settings(self.get_params(deep=False), self._seed(), self.image_shape_)
            given = samples_given({"train": (rows.reshape(-1, *self.image_shape_), labels)}, config.data)
            named = replace(given["train"], class_names=_names(self.classes_))
            run = prepare(config, Place(), None, {"train": named})
            payload = train_in_memory(run)
        self.notes_ = run.doubts
        self.history_ = as_arrays(payload.history)
        self.checkpoint_ = encode(payload)
        self._model = Model(payload, _SOURCE)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the label of each sample, (N,). Raises ValueError for others than those of the training."""
        best = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class, (N, K), in the order of `classes_`; see `cnnpar.Model.probabilities`.

        With the loss `binary_cross_entropy` a row need not add up to 1.
        Raises ValueError for samples that are not like those of the training.
        """
        check_is_fitted(self)
        rows, found = rows_of(X)
        rows = validate_data(self, rows, reset=False, dtype=np.float32)
        images = rows.reshape(-1, *shape_of(rows.shape[1], self.image_shape_, found))
        with _as_value_errors():
            return self._model.probabilities(images)

    def _seed(self) -> int:
        """Return the seed of a run, which is drawn unless `random_state` is one."""
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31))

    def __sklearn_is_fitted__(self) -> bool:
        """Tell whether there is a model."""
        return hasattr(self, "checkpoint_")

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled and copied: parameters, and the model as the bytes of its checkpoint."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_model"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy. Raises cnnpar.InputError for a checkpoint that was changed."""
        super().__setstate__(state)
        if "checkpoint_" in state:
            self._model = Model(decode(self.checkpoint_, _SOURCE), _SOURCE)


def _names(classes: NDArray[Any]) -> tuple[str, ...]:
    """Return names of classes for the checkpoint: the labels as text, or numbers where that is no name of one line."""
    names = tuple(map(str, classes.tolist()))
    usual = all(name.strip() and is_plain(name) for name in names) and len({*names}) == len(names)
    return names if usual else tuple(map(str, range(len(names))))


@contextmanager
def _as_value_errors() -> Iterator[None]:
    """Raise what is wrong with input as ValueError, as scikit-learn expects."""
    try:
        with in_python_words():
            yield
    except InputError as error:
        raise ValueError(str(error).removeprefix("data: ")) from error
