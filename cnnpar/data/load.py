"""Load the data of a run: choose the reader, check labels and shapes, hold out validation samples.

Every fault of a file raises InputError, which names the file, the place in it, and what was expected.
"""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnpar import rng
from cnnpar.config.sections import DATA_NAMES, Data
from cnnpar.data.dataset import Dataset, ImageShape, Splits
from cnnpar.data.readers import csv_file, folder, idx, named, npz
from cnnpar.data.readers.files import CheckLabels, Part, PlaceOf, RawSamples
from cnnpar.errors import InputError, reason
from cnnpar.text import dimensions, listed

_ROWS = 1024  # samples that are moved at a time


def load_splits(settings: Data) -> Splits:
    """Read the data of a run and split them. Raises InputError.

    The test samples are those of `settings.test`, or else the source's own, if it has any.
    """
    source = settings.name or settings.train
    check = partial(_check_training_labels, source)
    found = _read_source(source, settings.shape, "train", check)
    check(found.labels, found.place_of)
    train = Dataset(found.images, found.labels, found.class_names or tuple(map(str, range(found.labels.max() + 1))))
    if settings.shape and (*settings.shape, 1)[:3] != train.image_shape:
        shapes = f"images are {dimensions(train.image_shape)}, but data.shape is {dimensions(settings.shape)}"
        raise InputError(f"{source}: {shapes}; it is needed for CSV only")
    test_source = settings.test or (source if found.has_test else "")
    test = load_test_set(test_source, train.image_shape, train.class_names) if test_source else None
    train, validation = _hold_out(source, train, settings.validation)
    return Splits(train, validation, test)


def load_test_set(source: str, image_shape: ImageShape, class_names: tuple[str, ...]) -> Dataset:
    """Read test samples of the given image shape and classes; not every class needs to occur. Raises InputError.

    `source` is a name of `config.sections.DATA_NAMES` (its test part), or else a path; `./digits` is always a path.
    """
    check = partial(_check_test_labels, source, class_names)
    found = _read_source(source, image_shape, "test", check)
    shape = found.images.shape[1:]
    if shape != image_shape:
        raise InputError(f"{source}: images are {dimensions(shape)}, but training had {dimensions(image_shape)}")
    labels = found.labels
    if found.class_names is not None:
        unknown = [name for name in found.class_names if name not in class_names]
        if unknown:
            raise InputError(f"{source}: class {unknown[0]!r} was not in training, which had {listed(class_names)}")
        labels = np.array([class_names.index(name) for name in found.class_names])[labels]
    check(labels, found.place_of)
    return Dataset(found.images, labels, class_names)


def _read_source(source: str, shape: tuple[int, ...], part: Part, check: CheckLabels) -> RawSamples:
    """Read the samples of a named data set or of a path, by the reader for its format. Raises InputError."""
    path = Path(source)
    name = path.name.lower()
    try:
        if source in DATA_NAMES:
            return named.read(source, part, check)
        if path.is_dir():
            return folder.read(path)
        if not path.exists():
            raise InputError(f"{source}: no such file or folder")
        if name.endswith((".csv", ".csv.gz")):
            return csv_file.read(path, shape)
        if name.endswith(".npz"):
            return npz.read(path, part, check)
        if idx.looks_like(path):
            return idx.read(path, check)
        if path.is_fifo():  # such as `<(zcat train.csv.gz)`
            return csv_file.read(path, shape)
    except MemoryError as error:
        raise InputError(f"{source}: does not fit into memory") from error
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {reason(error)}") from error
    raise InputError(
        f"{source}: unknown kind of file; expected .csv, .csv.gz, .npz, "
        "IDX images (*idx3-ubyte or *idx3-ubyte.gz), or a folder of class folders"
    )


def _check_training_labels(source: str, labels: NDArray[np.int64], place_of: PlaceOf) -> None:
    """Raise InputError unless labels are 0..K-1 and each of them occurs."""
    if labels.min() < 0:
        first = int(np.flatnonzero(labels < 0)[0])
        raise InputError(f"{source}: {place_of(first)}: label {labels[first]} is below 0")
    present = np.unique(labels)
    highest = int(present[-1])
    if highest != len(present) - 1:
        missing = int(np.flatnonzero(present != np.arange(len(present)))[0])
        gap = f"label {missing} never occurs, but {highest} does"
        raise InputError(f"{source}: {gap}; number the classes from 0 without gaps")


def _check_test_labels(source: str, class_names: tuple[str, ...], labels: NDArray[np.int64], place_of: PlaceOf) -> None:
    """Raise InputError unless training had all labels."""
    outside = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    if outside.size:
        first = int(outside[0])
        raise InputError(
            f"{source}: {place_of(first)}: label {labels[first]} was not in training, "
            f"which had 0 to {len(class_names) - 1}"
        )


def _hold_out(source: str, train: Dataset, share: float) -> tuple[Dataset, Dataset | None]:
    """Split training data into a training and a validation part, of about `share` of the samples; None if it is 0.

    The choice depends on the number of samples alone, so that runs of different seeds are measured on the same ones.
    """
    if not share:
        return train, None
    count = max(1, round(share * len(train)))
    if count >= len(train):
        raise InputError(
            f"{source}: data.validation = {share} of {len(train)} samples leaves none to train on; "
            "set it to 0, or give more samples"
        )
    order = rng.permutation(len(train), rng.VALIDATION, 0, len(train))
    return _split(train, np.sort(order[count:]), np.sort(order[:count]))


def _split(data: Dataset, kept: NDArray[np.int64], held: NDArray[np.int64]) -> tuple[Dataset, Dataset]:
    """Return the samples at two lists of sorted indices, together all, as two parts of the same arrays, in place."""
    for array in (data.images, data.labels):
        rest = array[held]
        for begin in range(0, len(kept), _ROWS):  # no index is below its new place, so none is overwritten too early
            indices = kept[begin : begin + _ROWS]
            array[begin : begin + len(indices)] = array[indices]
        array[len(kept) :] = rest
    first, second = slice(0, len(kept)), slice(len(kept), len(data))
    return (
        Dataset(data.images[first], data.labels[first], data.class_names),
        Dataset(data.images[second], data.labels[second], data.class_names),
    )
