"""PyTorch's twins of cnnpar's layers: one table, from a layer's class to a module of the same settings."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

try:
    import torch
    from torch import nn
except ModuleNotFoundError:
    sys.exit("scripts.bench.torch_layers needs PyTorch: pip install torch")

from cnnpar.nn.layers import LAYERS, Layer
from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Shape, pair

FORMATS = {"channels-last": torch.channels_last, "channels-first": torch.contiguous_format}


def build(network: Network) -> nn.Sequential:
    """Make the torch twin of a cnnpar network."""
    return twin(network.layers, network.input_shape)


def twin(layers: Sequence[Layer], shape: Shape) -> nn.Sequential:
    """Make the torch twin of layers for samples of `shape`, (H, W, C) or (features,)."""
    modules = []
    for layer in layers:
        modules.append(_MODULES[layer.__struct_config__.tag](layer, shape))
        shape = layer.output_shape(shape)
    return nn.Sequential(*modules)


class WithLoss(nn.Module):  # type: ignore[misc, unused-ignore]
    """Network and loss as one module, so that a compiler sees both."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Compute the mean cross-entropy of images (n, C, H, W)."""
        return nn.functional.cross_entropy(self.network(images), labels)


class _Residual(nn.Module):  # type: ignore[misc, unused-ignore]
    """The sum of two branches."""

    def __init__(self, layer: Any, shape: Shape) -> None:
        super().__init__()
        self.main, self.shortcut = (twin(branch, shape) for branch in layer.branches().values())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of both branches' outputs."""
        total: torch.Tensor = self.main(x) + self.shortcut(x)
        return total


def _conv2d(layer: Any, shape: Shape) -> nn.Module:
    windows, kernel = layer.windows(shape), pair(layer.kernel)
    before, settings = windows.start, (windows.dilation, windows.groups, layer.bias)
    after = [
        max(span + start - size, 0) for span, start, size in zip(windows.span(kernel), before, shape, strict=False)
    ]
    if before == (-after[0], -after[1]):
        return nn.Conv2d(shape[2], layer.channels, kernel, windows.stride, tuple(after), *settings)
    zeros = nn.ZeroPad2d((-before[1], after[1], -before[0], after[0]))  # "same" with an extra row or column
    return nn.Sequential(zeros, nn.Conv2d(shape[2], layer.channels, kernel, windows.stride, 0, *settings))


def _transposed(layer: Any, shape: Shape) -> nn.Module:
    settings = pair(layer.kernel), pair(layer.stride), pair(layer.padding), pair(layer.output_padding)
    return nn.ConvTranspose2d(shape[2], layer.channels, *settings, bias=layer.bias)


def _softmax(_layer: Any, _shape: Shape) -> nn.Module:
    return nn.Softmax(dim=1)  # the channels


def _global_average(_layer: Any, _shape: Shape) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _layer_norm(layer: Any, shape: Shape) -> nn.Module:
    return nn.LayerNorm([*shape[2:], *shape[:2]], layer.epsilon)  # (C, H, W), or (features,)


def _upsample(layer: Any, _shape: Shape) -> nn.Module:
    factor = tuple(map(float, pair(layer.factor)))
    return nn.Upsample(scale_factor=factor, mode=layer.mode, align_corners=None if layer.mode == "nearest" else False)


_MODULES: dict[Any, Callable[[Any, Shape], nn.Module]] = {
    "avgpool2d": lambda layer, _: nn.AvgPool2d(pair(layer.size), layer.strides()),
    "batchnorm2d": lambda layer, shape: nn.BatchNorm2d(shape[2], layer.epsilon, layer.momentum),
    "conv2d": _conv2d,
    "convtranspose2d": _transposed,
    "dense": lambda layer, shape: nn.Linear(shape[0], *layer.output_shape(shape)),
    "dropout": lambda layer, _: nn.Dropout(layer.rate),
    "elu": lambda layer, _: nn.ELU(layer.alpha),
    "flatten": lambda _layer, _shape: nn.Flatten(),
    "gelu": lambda _layer, _shape: nn.GELU(),
    "globalavgpool2d": _global_average,
    "groupnorm": lambda layer, shape: nn.GroupNorm(layer.groups, shape[-1], layer.epsilon),
    "layernorm": _layer_norm,
    "leakyrelu": lambda layer, _: nn.LeakyReLU(layer.slope),
    "maxpool2d": lambda layer, _: nn.MaxPool2d(pair(layer.size), layer.strides()),
    "relu": lambda _layer, _shape: nn.ReLU(),
    "residual": _Residual,
    "sigmoid": lambda _layer, _shape: nn.Sigmoid(),
    "silu": lambda _layer, _shape: nn.SiLU(),
    "softmax": _softmax,
    "tanh": lambda _layer, _shape: nn.Tanh(),
    "upsample2d": _upsample,
}
assert set(_MODULES) == set(LAYERS), "each layer has a twin"
