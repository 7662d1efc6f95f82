"""LAMB (You et al. 2020, algorithm 2): Adam with a step scaled to the norm of each array of weights.

    m = m + (1 - beta1) * (gradient - m)
    v = v + (1 - beta2) * (gradient^2 - v)
    d = (m / c1) / (sqrt(v / c2) + epsilon) + weight_decay * p        c1, c2 = 1 - beta^(step + 1)
    p = p - learning_rate * |p| / |d| * d        of each array of weights; 1 for |p| / |d| if either is 0

Arrays of one dimension (biases; scale and shift of normalisation) have 1 for |p| / |d| and no weight decay, as is
usual: Adam alone. The paper's phi is the identity here. The bias corrections are taken out of the vectors as in `adam`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnpar.config.choices import LAMB
from cnnpar.optim.norms import norm, trust_ratio
from cnnpar.optim.rules import ByArray, Vector, apply
from cnnpar.optim.sgd import sgd


def rule(settings: LAMB) -> ByArray:
    """Return the rule of these settings. Its steps overwrite the gradient sum with their direction."""

    def step(vectors: Sequence[Vector], divisor: float, rate: float, number: int, weights: bool) -> None:
        p, g, m, v = vectors
        root = math.sqrt(1 - settings.beta2 ** (number + 1))
        scale, decay = root / (1 - settings.beta1 ** (number + 1)), settings.weight_decay if weights else 0.0
        numbers = scale, settings.epsilon * root, 1 - settings.beta1, 1 - settings.beta2, decay
        # In two passes, since the length of the direction is known only after the first.
        apply(lamb, vectors, (g, m, v), divisor, numbers)
        trust = trust_ratio(norm(p), norm(g)) if weights else 1.0
        apply(sgd, (p, g), (p,), 1.0, (rate * trust, 0.0))

    return ByArray(("mean", "square"), step)


def lamb(
    p: Any, g: Any, m: Any, v: Any, scale: Any, epsilon: Any, share: Any, square_share: Any, decay: Any
) -> tuple[Any, Any, Any]:
    """Return the direction d, and the new moving averages of the gradient and of its square."""
    m = m + (g - m) * share
    v = v + (g * g - v) * square_share
    return m / (np.sqrt(v) + epsilon) * scale + p * decay, m, v
