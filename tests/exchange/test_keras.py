"""Weights in the layout "keras": each variable of a functional model finds its array by its path."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnpar.exchange.export import export
from tests.helpers.trained_networks import Tables, images_for, logits_of, made

pytest.importorskip("torch")  # what Keras computes by
os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")
layers = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras' own

TABLES: Tables = [
    {"type": "conv2d", "channels": 6, "stride": 2},
    {"type": "batchnorm2d"},
    {"type": "relu"},
    {"type": "conv2d", "channels": 6, "groups": 3, "bias": False},
    {"type": "convtranspose2d", "channels": 4, "kernel": 2, "stride": 2},
    {"type": "groupnorm", "groups": 2},
    {"type": "layernorm"},
    {"type": "residual", "layers": [{"type": "conv2d", "channels": 4}]},
    {"type": "flatten"},
    {"type": "dropout"},
    {"type": "dense", "units": 7},
    {"type": "silu"},
    {"type": "dense"},
]


class Block(layers.Layer):  # type: ignore[misc, name-defined]
    """A residual block; its convolution's path begins with the block's name."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.conv1 = layers.Conv2D(4, 3, padding="same", name="conv1")

    def call(self, x: Any) -> Any:
        return x + self.conv1(x)


def test_variables_of_keras_find_their_arrays_by_their_paths(tmp_path: Path) -> None:
    trained = made(TABLES, (8, 6, 3))
    file = tmp_path / "weights.npz"
    export(trained, file, "keras")
    x = first = keras.Input((8, 6, 3))
    for layer in (
        layers.Conv2D(6, 3, strides=2, padding="same", name="conv1"),
        layers.BatchNormalization(epsilon=1e-5, name="batchnorm1"),
        layers.ReLU(),
        layers.Conv2D(6, 3, padding="same", groups=3, use_bias=False, name="conv2"),
        layers.Conv2DTranspose(4, 2, strides=2, name="convtranspose1"),
        layers.GroupNormalization(2, epsilon=1e-5, name="groupnorm1"),
        layers.LayerNormalization(axis=[1, 2, 3], epsilon=1e-5, name="layernorm1"),
        Block("residual1"),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(7, activation="silu", name="dense1"),
        layers.Dense(4, name="dense2"),
    ):
        x = layer(x)
    model = keras.Model(first, x)
    for variable in model.weights:
        variable.assign(np.load(file)[variable.path])
    images = images_for(trained)
    found = np.asarray(model.predict(trained.preprocessing.normalise(images), verbose=0))
    wanted = logits_of(trained, images)
    assert (np.abs(found - wanted) <= 1e-4 * np.abs(wanted).max(axis=1, keepdims=True)).all()
    assert len(model.weights) == len(trained.arrays())
