"""Stochastic gradient descent: without momentum, with momentum, or with Nesterov's momentum.

    g = gradient + weight_decay * p
    v = momentum * v + g
    p = p - learning_rate * d        d = v, or g + momentum * v with Nesterov, or g without momentum

Sutskever et al. 2013, in PyTorch's form: the learning rate scales the step, not the velocity.
"""

from typing import Any

from cnnpar.config.choices import SGD
from cnnpar.optim.rules import Rule


def rule(settings: SGD) -> Rule:
    """Return the rule of these settings."""
    if not settings.momentum:
        return Rule(sgd, (), lambda rate, _: (rate, settings.weight_decay))
    formula = nesterov if settings.nesterov else momentum
    return Rule(formula, ("velocity",), lambda rate, _: (rate, settings.momentum, settings.weight_decay))


def sgd(p: Any, g: Any, rate: Any, decay: Any) -> tuple[Any]:
    """Return the new parameter."""
    return (p - (g + p * decay) * rate,)


def momentum(p: Any, g: Any, v: Any, rate: Any, mass: Any, decay: Any) -> tuple[Any, Any]:
    """Return the new parameter and velocity."""
    v = v * mass + (g + p * decay)
    return p - v * rate, v


def nesterov(p: Any, g: Any, v: Any, rate: Any, mass: Any, decay: Any) -> tuple[Any, Any]:
    """Return the new parameter and velocity, with Nesterov's step."""
    g = g + p * decay
    v = v * mass + g
    return p - (g + v * mass) * rate, v
