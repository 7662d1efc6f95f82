"""Choose the samples that a trained model is measured on, and look at what is odd about them."""

from collections.abc import Callable
from pathlib import Path

from cnnpar.config.data import GIVEN
from cnnpar.data.dataset import Dataset
from cnnpar.data.load import load_splits, load_test_set
from cnnpar.data.suspicion import suspicions_of_test
from cnnpar.errors import InputError
from cnnpar.run.resume import check_data_there
from cnnpar.storage.checkpoint import Payload

# Endings of files that have samples of one kind.
_WITHOUT_PARTS = frozenset({".csv", ".tsv", ".txt", ".gz", ".zip", ".bz2", ".xz"})


def samples_for_test(payload: Payload, source: str | None, path: str, warn: Callable[[str], None]) -> Dataset:
    """Read the test data for the model of checkpoint `path`: `source`, or else those of its run.

    Raises InputError where they do not fit the model, or the run had none.
    """
    known, own = payload.preprocessing, payload.config.data
    if (source or own.name) == GIVEN:
        what = "its run's data were given to cnnpar.train as data=..."
        raise InputError(f"{path}: {what}; give --test-data PATH or --data NAME")
    data = load_test_set(source, own, known.traits, warn) if source else load_splits(own).test
    if data is None:
        raise InputError(f"{path}: the run had no test data; give --test-data PATH or --data NAME")
    return _looked_at(data, payload, source, path, warn)


def held_out_samples(
    payload: Payload, source: str | None, path: str, warn: Callable[[str], None]
) -> tuple[Dataset, str]:
    """Read samples that a run was not trained on, and say which: `source`, its test data, or else its validation part.

    Raises InputError where there are none, or those of the run have gone or changed.
    """
    own = payload.config.data
    if source is None and own.name != GIVEN:
        check_data_there(own, ("test",) if own.test else ("train",), "--test-data")
    source = source or own.test or None
    if source or own.name:
        return samples_for_test(payload, source or own.name, path, warn), f"test data of {source or own.name}"
    splits = load_splits(own, payload.preprocessing.hold_out)
    if splits.test is not None:
        return _looked_at(splits.test, payload, None, path, warn), f"test data of {own.train}"
    if splits.validation is None:
        raise InputError(f"{path}: the run had no test data, and held none out; give --test-data PATH or --data NAME")
    return _looked_at(splits.validation, payload, None, path, warn), f"validation part of {own.train}"


def _looked_at(data: Dataset, payload: Payload, source: str | None, path: str, warn: Callable[[str], None]) -> Dataset:
    """Return the data, after a warning of what is odd about them. Raises InputError where they do not fit."""
    known = payload.preprocessing
    if data.traits != known.traits:
        raise InputError(f"{path}: its run's data have changed; give --test-data PATH or --data NAME")
    if source and same_samples(source, payload.config.data.train):
        warn(f"{source}: the model was trained on these; what it says of others is not known by that")
    for line in suspicions_of_test(data, known.mean, known.std):
        warn(line)
    return data


def same_samples(source: str, train: str) -> bool:
    """Tell whether test data are the file of the training data, which has no test samples of its own."""
    try:
        return Path(source).suffix in _WITHOUT_PARTS and Path(source).samefile(train)
    except OSError:
        return False
