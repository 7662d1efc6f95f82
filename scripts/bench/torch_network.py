"""Networks of cnnpar in PyTorch: `build` makes the modules from the tables of layers, `load` copies the parameters."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

try:
    import torch
    from torch import nn
except ModuleNotFoundError:
    sys.exit("scripts.bench.torch_network needs PyTorch: pip install torch")

from cnnpar.nn.layers import Layer
from cnnpar.nn.network import Network
from cnnpar.nn.residual import SHORTCUT, Residual
from cnnpar.nn.shapes import Array, Shape, pair
from cnnpar.nn.windows import pad_sizes

_NORM_NAMES = {"weight": "scale", "bias": "shift"}


def build(network: Network) -> nn.Sequential:
    """Make the torch twin of a cnnpar network from its complete tables. Raises KeyError for a layer it lacks."""
    return _chain(network.layers, network.tables(), network.input_shape)


def load(twin: nn.Sequential, network: Network, parameters: Array) -> None:
    """Copy cnnpar's parameters (size,) to the twin, in torch's order of axes."""
    _load(twin, network.layers, network.layout.views(parameters), network.input_shape, "")


class Sum(nn.Module):  # type: ignore[misc, unused-ignore]
    """A residual block: the sum of the outputs of two branches."""

    def __init__(self, layers: nn.Sequential, shortcut: nn.Sequential) -> None:
        super().__init__()
        self.layers, self.shortcut = layers, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return both branches' sum; an empty one is the identity."""
        return self.layers(x) + self.shortcut(x)


class Mean(nn.Module):  # type: ignore[misc, unused-ignore]
    """Global average pooling: images (n, C, H, W) to (n, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return each channel's mean."""
        return x.mean((2, 3))


def _chain(layers: Sequence[Layer], tables: Sequence[dict[str, Any]], shape: Shape) -> nn.Sequential:
    modules = []
    for layer, table in zip(layers, tables, strict=True):
        output = layer.output_shape(shape)
        if isinstance(layer, Residual):
            branches = ((layer.layers, table["layers"]), (layer.shortcut, table["shortcut"]))
            modules.append(Sum(*(_chain(*branch, shape) for branch in branches)))
        else:
            modules.append(_MODULES[table["type"]](table, shape, output))
        shape = output
    return nn.Sequential(*modules)


def _conv2d(table: dict[str, Any], shape: Shape, _output: Shape) -> nn.Module:
    kernel, stride, dilation = (pair(table[key]) for key in ("kernel", "stride", "dilation"))
    padding = table["padding"]
    if padding == "same" and stride != (1, 1):  # which torch refuses
        sizes = [pad_sizes(*axis, padding) for axis in zip(shape[:2], kernel, stride, strict=True)]
        assert all(before == after for before, after in sizes)
        padding = tuple(before for before, _ in sizes)
    elif not isinstance(padding, str):
        padding = pair(padding)
    return nn.Conv2d(shape[2], table["channels"], kernel, stride, padding, dilation, table["groups"], table["bias"])


_MODULES: dict[str, Callable[[dict[str, Any], Shape, Shape], nn.Module]] = {
    "conv2d": _conv2d,
    "batchnorm2d": lambda table, shape, _output: nn.BatchNorm2d(shape[2], table["epsilon"], table["momentum"]),
    "relu": lambda _table, _shape, _output: nn.ReLU(),
    "maxpool2d": lambda table, _shape, _output: nn.MaxPool2d(pair(table["size"]), pair(table["stride"])),
    "globalavgpool2d": lambda _table, _shape, _output: Mean(),
    "flatten": lambda _table, _shape, _output: nn.Flatten(),
    "dense": lambda _table, shape, output: nn.Linear(shape[0], output[0]),
}


def _load(twin: nn.Sequential, layers: Sequence[Layer], views: Mapping[str, Array], shape: Shape, prefix: str) -> None:
    flattened: Shape = ()  # (H, W, C) of the image whose pixels are the next dense layer's features
    for layer, module in zip(layers, twin, strict=True):
        place = f"{prefix}{layer.name}."
        if isinstance(layer, Residual):
            _load(module.layers, layer.layers, views, shape, place)
            _load(module.shortcut, layer.shortcut, views, shape, f"{place}{SHORTCUT}.")
        else:
            _load_one(module, views, place, flattened)
        if not isinstance(module, nn.ReLU | nn.BatchNorm2d):
            flattened = shape if isinstance(module, nn.Flatten) else ()
        shape = layer.output_shape(shape)


def _load_one(module: nn.Module, views: Mapping[str, Array], place: str, flattened: Shape) -> None:
    for name, target in module.named_parameters():
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
