"""Adagrad (Duchi et al. 2011): steps shrink with the sum of all squared gradients so far.

    g = gradient + weight_decay * p
    s = s + g^2
    p = p - learning_rate * g / (sqrt(s) + epsilon)

PyTorch's form, with s = 0 at the start; a decay of the learning rate is left to the schedule.
"""

from typing import Any

import numpy as np

from cnnpar.config.choices import Adagrad
from cnnpar.optim.rules import Rule


def rule(settings: Adagrad) -> Rule:
    """Return the rule of these settings."""
    return Rule(adagrad, ("squares",), lambda rate, _: (rate, settings.epsilon, settings.weight_decay))


def adagrad(p: Any, g: Any, s: Any, rate: Any, epsilon: Any, decay: Any) -> tuple[Any, Any]:
    """Return the new parameter and sum of squared gradients."""
    g = g + p * decay
    s = s + g * g
    return p - g / (np.sqrt(s) + epsilon) * rate, s
