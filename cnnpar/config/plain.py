"""Settings that a script gives: numbers of numpy, paths and mappings become the plain values of TOML."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import msgspec
import numpy as np

from cnnpar.errors import InputError
from cnnpar.text import shown


def plain(settings: Any) -> Any:
    """Return settings, which may be a `Config`, as tables of plain values. Raises InputError for what is no setting."""
    return msgspec.to_builtins(settings, enc_hook=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise InputError(f"configuration: {shown(value)} is no setting")
