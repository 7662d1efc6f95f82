"""Parameters of cnnpar's networks for their twins in PyTorch, which torch_layers.py makes."""

import sys
from collections.abc import Mapping, Sequence

try:
    import torch
    from torch import nn
except ModuleNotFoundError:
    sys.exit("scripts.bench.torch_network needs PyTorch: pip install torch")

from cnnpar.nn.layers import Layer
from cnnpar.nn.network import Network
from cnnpar.nn.residual import SHORTCUT, Residual
from cnnpar.nn.shapes import Array, Shape

_NORM_NAMES = {"weight": "scale", "bias": "shift"}


def load(twin: nn.Sequential, network: Network, parameters: Array) -> None:
    """Copy cnnpar's parameters (size,) to the twin, in torch's order of axes."""
    _load(twin, network.layers, network.layout.views(parameters), network.input_shape, "")


def _load(twin: nn.Sequential, layers: Sequence[Layer], views: Mapping[str, Array], shape: Shape, prefix: str) -> None:
    flattened: Shape = ()  # (H, W, C) of the image whose pixels are the next dense layer's features
    for layer, module in zip(layers, twin, strict=True):
        place = f"{prefix}{layer.name}."
        if isinstance(layer, Residual):
            _load(module.main, layer.layers, views, shape, place)
            _load(module.shortcut, layer.shortcut, views, shape, f"{place}{SHORTCUT}.")
        else:
            _load_one(module, views, place, flattened)
        if not isinstance(module, nn.ReLU | nn.BatchNorm2d):
            flattened = shape if isinstance(module, nn.Flatten) else ()
        shape = layer.output_shape(shape)


def _load_one(module: nn.Module, views: Mapping[str, Array], place: str, flattened: Shape) -> None:
    for name, target in module.named_parameters():
        name = name.rpartition(".")[2]  # a convolution may have a module of zeros before it
        own = _NORM_NAMES[name] if isinstance(module, nn.BatchNorm2d) else name
        source = torch.from_numpy(views[place + own].copy())
        if name == "weight" and flattened:
            source = source.reshape(*flattened, -1)
        if source.ndim == 4:
            source = source.permute(3, 2, 0, 1)  # (h, w, C, channels) to (channels, C, h, w)
        elif source.ndim == 2:
            source = source.T
        with torch.no_grad():
            target.copy_(source.reshape(target.shape))
