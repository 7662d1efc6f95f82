"""Data-parallel training of convolutional networks in plain numpy on Ray: the same bits on any number of workers.

For scripts there are `train` and `load` (cnnpar/api.py), and for layers of one's own `Layer` and `register`, with what
their signatures name (cnnpar/nn/layers/base.py).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnpar.api import Result, load, train
    from cnnpar.errors import InputError, RunError
    from cnnpar.nn.layers.base import Buffer, Layer, Parameter, register
    from cnnpar.nn.workspace import Workspace
    from cnnpar.run.model import Model

from cnnpar.version import __version__

__all__ = [
    "Buffer",
    "InputError",
    "Layer",
    "Model",
    "Parameter",
    "Result",
    "RunError",
    "Workspace",
    "__version__",
    "load",
    "register",
    "train",
]

_MODULES = {
    **dict.fromkeys(("Result", "load", "train"), "cnnpar.api"),
    "Model": "cnnpar.run.model",
    **dict.fromkeys(("InputError", "RunError"), "cnnpar.errors"),
}


def __getattr__(name: str) -> Any:
    """Imported when first asked for, so that `cnnpar --help` answers at once."""
    if name not in __all__:
        raise AttributeError(f"module 'cnnpar' has no attribute {name!r}")
    return getattr(import_module(_MODULES.get(name, "cnnpar.nn.layers.base")), name)


def __dir__() -> list[str]:
    """List what is there for scripts."""
    return __all__
