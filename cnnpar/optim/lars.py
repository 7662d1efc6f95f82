"""LARS (You et al. 2017): momentum with a step scaled to the norm of each array of weights.

    r = trust_coefficient * |p| / (|gradient| + weight_decay * |p|)        of each array of weights; 1 if |p| = 0
    v = momentum * v + r * (gradient + weight_decay * p)
    p = p - learning_rate * v

In the form of `sgd`: the learning rate is no part of the velocity. Arrays of one dimension (biases; scale and shift of
normalisation) have r = 1 and no weight decay, as is usual: momentum alone.
"""

from collections.abc import Sequence
from typing import Any

from cnnpar.config.choices import LARS
from cnnpar.optim.norms import norm, trust_ratio
from cnnpar.optim.rules import ByArray, Vector, apply


def rule(settings: LARS) -> ByArray:
    """Return the rule of these settings."""

    def step(vectors: Sequence[Vector], divisor: float, rate: float, _: int, weights: bool) -> None:
        p, g, v = vectors
        trust, decay = 1.0, 0.0
        if weights:
            size, decay = norm(p), settings.weight_decay
            # g is a sum: its norm, not the vector, is divided, so that the rule divides once.
            trust = trust_ratio(settings.trust_coefficient * size, norm(g) / divisor + decay * size)
        apply(lars, vectors, (p, v), divisor, (rate, settings.momentum, decay, trust))

    return ByArray(("velocity",), step)


def lars(p: Any, g: Any, v: Any, rate: Any, mass: Any, decay: Any, trust: Any) -> tuple[Any, Any]:
    """Return the new parameter and velocity."""
    v = v * mass + (g + p * decay) * trust
    return p - v * rate, v
