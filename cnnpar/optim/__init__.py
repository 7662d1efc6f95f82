"""Optimizers on flat vectors: `init` returns the state, `update` takes one step.

The state is a dictionary of named vectors and nothing else: to save it is to save the optimizer. The table below maps
each settings struct of `cnnpar.config.choices` to its rule; a new rule is one formula and one row.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cnnpar.config.choices import LAMB, LARS, SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from cnnpar.optim import adagrad, adam, lamb, lars, rmsprop, sgd
from cnnpar.optim.clipping import clip
from cnnpar.optim.ema import update_ema
from cnnpar.optim.rules import ByArray, Rule, Vector, apply, compiled_rules

__all__ = ["clip", "compiled_rules", "init", "update", "update_ema"]

_RULES: dict[type, Any] = {
    SGD: sgd.rule,
    Adam: adam.rule,
    AdamW: adam.rule,
    RMSprop: rmsprop.rule,
    Adagrad: adagrad.rule,
    LARS: lars.rule,
    LAMB: lamb.rule,
}


def init(settings: Optimizer, size: int) -> dict[str, Vector]:
    """Return the state before the first step: named float32 vectors of `size` zeros; `{}` if the rule has none."""
    return {name: np.zeros(size, np.float32) for name in _rule(settings).state}


def update(
    settings: Optimizer,
    state: dict[str, Vector],
    parameters: Vector,
    gradient_sum: Vector,
    count: float,
    learning_rate: float,
    step: int,
    shapes: Sequence[tuple[int, ...]],
) -> None:
    """Take one step in place, on `parameters` and on the vectors of `state`; `gradient_sum` may be overwritten.

    The gradient is `gradient_sum` / `count`: the sum over a batch, and its number of samples or what `clip` returns for
    it. This is the only division of the gradient. `step` counts from 0; Adam's bias correction is computed from it, so
    the state has no counter. All vectors are flat (size,) and of one type: float32 in training, float64 in checks;
    `shapes` are those of the arrays in them, in order. Raises ValueError if a vector has another length.

    Operations are elementwise, in a fixed order and correctly rounded (+, -, *, /, square root); only the norms of LARS
    and LAMB are sums, in a fixed order too. So the bits depend on nothing but the arguments.
    """
    rule = _rule(settings)
    remembered = [state[name] for name in rule.state]
    vectors = [parameters, gradient_sum, *remembered]
    size = sum(map(math.prod, shapes))
    if any(vector.shape != (size,) for vector in vectors):
        raise ValueError(
            f"flat vectors of one length, that of all arrays, {size}, expected, got shapes "
            f"{[vector.shape for vector in vectors]}"
        )
    rate = float(learning_rate)
    if isinstance(rule, Rule):
        apply(rule.formula, vectors, [parameters, *remembered], count, rule.numbers(rate, step))
        return
    # Kernels and matrices have two dimensions or more: only these are weights to a rule by array.
    for shape, part in zip(shapes, _parts(shapes), strict=True):
        rule.step([vector[part] for vector in vectors], count, rate, step, len(shape) > 1)


def _rule(settings: Optimizer) -> Rule | ByArray:
    rule: Rule | ByArray = _RULES[type(settings)](settings)
    return rule


def _parts(shapes: Sequence[tuple[int, ...]]) -> Iterator[slice]:
    """Yield the part of the vectors that each array has."""
    start = 0
    for shape in shapes:
        yield slice(start, start := start + math.prod(shape))
