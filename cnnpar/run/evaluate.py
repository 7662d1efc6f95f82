"""Evaluate the model of a checkpoint on test data."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from cnnpar.blas import use_one_thread
from cnnpar.config.sections import Engine
from cnnpar.errors import RunError
from cnnpar.parallel.start import start
from cnnpar.parallel.work import Kind
from cnnpar.run.samples import samples_for_test
from cnnpar.storage.checkpoint import Payload
from cnnpar.storage.packing import unpack
from cnnpar.training.microbatch import Training

if TYPE_CHECKING:
    from cnnpar.report.scores import Scores


def evaluate(payload: Payload, source: str | None, engine: Engine, path: str, warn: Callable[[str], None]) -> "Scores":
    """Score the model of checkpoint `path` on the data set or file `source`; None: on its run's own test data.

    Raises InputError where those do not fit the model, or the run had none; RunError where its outputs are not finite.
    """
    from cnnpar.report.scores import scores  # it draws tables, which no training does

    use_one_thread()
    network, state = unpack(payload, path)
    data = samples_for_test(payload, source, path, warn)
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
    return scores(found, payload.preprocessing.class_names)
