"""Adagrad (Duchi et al. 2011): numbers that moved much move less and less.

    g = gradient + weight_decay * p
    s = s + g^2
    p = p - learning_rate * g / (sqrt(s) + epsilon)

PyTorch's form, from sums of 0 and without a decay of the learning rate, which is the schedule's.
"""

from typing import Any

import numpy as np

from cnnpar.config.choices import Adagrad
from cnnpar.optim.rules import Rule


def rule(settings: Adagrad) -> Rule:
    """The rule of these settings."""
    return Rule(adagrad, ("squares",), lambda rate, _: (rate, settings.epsilon, settings.weight_decay))


def adagrad(p: Any, g: Any, s: Any, rate: Any, epsilon: Any, decay: Any) -> tuple[Any, Any]:
    """The new parameter and sum of the gradient's squares."""
    g = g + p * decay
    s = s + g * g
    return p - g / (np.sqrt(s) + epsilon) * rate, s
