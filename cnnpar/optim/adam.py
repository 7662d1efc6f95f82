"""Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), in PyTorch's form.

    g = gradient + weight_decay * p                    Adam only: L2
    p = p - learning_rate * weight_decay * p           AdamW only: decoupled
    m = m + (1 - beta1) * (g - m)
    v = v + (1 - beta2) * (g^2 - v)
    p = p - learning_rate * (m / c1) / (sqrt(v / c2) + epsilon)        c1, c2 = 1 - beta^(step + 1)

The corrections c1 and c2 are numbers, so they move out of the vectors: with r = sqrt(c2) the last line is
p - (learning_rate * r / c1) * m / (sqrt(v) + epsilon * r), two passes less.
"""

import math

import numpy as np

from cnnpar.config import Adam, AdamW
from cnnpar.optim.blocks import Vector, blocks


def state_names(_settings: Adam | AdamW) -> tuple[str, ...]:
    """The running means of the gradient and of its square."""
    return ("mean", "square")


def update(
    settings: Adam | AdamW,
    state: dict[str, Vector],
    parameters: Vector,
    gradient: Vector,
    learning_rate: float,
    step: int,
) -> None:
    """One step in place; `gradient` is used up. `step` counts from 0."""
    root = math.sqrt(1 - settings.beta2 ** (step + 1))
    rate = learning_rate * root / (1 - settings.beta1 ** (step + 1))
    epsilon = settings.epsilon * root
    decoupled = isinstance(settings, AdamW)
    vectors = (parameters, gradient, state["mean"], state["square"])
    for p, g, m, v, scratch in blocks(*vectors):  # each (up to BLOCK,)
        if settings.weight_decay and decoupled:
            p *= 1 - learning_rate * settings.weight_decay
        elif settings.weight_decay:
            np.multiply(p, settings.weight_decay, out=scratch)
            g += scratch
        np.subtract(g, m, out=scratch)
        scratch *= 1 - settings.beta1
        m += scratch
        g *= g
        g -= v
        g *= 1 - settings.beta2
        v += g
        np.sqrt(v, out=scratch)
        scratch += epsilon
        np.divide(m, scratch, out=scratch)
        scratch *= rate
        p -= scratch
