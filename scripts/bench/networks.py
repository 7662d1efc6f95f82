"""The networks that the benchmarks train, each once, as the layer tables of a configuration; and data for them.

cnnpar and its peers read the same table: cnnpar directly, PyTorch through `torch_layers.build`, JAX through
`jax_network.Pass`. A new network is one row.
"""

from typing import Any, NamedTuple

import numpy as np

from cnnpar.config.presets import preset_layers
from cnnpar.data.dataset import Dataset, ImageShape
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.nn.network import Network

SAMPLES = 32_768  # more than fits a cache as float32, and a whole number of batches
LEARNING_RATE, MOMENTUM = 0.01, 0.9  # Nesterov's, without weight decay, at a constant rate


class Task(NamedTuple):
    """A network and the kind of images it is trained on."""

    layers: tuple[dict[str, Any], ...]
    shape: ImageShape
    microbatch: int  # fastest on two cores with 2 MB of cache each; the default is measured beside it
    classes: int = 10


def _conv(channels: int) -> list[dict[str, Any]]:
    return [{"type": "conv2d", "channels": channels, "kernel": 3, "padding": "same"}, {"type": "relu"}]


def _normed(channels: int) -> list[dict[str, Any]]:
    conv, relu = _conv(channels)
    return [{**conv, "bias": False}, {"type": "batchnorm2d"}, relu]


_POOL: dict[str, Any] = {"type": "maxpool2d", "size": 2}
_DENSE: list[dict[str, Any]] = [{"type": "flatten"}, {"type": "dense", "units": 128}, {"type": "relu"}]
_END: list[dict[str, Any]] = [{"type": "flatten"}, {"type": "dense"}]

TASKS: dict[str, Task] = {
    "small": Task(
        (*_conv(16), _POOL, *_conv(32), _POOL, *_DENSE, {"type": "dense"}),
        (28, 28, 1),
        64,
    ),
    "bn": Task((*_normed(16), _POOL, *_normed(32), _POOL, *_normed(64), _POOL, *_END), (28, 28, 1), 64),
    "cifar": Task(
        (*(layer for width in (32, 64, 128) for layer in (*_conv(width), *_conv(width), _POOL)), *_END),
        (32, 32, 3),
        32,
    ),
    "resnet20": Task(tuple(preset_layers("resnet20")), (32, 32, 3), 32),
}


def make_data(task: Task) -> tuple[Dataset, Preprocessing]:
    """Make the samples that all sides train on."""
    return noise(task.shape, task.classes)


def noise(shape: ImageShape, classes: int) -> tuple[Dataset, Preprocessing]:
    """Make random uint8 images (SAMPLES, H, W, C) with labels, and their normalisation: speed depends on no content."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (SAMPLES, *shape), np.uint8)
    labels = random.integers(0, classes, SAMPLES)
    data = Dataset(images, labels, tuple(map(str, range(classes))))
    return data, Preprocessing.of(data)


def make_network(task: Task) -> Network:
    """Make cnnpar's network; the peers' are built from its `tables()`, which spell out every default."""
    return Network.from_tables(task.layers, task.shape, task.classes)
