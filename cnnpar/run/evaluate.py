"""Evaluate the model of a checkpoint on test data."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cnnpar.blas import use_one_thread
from cnnpar.config.data import GIVEN
from cnnpar.config.sections import Engine
from cnnpar.data.load import load_splits, load_test_set
from cnnpar.data.suspicion import suspicions_of_test
from cnnpar.errors import InputError, RunError
from cnnpar.parallel.start import start
from cnnpar.parallel.work import Kind
from cnnpar.storage.checkpoint import Payload
from cnnpar.storage.packing import unpack
from cnnpar.training.microbatch import Training

_WITHOUT_PARTS = (
    ".csv",
    ".tsv",
    ".txt",
    ".gz",
    ".zip",
    ".bz2",
    ".xz",
)  # endings of files that have samples of one kind

if TYPE_CHECKING:
    from cnnpar.report.scores import Scores


def evaluate(payload: Payload, source: str | None, engine: Engine, path: str, warn: Callable[[str], None]) -> "Scores":
    """Score the model of checkpoint `path` on the data set or file `source`; None: on its run's own test data.

    Raises InputError where those do not fit the model, or the run had none; RunError where its outputs are not finite.
    """
    from cnnpar.report.scores import scores  # it draws tables, which no training does

    use_one_thread()
    network, state = unpack(payload, path)
    known = payload.preprocessing
    own = payload.config.data
    if (source or own.name) == GIVEN:
        what = "its run's data were given to cnnpar.train as data=..."
        raise InputError(f"{path}: {what}; give --test-data PATH or --data NAME")
    data = load_test_set(source, own, known.traits, warn) if source else load_splits(own).test
    if data is None:
        raise InputError(f"{path}: the run had no test data; give --test-data PATH or --data NAME")
    if data.traits != known.traits:
        raise InputError(f"{path}: its run's data have changed; give --test-data PATH or --data NAME")
    if source and _same_samples(source, own.train):
        warn(f"{source}: the model was trained on these; what it says of others is not known by that")
    for line in suspicions_of_test(data, known.mean, known.std):
        warn(line)
    samples = {Kind.TRAIN: 0, Kind.TEST: len(data)}
    work = Training(network, payload.preprocessing, payload.config.augment, payload.config.train, samples)
    server = start(engine, work, {Kind.TEST: data}, warn, lambda: False)
    try:
        with state.evaluation_weights() as weights:
            found = server.evaluate(weights, Kind.TEST)
    finally:
        server.close()
    if not math.isfinite(found.sums.loss):
        raise RunError(f"{path}: the loss of its outputs is {found.sums.loss}; its weights are too large to evaluate")
    return scores(found, known.class_names)


def _same_samples(source: str, train: str) -> bool:
    """Tell whether test data are the file of the training data, which has no test samples of its own."""
    try:
        return Path(source).suffix in _WITHOUT_PARTS and Path(source).samefile(train)
    except OSError:
        return False
