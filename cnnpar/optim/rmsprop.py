"""RMSprop (Tieleman and Hinton 2012), with or without momentum.

    g = gradient + weight_decay * p
    v = v + (1 - alpha) * (g^2 - v)
    d = g / (sqrt(v) + epsilon)
    p = p - learning_rate * d        with momentum p - learning_rate * u, where u = momentum * u + d

PyTorch's form, without its option `centered`.
"""

from typing import Any

import numpy as np

from cnnpar.config.choices import RMSprop
from cnnpar.optim.rules import Rule


def rule(settings: RMSprop) -> Rule:
    """Return the rule of these settings."""
    common = 1 - settings.alpha, settings.epsilon, settings.weight_decay
    if not settings.momentum:
        return Rule(rmsprop, ("square",), lambda rate, _: (rate, *common))
    return Rule(rmsprop_momentum, ("square", "velocity"), lambda rate, _: (rate, *common, settings.momentum))


def rmsprop(p: Any, g: Any, v: Any, rate: Any, share: Any, epsilon: Any, decay: Any) -> tuple[Any, Any]:
    """Return the new parameter and moving average of the squared gradient."""
    g = g + p * decay
    v = v + (g * g - v) * share
    return p - g / (np.sqrt(v) + epsilon) * rate, v


def rmsprop_momentum(
    p: Any, g: Any, v: Any, u: Any, rate: Any, share: Any, epsilon: Any, decay: Any, mass: Any
) -> tuple[Any, Any, Any]:
    """Return the new parameter, moving average of the squared gradient, and velocity."""
    g = g + p * decay
    v = v + (g * g - v) * share
    u = u * mass + g / (np.sqrt(v) + epsilon)
    return p - u * rate, v, u
