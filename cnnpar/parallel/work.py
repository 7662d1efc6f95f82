"""The seam between engine and numerics: one microbatch as a pure function of parameters and step.

The engine sends vectors of `size` float32 to workers and back, and knows nothing of layers. The work of a run is
`cnnpar.training.microbatch.Training`; benchmarks and tests have their own.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from cnnpar.data.dataset import Dataset
from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums
from cnnpar.parallel.tree import Node

Prepared = Any  # inputs of one microbatch, opaque to the engine


class Kind(IntEnum):
    """Purpose of a step, and the data set that it reads."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


class Step(NamedTuple):
    """One step of the engine: a batch of an epoch, or one piece of an evaluation."""

    kind: Kind
    epoch: int  # from 0; 0 in evaluations
    number: int  # of the batch in its epoch, or of the piece; from 0


class Block(NamedTuple):
    """The value of one node as a worker returns it: its sums, and the slot that its vector lies in."""

    node: Node
    slot: int
    sums: Sums


class Work(Protocol):
    """A pure function of (parameters, step, microbatch), cut into a part without and a part with parameters."""

    @property
    def size(self) -> int:
        """Number of float32 in the parameter vector, and in a gradient."""

    @property
    def libraries(self) -> frozenset[str]:
        """Names of packages besides numpy whose version decides the bits: part of the fingerprint of a worker."""

    def load_loops(self) -> None:
        """Load the compiled loops that `prepare` and `compute` take: on a machine's first use this takes seconds."""

    def with_data(self, data: Mapping[Kind, Dataset]) -> "Work":
        """Return the same work with the data that `prepare` needs; without, it is small and can be sent to workers."""

    def microbatches(self, step: Step) -> int:
        """Return the number of microbatches of the step; 0 past the end of an evaluation."""

    def length(self, step: Step) -> int:
        """Return the length of the float32 vector that a microbatch yields: a gradient, counts, or nothing (0)."""

    def following(self, step: Step) -> Step | None:
        """Return the step that is most likely to come next, if there is one."""

    def prepare(self, step: Step, microbatch: int) -> Prepared:
        """Return the inputs of a microbatch. Needs no parameters, so it may be done ahead of time."""

    def compute(self, step: Step, microbatch: int, prepared: Prepared, parameters: Vector, out: Vector) -> Sums:
        """Return the sums over one microbatch, and overwrite `out` with its vector.

        `parameters`: (size,) float32; `out`: (length(step),) float32.
        """
