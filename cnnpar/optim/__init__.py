"""Update rules as plain functions on flat vectors: `init` makes the state, `update` takes one step.

The state is a dictionary of named vectors and nothing else: whoever saves it has saved the optimizer. The
table below maps each settings struct of `cnnpar.config` to its rule; a new rule is one file and one row.
"""

from types import ModuleType

import numpy as np

from cnnpar.config import SGD, Adam, AdamW, Optimizer
from cnnpar.optim import adam, sgd
from cnnpar.optim.blocks import Vector

__all__ = ["init", "update"]

_RULES: dict[type, ModuleType] = {SGD: sgd, Adam: adam, AdamW: adam}


def init(settings: Optimizer, size: int) -> dict[str, Vector]:
    """The state before the first step: named float32 vectors of `size` zeros; `{}` if the rule needs none."""
    names: tuple[str, ...] = _RULES[type(settings)].state_names(settings)
    return {name: np.zeros(size, np.float32) for name in names}


def update(
    settings: Optimizer,
    state: dict[str, Vector],
    parameters: Vector,
    gradient: Vector,
    learning_rate: float,
    step: int,
) -> None:
    """Take one step in place, on `parameters` and on the vectors of `state`.

    `gradient` is the mean over the batch, and is used up as scratch memory. `step` counts from 0; Adam's bias
    correction follows from it, so no counter hides in the state. All vectors are flat and of one length and
    type: float32 in training, float64 for checks; ValueError if the lengths differ. Every operation is
    elementwise, in a fixed order and correctly rounded (+, -, *, /, square root): the bits depend on nothing
    but the arguments.
    """
    # float(): a numpy float64, which is a float to the type checker, would take the arithmetic out of float32
    _RULES[type(settings)].update(settings, state, parameters, gradient, float(learning_rate), step)
