"""Layers as ONNX nodes (opset 17): one converter a layer, in a table.

Images are (N, C, H, W) between nodes, as ONNX has them, and vectors (N, features). A converter appends the nodes of a
layer to its place in the graph, and returns the name of the output.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cnnpar.errors import InputError
from cnnpar.exchange.layouts import TORCH_AXES
from cnnpar.exchange.onnx_graph import Place
from cnnpar.nn.layers import (
    ELU,
    BatchNorm2D,
    Conv2D,
    ConvTranspose2D,
    GroupNorm,
    Layer,
    LayerNorm,
    LeakyReLU,
    Upsample2D,
)
from cnnpar.nn.layers.pool import Pool2D
from cnnpar.nn.residual import Residual
from cnnpar.nn.shapes import Pair, pair
from cnnpar.nn.windows import extent, pad_sizes

Converter = Callable[[Any, str, Place], str]  # of the layer, the name of its input, and its place

_KERNEL = TORCH_AXES[4]  # (H, W, C, channels) -> (channels, C, H, W), and so for the kernel of a transposed convolution


def convert(layers: Sequence[Layer], x: str, place: Place, within: str = "") -> str:
    """Append the nodes of layers in order, from the value `x` on; return the name of the last one's output.

    `place` has the graph, all arrays by name, and the shape of the input; `within`: the beginning of the layers' names.
    Raises InputError, which names the layer, for one that has no converter.
    """
    shape = place.shape
    for layer in layers:
        kind, name = str(layer.__struct_config__.tag), within + layer.name
        if kind not in CONVERTERS:
            raise InputError(f"{name}: a layer of your own (type {kind}), which ONNX has no operator for")
        x = CONVERTERS[kind](layer, x, Place(place.graph, name, shape, place.arrays))
        shape = layer.output_shape(shape)
    return x


def _conv(layer: Conv2D, x: str, place: Place) -> str:
    paddings = (layer.padding,) * 2 if isinstance(layer.padding, str) else pair(layer.padding)
    kernel, stride, dilation = pair(layer.kernel), pair(layer.stride), pair(layer.dilation)
    around = [
        pad_sizes(size, extent(taps, apart), step, padding)
        for size, taps, apart, step, padding in zip(place.shape[:2], kernel, dilation, stride, paddings, strict=True)
    ]
    return place.node(
        "Conv",
        *(x, place.array("weight", _KERNEL), *_bias(place)),
        kernel_shape=kernel,
        strides=stride,
        dilations=dilation,
        group=layer.groups,
        pads=_pads(around),
    )


def _convtranspose(layer: ConvTranspose2D, x: str, place: Place) -> str:
    return place.node(
        "ConvTranspose",
        *(x, place.array("weight", _KERNEL), *_bias(place)),
        kernel_shape=pair(layer.kernel),
        strides=pair(layer.stride),
        pads=_pads([(cut, cut) for cut in pair(layer.padding)]),
        output_padding=pair(layer.output_padding),
    )


def _bias(place: Place) -> list[str]:
    return [place.array("bias")] if place.has("bias") else []


def _pads(around: Sequence[Pair]) -> list[int]:
    """Return the zeros before both axes, and then those after them, given those of each axis."""
    return [before for before, _ in around] + [after for _, after in around]


def _dense(_: Layer, x: str, place: Place) -> str:
    return place.node("Gemm", x, place.array("weight"), place.array("bias"))


def _flatten(_: Layer, x: str, place: Place) -> str:
    """Bring the channels back to the end first: features are in the order of (H, W, C)."""
    return place.node("Flatten", place.node("Transpose", x, perm=(0, 2, 3, 1)), axis=1) if place.image else x


def _pool(op: str) -> Converter:
    def converter(layer: Pool2D, x: str, place: Place) -> str:
        return place.node(op, x, kernel_shape=pair(layer.size), strides=layer.strides())

    return converter


def _global_pool(_: Layer, x: str, place: Place) -> str:
    return place.node("Flatten", place.node("GlobalAveragePool", x), axis=1)


def _upsample(layer: Upsample2D, x: str, place: Place) -> str:
    scales = place.constant("scales", (1, 1, *pair(layer.factor)))
    if layer.mode == "nearest":
        places = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        places = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return place.node("Resize", x, "", scales, **places)


def _batchnorm(layer: BatchNorm2D, x: str, place: Place) -> str:
    arrays = [place.array(key) for key in ("scale", "shift", "mean", "variance")]
    return place.node("BatchNormalization", x, *arrays, epsilon=layer.epsilon)


def _groupnorm(layer: GroupNorm, x: str, place: Place) -> str:
    """Normalise each group as one channel; opset 17 has no operator of its own for it."""
    channels = place.shape[-1]
    whole = (0, channels, *place.shape[:2]) if place.image else (0, channels)  # 0: as many samples as there are
    grouped = place.node("Reshape", x, place.constant("grouped", (0, layer.groups, -1), np.int64))
    ones, zeros = (place.constant(key, np.full(layer.groups, value)) for key, value in (("one", 1), ("zero", 0)))
    normal = place.node("InstanceNormalization", grouped, ones, zeros, epsilon=layer.epsilon)
    y = place.node("Reshape", normal, place.constant("whole", whole, np.int64))
    spread = (channels, 1, 1) if place.image else (channels,)
    scale, shift = (
        place.constant(key, place.arrays[f"{place.name}.{key}"].reshape(spread)) for key in ("scale", "shift")
    )
    return place.node("Add", place.node("Mul", y, scale), shift)


def _layernorm(layer: LayerNorm, x: str, place: Place) -> str:
    axes = TORCH_AXES[len(place.shape)]
    scale, shift = (place.array(key, axes) for key in ("scale", "shift"))
    return place.node("LayerNormalization", x, scale, shift, axis=1, epsilon=layer.epsilon)


def _same(_: Layer, x: str, place: Place) -> str:  # noqa: ARG001
    return x


def _activation(op: str, **attributes: Any) -> Converter:
    return lambda _, x, place: place.node(op, x, **attributes)


def _leaky(layer: LeakyReLU, x: str, place: Place) -> str:
    return place.node("LeakyRelu", x, alpha=layer.slope)


def _elu(layer: ELU, x: str, place: Place) -> str:
    return place.node("Elu", x, alpha=layer.alpha)


def _silu(_: Layer, x: str, place: Place) -> str:
    return place.node("Mul", x, place.node("Sigmoid", x))


def _gelu(_: Layer, x: str, place: Place) -> str:
    """Write x * (1 + erf(x / sqrt(2))) / 2."""
    erf = place.node("Erf", place.node("Mul", x, place.constant("root", 1 / math.sqrt(2))))
    twice = place.node("Mul", x, place.node("Add", erf, place.constant("one", 1)))
    return place.node("Mul", twice, place.constant("half", 0.5))


def _residual(layer: Residual, x: str, place: Place) -> str:
    ends = [
        convert(inner, x, place, f"{place.name}.{branch}." if branch else f"{place.name}.")
        for branch, inner in layer.branches().items()
    ]
    return place.node("Add", *ends)


# By the layer's `type`. Softmax: the channels, or the features, are the second axis of both kinds of values.
CONVERTERS: dict[str, Converter] = {
    "avgpool2d": _pool("AveragePool"),
    "batchnorm2d": _batchnorm,
    "conv2d": _conv,
    "convtranspose2d": _convtranspose,
    "dense": _dense,
    "dropout": _same,
    "elu": _elu,
    "flatten": _flatten,
    "gelu": _gelu,
    "globalavgpool2d": _global_pool,
    "groupnorm": _groupnorm,
    "layernorm": _layernorm,
    "leakyrelu": _leaky,
    "maxpool2d": _pool("MaxPool"),
    "relu": _activation("Relu"),
    "residual": _residual,
    "sigmoid": _activation("Sigmoid"),
    "silu": _silu,
    "softmax": _activation("Softmax", axis=1),
    "tanh": _activation("Tanh"),
    "upsample2d": _upsample,
}
