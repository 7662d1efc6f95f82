"""Update rules on flat vectors: `init` makes the state, `update` takes one step.

The state is a dictionary of named vectors and nothing else: whoever saves it has saved the optimizer. The
table below maps each settings struct of `cnnpar.config` to its rule; a new rule is one formula and one row.
"""

from typing import Any

import numpy as np

from cnnpar.config import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from cnnpar.optim import adagrad, adam, rmsprop, sgd
from cnnpar.optim.average import follow
from cnnpar.optim.rules import Rule, Vector, apply, load

__all__ = ["follow", "init", "load", "update"]

_RULES: dict[type, Any] = {
    SGD: sgd.rule,
    Adam: adam.rule,
    AdamW: adam.rule,
    RMSprop: rmsprop.rule,
    Adagrad: adagrad.rule,
}


def init(settings: Optimizer, size: int) -> dict[str, Vector]:
    """The state before the first step: named float32 vectors of `size` zeros; `{}` if the rule needs none."""
    return {name: np.zeros(size, np.float32) for name in _rule(settings).state}


def update(
    settings: Optimizer,
    state: dict[str, Vector],
    parameters: Vector,
    gradient_sum: Vector,
    count: int,
    learning_rate: float,
    step: int,
) -> None:
    """Take one step in place, on `parameters` and on the vectors of `state`.

    The gradient is `gradient_sum`, over the batch, divided by `count`, the number of its samples: the only division.
    `step` counts from 0; Adam's bias correction follows from it, so no counter hides in the state. All vectors are flat
    and of one length and type: float32 in training, float64 for checks; ValueError if the lengths differ. Every
    operation is elementwise, in a fixed order and correctly rounded (+, -, *, /, square root): the bits depend on
    nothing but the arguments.
    """
    rule = _rule(settings)
    numbers = rule.numbers(float(learning_rate), step)
    apply(rule, parameters, gradient_sum, count, [state[name] for name in rule.state], numbers)


def _rule(settings: Optimizer) -> Rule:
    rule: Rule = _RULES[type(settings)](settings)
    return rule
