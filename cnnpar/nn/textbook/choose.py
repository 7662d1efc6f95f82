"""Choice of the layers that a network computes with, by the setting `model.kernels`."""

from collections.abc import Iterable, Mapping

import msgspec

from cnnpar.config.sections import Kernels
from cnnpar.nn.layers import Layer
from cnnpar.nn.residual import Residual

Table = Mapping[type[Layer], type[Layer]]  # the engine's layers, and those that take their place


def with_kernels(layers: Iterable[Layer], kernels: Kernels) -> tuple[Layer, ...]:
    """Return the layers, each replaced by its like of these kernels where there is one; "fast": the layers themselves.

    Layers within residual blocks are replaced too. None of the textbook's is fused with its neighbours (nn/fusion.py).
    """
    if kernels == "fast":
        return tuple(layers)
    table = _table(kernels)
    return tuple(_replaced(layer, table) for layer in layers)


def _table(kernels: Kernels) -> Table:
    """Import and return a table: scipy.signal alone takes a tenth of a second."""
    if kernels == "numpy":
        from cnnpar.nn.textbook.layers import NUMPY

        return NUMPY
    from cnnpar.nn.textbook.scipy_layers import SCIPY

    return SCIPY


def _replaced(layer: Layer, table: Table) -> Layer:
    if isinstance(layer, Residual):
        inner, around = ([_replaced(part, table) for part in parts] for parts in layer.branches().values())
        return msgspec.structs.replace(layer, layers=tuple(inner), shortcut=tuple(around))
    like = table.get(type(layer))
    return like(**msgspec.structs.asdict(layer)) if like else layer
