"""Choice of the layers that a network computes with, by the setting `model.kernels`."""

from collections.abc import Iterable, Mapping

import msgspec

from cnnpar.config.sections import Kernels
from cnnpar.nn.layers import Layer
from cnnpar.nn.residual import Residual
from cnnpar.nn.textbook.layers import NUMPY


def with_kernels(layers: Iterable[Layer], kernels: Kernels) -> tuple[Layer, ...]:
    """Return the layers, each replaced by its like of these kernels where there is one; "fast": the layers themselves.

    Layers within residual blocks are replaced too. None of the textbook's is fused with its neighbours (nn/fusion.py).
    """
    if kernels == "fast":
        return tuple(layers)
    table = NUMPY
    if kernels == "scipy":
        from cnnpar.nn.textbook.scipy_layers import SCIPY  # imports scipy.signal: a tenth of a second

        table = SCIPY
    return tuple(_replaced(layer, table) for layer in layers)


def _replaced(layer: Layer, table: Mapping[type[Layer], type[Layer]]) -> Layer:
    if isinstance(layer, Residual):
        inner, around = ([_replaced(part, table) for part in parts] for parts in layer.branches().values())
        return msgspec.structs.replace(layer, layers=tuple(inner), shortcut=tuple(around))
    like = table.get(type(layer))
    return like(**msgspec.structs.asdict(layer)) if like else layer
