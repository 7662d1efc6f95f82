"""Stochastic gradient descent: plain, with momentum, or with Nesterov's momentum.

    g = gradient + weight_decay * p
    v = momentum * v + g
    p = p - learning_rate * d        d = v, or g + momentum * v with Nesterov, or g without momentum

Sutskever et al. 2013, in PyTorch's form: the learning rate scales the step and is no part of the velocity.
"""

import numpy as np

from cnnpar.config import SGD
from cnnpar.optim.blocks import Vector, blocks


def state_names(settings: SGD) -> tuple[str, ...]:
    """`velocity`, or nothing without momentum."""
    return ("velocity",) if settings.momentum else ()


def update(
    settings: SGD,
    state: dict[str, Vector],
    parameters: Vector,
    gradient: Vector,
    learning_rate: float,
    _step: int,
) -> None:
    """One step in place; `gradient` is used up."""
    velocities = [state[name] for name in state_names(settings)]
    for p, g, *velocity, scratch in blocks(parameters, gradient, *velocities):  # each (up to BLOCK,)
        if settings.weight_decay:
            np.multiply(p, settings.weight_decay, out=scratch)
            g += scratch
        for v in velocity:  # one or none
            v *= settings.momentum
            v += g
            if settings.nesterov:
                np.multiply(v, settings.momentum, out=scratch)
                g += scratch
            else:
                g[:] = v
        g *= learning_rate
        p -= g
