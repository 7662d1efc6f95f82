"""What a case of a compiled loop is: its arguments, and what it moves; and the table of all cases."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from cnnpar.nn.shapes import Array

RANDOM = np.random.default_rng(0)


class Case(NamedTuple):
    """Arguments of a loop; and what it must move at least: the arrays that it reads, and those that it writes."""

    what: str
    arguments: tuple[Any, ...]
    read: tuple[Any, ...]
    written: tuple[Any, ...]

    @property
    def numbers(self) -> int:
        """Return the size of the largest array."""
        return int(max(array.size for array in self.read + self.written))

    @property
    def moved(self) -> int:
        """Return the bytes that are read and written."""
        return int(sum(array.nbytes for array in self.read + self.written))

    @property
    def held(self) -> int:
        """Return the bytes of all arrays, which are fewer where one is read and written."""
        return int(sum({id(array): array.nbytes for array in self.read + self.written}.values()))


CASES: dict[str, Callable[[], Iterator[Case]]] = {}  # by loop, `module.function`


def cases(*loops: str) -> Callable[[Callable[[str], Iterator[Case]]], Callable[[str], Iterator[Case]]]:
    """Say whose cases a generator yields; it is given the name of the loop without that of its module."""

    def keep(generator: Callable[[str], Iterator[Case]]) -> Callable[[str], Iterator[Case]]:
        for name in loops:
            CASES[name] = lambda name=name: generator(name.rpartition(".")[2])  # type: ignore[misc]
        return generator

    return keep


def random(*shape: int) -> Array:
    """Return float32 numbers of the normal distribution."""
    return RANDOM.standard_normal(shape).astype(np.float32)


class Images(NamedTuple):
    """Images in a network: a microbatch of maps (height, width, channels)."""

    height: int
    width: int
    channels: int
    samples: int

    def __str__(self) -> str:
        return f"{self.height} x {self.width} x {self.channels}, {self.samples} samples"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (H, W, P)."""
        return self.height, self.width, self.channels * self.samples

    @property
    def values(self) -> Array:
        """Return new random maps (H, W, P)."""
        return random(*self.shape)
