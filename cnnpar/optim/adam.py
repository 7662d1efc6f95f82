"""Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), in PyTorch's form.

    g = gradient + weight_decay * p                    Adam only: L2
    p = p - learning_rate * weight_decay * p           AdamW only: decoupled
    m = m + (1 - beta1) * (g - m)
    v = v + (1 - beta2) * (g^2 - v)
    p = p - learning_rate * (m / c1) / (sqrt(v / c2) + epsilon)        c1, c2 = 1 - beta^(step + 1)

The bias corrections c1 and c2 are scalars, so they are taken out of the vectors: with r = sqrt(c2) the last line is
p - (learning_rate * r / c1) * m / (sqrt(v) + epsilon * r).
"""

import math
from typing import Any

import numpy as np

from cnnpar.config.choices import Adam, AdamW
from cnnpar.optim.rules import Rule


def rule(settings: Adam | AdamW) -> Rule:
    """Return the rule of these settings."""
    decoupled = isinstance(settings, AdamW)

    def numbers(learning_rate: float, step: int) -> tuple[float, ...]:
        root = math.sqrt(1 - settings.beta2 ** (step + 1))  # r
        rate = learning_rate * root / (1 - settings.beta1 ** (step + 1))
        # Either the gradient has the decay (`decay`), or the parameter is multiplied by `kept`.
        decay = 0.0 if decoupled else settings.weight_decay
        kept = 1 - learning_rate * settings.weight_decay if decoupled else 1.0
        return rate, settings.epsilon * root, 1 - settings.beta1, 1 - settings.beta2, decay, kept

    return Rule(adam, ("mean", "square"), numbers)


def adam(
    p: Any, g: Any, m: Any, v: Any, rate: Any, epsilon: Any, share: Any, square_share: Any, decay: Any, kept: Any
) -> tuple[Any, Any, Any]:
    """Return the new parameter and the moving averages of the gradient and of its square."""
    g = g + p * decay
    m = m + (g - m) * share
    v = v + (g * g - v) * square_share
    return p * kept - m / (np.sqrt(v) + epsilon) * rate, m, v
