"""Layers, one family a file, forward next to backward.

Importing this package fills the registry `LAYERS`, which maps the `type` of a configuration to its class.
"""

from cnnpar.nn.layers.activations import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Tanh
from cnnpar.nn.layers.base import LAYERS, Buffer, Layer, Parameter, register
from cnnpar.nn.layers.conv import Conv2D
from cnnpar.nn.layers.convtranspose import ConvTranspose2D
from cnnpar.nn.layers.dense import Dense, Flatten
from cnnpar.nn.layers.dropout import Dropout
from cnnpar.nn.layers.norm import BatchNorm2D, GroupNorm, LayerNorm
from cnnpar.nn.layers.pool import AvgPool2D, GlobalAvgPool2D, MaxPool2D
from cnnpar.nn.layers.upsample import Upsample2D
from cnnpar.nn.workspace import Workspace

__all__ = [
    "ELU",
    "GELU",
    "LAYERS",
    "AvgPool2D",
    "BatchNorm2D",
    "Buffer",
    "Conv2D",
    "ConvTranspose2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2D",
    "GroupNorm",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "MaxPool2D",
    "Parameter",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "Upsample2D",
    "Workspace",
    "register",
]
