"""Exponential moving average (EMA) of the weights: its formula, its use in evaluation, its place in checkpoints."""

from pathlib import Path

import numpy as np

from cnnpar.optim import update_ema
from cnnpar.optim.rules import BLOCK
from cnnpar.storage.checkpoint import read
from cnnpar.storage.packing import unpack
from tests.helpers.tiny_runs import settings, train, write_csv


def test_ema_agrees_with_its_formula() -> None:
    random = np.random.default_rng(0)
    average = random.standard_normal(BLOCK + 7)
    expected = average.copy()
    for step in range(40):
        parameters = random.standard_normal(len(average))
        update_ema(average, parameters, 0.7, step)
        keep = min(0.7, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * parameters
    np.testing.assert_allclose(average, expected, rtol=1e-12, atol=1e-12)


def test_ema_changes_evaluation_and_leaves_training_unchanged(tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "data.csv")
    kept = train(settings(csv, train={"ema_decay": 0.9}), tmp_path / "mean")
    plain = train(settings(csv, train={"ema_decay": 0.0}), tmp_path / "plain")
    _, with_mean = unpack(read(kept.checkpoint), "")
    network, without = unpack(read(plain.checkpoint), "")
    assert without.ema is None
    assert with_mean.ema is not None
    assert with_mean.parameters.tobytes() == without.parameters.tobytes()
    assert kept.weights_sha256 != plain.weights_sha256  # the mean is part of what a run has come to
    assert with_mean.history[-1].validation_loss != without.history[-1].validation_loss
    with with_mean.evaluation_weights() as weights:
        assert weights.tobytes() == with_mean.ema.tobytes()
    assert with_mean.parameters.tobytes() == without.parameters.tobytes()
    assert network.layout.size == len(with_mean.ema)
