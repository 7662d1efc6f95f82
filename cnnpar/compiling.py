"""Compilation by numba, in which no operation is fused with another or reordered: so the bits are numpy's.

numba itself is imported only by the compiled modules, when they are loaded.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


@cache
def compiled(module: str) -> Any:
    """Import a module of compiled loops; None without numba, or where it finds no place to keep what it compiles."""
    if not compiles():
        return None
    try:
        return import_module(module)
    except (ImportError, RuntimeError) as error:
        if str(getattr(error, "name", "")).startswith("cnnpar"):
            raise  # a module of ours is missing: not numba
        return None


def compiles() -> bool:
    """Tell whether numba is there and compiles: under NUMBA_DISABLE_JIT its loops would run in Python, pixel by pixel.

    Source: numba documentation, "Environment variables": any number but 0 disables it.
    """
    try:
        disabled = int(os.environ.get("NUMBA_DISABLE_JIT", "0"))
    except ValueError:  # numba warns of it, and compiles
        disabled = 0
    return not disabled and find_spec("numba") is not None


def inline(function: Function) -> Function:
    """Mark a function as one that is compiled into those that call it."""
    from numba import njit

    return cast("Function", njit(inline="always", error_model="numpy")(function))


def loop(*signatures: str) -> Callable[[Function], Function]:
    """Compile a function for arguments of these types, now, or take the result from numba's cache."""
    from numba import njit

    return cast("Callable[[Function], Function]", njit(list(signatures), cache=True, error_model="numpy"))


def forget_older(file: str, *sources: ModuleType) -> None:
    """Delete what numba keeps of a file, if one of the sources that the file takes functions from has changed since.

    numba itself compares the file alone.
    """
    changed = max(Path(str(source.__file__)).stat().st_mtime for source in sources)
    for index in Path(file).parent.glob(f"__pycache__/{Path(file).stem}.*.nbi"):
        with suppress(OSError):  # another user's, who deletes it likewise
            if index.stat().st_mtime < changed:
                index.unlink()
