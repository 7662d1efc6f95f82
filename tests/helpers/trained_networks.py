"""Made networks with random weights, as they leave, and what they give."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.choices import CrossEntropy, Loss
from cnnpar.data.dataset import PixelType
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.exchange.trained import Trained
from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Array
from cnnpar.nn.tables import layers_from_tables, named_layers

Tables = list[dict[str, Any]]
_MEANS = {"uint8": 120.0, "uint16": 30_000.0, "float32": 0.3}


def made(
    tables: Tables,
    shape: tuple[int, int, int],
    classes: int = 4,
    pixels: PixelType = "uint8",
    loss: Loss | None = None,
    scale: float = 1.0,
) -> Trained:
    """Return a network whose parameters and buffers are random, none of them as it was drawn."""
    layers = layers_from_tables(tables, shape, classes)
    network = Network(layers, shape, np.float32, loss or CrossEntropy(), (), "fast")
    random = np.random.default_rng(11)
    weights = network.init(3) if network.layout.size else np.zeros(0, np.float32)
    for name, values in network.layout.views(weights).items():
        if not name.endswith(".weight"):
            values[...] = random.uniform(0.5, 1.5, values.shape) - (0.8 if name.endswith(("bias", "shift")) else 0)
    mean = _MEANS[pixels] + np.arange(shape[2]) / 100
    std = _MEANS[pixels] / 2 + np.arange(shape[2]) / 100
    names = tuple(f"class {number}" for number in range(classes))
    known = Preprocessing(shape, tuple(mean.tolist()), tuple(std.tolist()), names, pixels)
    return Trained(network, weights, known, loss or CrossEntropy(), "0" * 64, scale)


def made_for(kind: str, table: dict[str, Any], shape: tuple[int, ...]) -> Trained:
    """Return a network of one layer for inputs of `shape`, flattened before it and after it as far as that takes."""
    (layer,) = named_layers([{"type": kind, **table}], classes=4)
    image = shape if len(shape) == 3 else (1, 1, shape[0])
    tables: Tables = [] if len(shape) == 3 else [{"type": "flatten"}]
    tables += [{"type": kind, **table}, {"type": "flatten"}]
    return made(tables, (image[0], image[1], image[2]), math.prod(layer.output_shape(shape)), "float32")


def images_for(trained: Trained, samples: int = 5) -> NDArray[Any]:
    """Return random images (N, H, W, C) of the network's pixels."""
    known = trained.preprocessing
    random = np.random.default_rng(5)
    shape = (samples, *known.image_shape)
    if known.pixels == "float32":
        return random.normal(0.3, 0.2, shape).astype(np.float32)
    return random.integers(0, np.iinfo(known.pixels).max, shape, known.pixels, endpoint=True)


def logits_of(trained: Trained, images: NDArray[Any]) -> Array:
    """Return the network's own logits (N, classes), as in evaluation."""
    return trained.network.logits(trained.weights, trained.preprocessing.normalise(images)).copy()
