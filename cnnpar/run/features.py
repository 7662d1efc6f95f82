"""What a network has learned to look for, and what it computes: first-layer filters, activations of one image."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cnnpar.nn.chain import Chain
from cnnpar.nn.layers import Conv2D, Dense, Flatten
from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Array
from cnnpar.nn.workspace import Workspace
from cnnpar.report.html.contents import Maps

MOST_FILTERS = 64
MOST_MAPS = 16  # of a layer's activations
_ROW = 16  # numbers in a row, where they have no place in the image


def filters(network: Network, weights: Array) -> Maps | None:
    """Return the weights of the first layer that has any, as pictures; None where it is neither conv2d nor dense.

    `weights`: (network.layout.size,). Those over three channels are colours, each scaled to 0..1 on its own.
    """
    views, layers = network.layout.views(weights), network.layers
    height, width, channels = network.input_shape
    if isinstance(layers[0], Conv2D):
        name, weight = layers[0].name, views[f"{layers[0].name}.weight"]  # (kh, kw, C / groups, filters)
    elif isinstance(layers[0], Flatten) and len(layers) > 1 and isinstance(layers[1], Dense):
        name = layers[1].name
        weight = views[f"{name}.weight"].reshape(height, width, channels, -1)
    else:
        return None
    if weight.shape[2] == 3:
        maps = np.moveaxis(weight[..., :MOST_FILTERS], 3, 0)  # (filters, kh, kw, 3)
        low, high = (f(axis=(1, 2, 3), keepdims=True) for f in (maps.min, maps.max))
        return Maps(f"weights of {name}", (maps - low) / np.maximum(high - low, 1e-12), weight.shape[3])
    planes = weight.reshape(*weight.shape[:2], -1)  # (kh, kw, C filters)
    return Maps(f"weights of {name}", np.moveaxis(planes[..., :MOST_FILTERS], 2, 0), planes.shape[2])


def activations(network: Network, weights: Array, image: NDArray[np.float32]) -> Iterator[Maps]:
    """Yield the output of each layer, in evaluation, for one normalised image (H, W, C)."""
    for name, output in outputs(network, weights, image):
        if output.ndim == 3:
            maps = np.moveaxis(output[..., :MOST_MAPS], 2, 0)  # (channels, H, W)
            yield Maps(name, maps.copy(), output.shape[2])
        else:
            rows = np.full(math.ceil(len(output) / _ROW) * _ROW, np.nan, output.dtype)
            rows[: len(output)] = output
            width = min(len(output), _ROW)
            yield Maps(f"{name}: {len(output):,} numbers", rows.reshape(-1, _ROW)[np.newaxis, :, :width], 1)


def outputs(network: Network, weights: Array, image: NDArray[np.float32]) -> Iterator[tuple[str, Array]]:
    """Yield each layer's name and output without the axis of samples, (H, W, C) or (features,).

    The layers run one by one: in the network some are fused. Those that change nothing here, dropout, are left out.
    """
    views, chain = network.layout.views(weights), network.chain
    x: Array = image[:, :, np.newaxis].astype(network.dtype)  # (H, W, 1, C)
    for layer, shape, own, buffers in zip(
        chain.layers, chain.shapes[:-1], chain.parameters, chain.buffers, strict=True
    ):
        work = Workspace()
        work.p = {name: views[f"{layer.name}.{name}"] for name in (*own, *buffers)}
        y = Chain([layer], shape).forward(x, [work], training=False, rng=None)
        if y is not x:
            yield layer.name, y[..., 0, :].copy()
        x = y
