"""Digests of the code of layers that users define, for the fingerprint."""

import hashlib
import inspect
from collections.abc import Iterable, Iterator
from types import CellType, CodeType, FunctionType
from typing import Any

import msgspec
import numpy as np

from cnnpar.fingerprint import is_users
from cnnpar.nn.layers.base import Layer

_PLAIN = (bool, int, float, str, bytes, tuple)
_CONSTANT = (*_PLAIN, list, dict, set, frozenset, np.ndarray)  # repr shows only the ends of large arrays in these


def user_layer_digests(layers: Iterable[Layer]) -> dict[str, str]:
    """Return a digest for each type of user layer, by `layer TYPE`: part of the fingerprint of a run.

    It covers the class, and the functions, classes and constants of its module that its methods use by name, in
    closures, or as defaults.
    """
    return {
        f"layer {cls.__struct_config__.tag}": _digest(cls)
        for cls in (type(layer) for layer in _all(layers))
        if is_users(cls)
    }


def _all(layers: Iterable[Any]) -> Iterator[Layer]:
    """Yield the layers, and those within them."""
    for layer in layers:
        if isinstance(layer, Layer):
            yield layer
            for value in msgspec.structs.astuple(layer):
                if isinstance(value, tuple):
                    yield from _all(value)


def _digest(cls: type[Layer]) -> str:
    digest = hashlib.sha256()
    todo: list[Any] = [cls]
    for thing in todo:  # which grows meanwhile
        digest.update(_text(thing).encode())
        todo += [used for used in _used(thing) if not any(used is known for known in todo)]
    return digest.hexdigest()[:12]


def _text(thing: Any) -> str:
    """Return the source, or the compiled code where there is no source, as in an interactive session."""
    if isinstance(thing, np.ndarray):
        return f"{thing.dtype} {thing.shape} {thing.tolist()!r}"
    if isinstance(thing, _CONSTANT):
        return repr(thing)
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        codes = [code for function in _functions(thing) for code in _codes(function.__code__)]
        constants = [[constant for constant in code.co_consts if isinstance(constant, _PLAIN)] for code in codes]
        return repr([(code.co_code, code.co_names) for code in codes] + constants)


def _used(thing: Any) -> Iterator[Any]:
    """Yield the functions and classes of its own module, and the constants, that a class or function uses."""
    if isinstance(thing, type):
        yield from (base for base in thing.__bases__ if base.__module__ == thing.__module__)
    for function in _functions(thing):
        kept = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
        yield from (value for value in [*kept, *(function.__defaults__ or ())] if isinstance(value, _CONSTANT))
        yield from (value for value in (function.__kwdefaults__ or {}).values() if isinstance(value, _CONSTANT))
        for name in (name for code in _codes(function.__code__) for name in code.co_names):
            value: Any = function.__globals__.get(name)
            value = getattr(value, "__wrapped__", value)
            ours = isinstance(value, FunctionType | type) and value.__module__ == function.__module__
            if ours or isinstance(value, _CONSTANT):
                yield value


def _filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _functions(thing: Any) -> list[FunctionType]:
    """Return the function itself, or those of a class, with static methods and properties."""
    values = list(vars(thing).values()) if isinstance(thing, type) else [thing]
    values = [getattr(value, "__func__", getattr(value, "fget", value)) for value in values]
    return [value for value in values if isinstance(value, FunctionType)]


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield the code, and that of functions defined within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
