"""The seam between engine and numerics: one microbatch as a pure function of parameters and step.

The engine moves vectors of `size` floats out and back and knows nothing of layers. `cnnpar.training.microbatch` has the
work of a run; a benchmark may bring its own.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from cnnpar.data.dataset import Dataset
from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums
from cnnpar.parallel.tree import Node

Prepared = Any  # the inputs of one microbatch; only the work that made them looks inside


class Kind(IntEnum):
    """What a step is for."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


class Step(NamedTuple):
    """One step of the engine: a batch of an epoch, or a piece of an evaluation."""

    kind: Kind
    epoch: int
    number: int


class Block(NamedTuple):
    """The value of one node as a worker returns it; what else it has lies in buffer number `slot`."""

    node: Node
    slot: int
    sums: Sums


class Work(Protocol):
    """A pure function of (parameters, step, microbatch), cut into a part without and a part with parameters."""

    @property
    def size(self) -> int:
        """Floats in the parameter vector, and in a gradient."""

    def with_data(self, data: Mapping[Kind, Dataset]) -> "Work":
        """The same work, able to `prepare` inputs; without, it is small and can be sent to workers."""

    def microbatches(self, step: Step) -> int:
        """Leaves of the step's reduction tree."""

    def length(self, step: Step) -> int:
        """Floats that a microbatch yields besides its sums: `size` for a gradient, or as many as it counts; 0: none."""

    def following(self, step: Step) -> Step | None:
        """The step that will most likely come next, if any."""

    def prepare(self, step: Step, microbatch: int) -> Prepared:
        """The inputs of a microbatch; needs no parameters, so it may be done ahead."""

    def compute(self, step: Step, microbatch: int, prepared: Prepared, parameters: Vector, out: Vector) -> Sums:
        """The sums over one microbatch; what else it yields overwrites `out`, of shape (length(step),)."""
