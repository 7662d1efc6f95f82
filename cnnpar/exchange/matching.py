"""Arrays of a file, or of another network, that fit a network: by name and shape, in the layout that they are in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnpar.config.sections import Layout
from cnnpar.errors import InputError
from cnnpar.exchange.array_files import ArrayFile
from cnnpar.exchange.layouts import LAYOUTS, twins
from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Array, Shape

_COUNTER = ".num_batches_tracked"  # of PyTorch's batch normalisation, which `load_state_dict` does without


class Unlike(NamedTuple):
    """The shapes of an array of the same name that does not fit."""

    there: Shape
    wanted: Shape  # in the layout of the file


class Match(NamedTuple):
    """How the arrays of a file fit a network: its own names, in its order, but for `only_there`."""

    taken: dict[str, Array]  # float32, in the network's own layout
    only_there: list[str]
    only_here: list[str]
    reshaped: dict[str, Unlike]


def layout_of(file: ArrayFile, given: Layout | None, option: str) -> Layout:
    """Return the layout of a file: the one that it says, or else the one that `option` gave.

    Raises InputError where they differ, or there is neither.
    """
    said = file.facts.layout if file.facts else None
    if said is not None and given is not None and said != given:
        raise InputError(f"{file.path}: {option} {given}: the file says that its layout is {said}")
    found = said or given
    if found is None:
        raise InputError(
            f"{file.path}: does not say its layout, as files of cnnpar do; {option} does: one of {', '.join(LAYOUTS)}"
        )
    return found


def match(path: Path, arrays: Mapping[str, NDArray[Any]], layout: Layout, network: Network) -> Match:
    """Look for each array of a network among those of the file `path`, which are in `layout`.

    Raises InputError for an array that fits and holds no finite float32 numbers.
    """
    taken: dict[str, Array] = {}
    reshaped: dict[str, Unlike] = {}
    shapes = {entry.name: entry.shape for entry in (*network.layout.parameters, *network.layout.buffers)}
    known = twins(network, layout)
    for name, twin in known.items():
        found = arrays.get(twin.name)
        if found is not None and found.shape == twin.shape:
            taken[name] = twin.read(_floats(path, twin.name, found), shapes[name])
        elif found is not None:
            reshaped[name] = Unlike(found.shape, twin.shape)
    theirs = {twin.name for twin in known.values()}
    only_there = [name for name in arrays if name not in theirs and not name.endswith(_COUNTER)]
    return Match(taken, only_there, [name for name in known if name not in taken and name not in reshaped], reshaped)


def _floats(path: Path, name: str, values: NDArray[Any]) -> Array:
    """Return an array as float32. Raises InputError for whole numbers, and those beyond float32."""
    if values.dtype.kind != "f":
        raise InputError(f"{path}: {name} holds {values.dtype}; weights are floats")
    with np.errstate(over="ignore"):
        floats = values.astype(np.float32, copy=False)
    if not np.isfinite(floats).all():
        raise InputError(f"{path}: {name} has a number that is not finite in float32")
    return floats
