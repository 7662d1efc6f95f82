"""Layout of a network's flat vector: the place of each parameter and buffer by name, and which are frozen."""

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from cnnpar.errors import InputError
from cnnpar.nn.chain import Chain
from cnnpar.nn.shapes import Array, Shape
from cnnpar.text import listed, one_line, shown


class Entry(NamedTuple):
    """The place of one parameter or buffer in the vector."""

    name: str
    shape: Shape
    offset: int


class Segment(NamedTuple):
    """A contiguous part of the vector, and the shapes of the arrays in it, in order."""

    part: slice
    shapes: tuple[Shape, ...]


class Layout(NamedTuple):
    """All parameters in the order of the vector, without gaps, then all buffers, likewise.

    Frozen arrays keep their bits. Neighbours of one kind are joined to one segment, so that an update goes over the
    vector in as few pieces as possible: in one, where nothing is frozen.
    """

    parameters: tuple[Entry, ...]
    buffers: tuple[Entry, ...]
    trained: int  # numbers in all parameters, frozen ones included
    size: int  # numbers in all parameters and buffers: the length of the vector
    frozen: frozenset[str]  # names of parameters and buffers
    trainable_segments: tuple[Segment, ...]  # parameters that are not frozen
    updated_segments: tuple[Segment, ...]  # parameters and buffers that are not frozen
    frozen_segments: tuple[Segment, ...]  # parameters and buffers that are

    def views(self, vector: Array) -> dict[str, Array]:
        """Return views of a contiguous vector by name, each in the shape of its parameter or buffer.

        The vector holds parameters and buffers, (size,), or parameters alone, (trained,). Raises ValueError for others.
        """
        if vector.shape not in ((self.size,), (self.trained,)) or not vector.flags.c_contiguous:
            raise ValueError(f"expected a contiguous vector of {self.trained} parameters, got {vector.shape}")
        entries = self.parameters if vector.size == self.trained else self.parameters + self.buffers
        return {name: vector[offset : offset + math.prod(shape)].reshape(shape) for name, shape, offset in entries}


def layout(chain: Chain, freeze: Sequence[str]) -> Layout:
    """Return the layout of a chain of layers.

    `freeze`: patterns (fnmatch) of names of layers, of layers within them, or of single parameters and buffers. Raises
    InputError where a pattern matches nothing, or no parameter is left to train.
    """
    parameters = _entries(chain, chain.parameters, 0)
    trained = _end(parameters, 0)
    buffers = _entries(chain, chain.buffers, trained)
    everything = parameters + buffers
    frozen = _matching([entry.name for entry in everything], freeze)
    trainable = [entry for entry in parameters if entry.name not in frozen]
    if frozen and not trainable:
        raise InputError("model.freeze: leaves no parameter that could learn")
    return Layout(
        parameters,
        buffers,
        trained,
        _end(buffers, trained),
        frozen,
        segments(trainable),
        segments([entry for entry in everything if entry.name not in frozen]),
        segments([entry for entry in everything if entry.name in frozen]),
    )


def segments(entries: Sequence[Entry]) -> tuple[Segment, ...]:
    """Return the segments of entries that are in the order of the vector, neighbours joined."""
    found: list[Segment] = []
    for _, shape, offset in entries:
        part, shapes = slice(offset, offset + math.prod(shape)), [shape]
        if found and found[-1].part.stop == offset:
            before = found.pop()
            part, shapes = slice(before.part.start, part.stop), [*before.shapes, shape]
        found.append(Segment(part, tuple(shapes)))
    return tuple(found)


def _entries(chain: Chain, of: Sequence[Mapping[str, Any]], offset: int) -> tuple[Entry, ...]:
    found = []
    for layer, mapping in zip(chain.layers, of, strict=True):
        for name, part in mapping.items():
            found.append(Entry(f"{layer.name}.{name}", part.shape, offset))
            offset += math.prod(part.shape)
    return tuple(found)


def _end(entries: Sequence[Entry], start: int) -> int:
    return entries[-1].offset + math.prod(entries[-1].shape) if entries else start


def _matching(names: Sequence[str], patterns: Sequence[str]) -> frozenset[str]:
    """Return the names of which a pattern matches the whole, or the part before one of the dots.

    Raises InputError for a pattern that matches none.
    """
    found: set[str] = set()
    for pattern in patterns:
        own = {name for name in names if any(fnmatchcase(stem, pattern) for stem in stems(name))}
        if not own:
            layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
            raise InputError(
                f"model.freeze: {shown(pattern)} matches nothing; there are {one_line(listed(layers, most=12))}, "
                f"and their arrays, such as {one_line(names[0])}"
            )
        found |= own
    return frozenset(found)


def stems(name: str) -> list[str]:
    """Return the names of all that a name is within, and itself: block1, block1.conv1, block1.conv1.weight."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
