"""LAMB (You et al. 2020, algorithm 2): Adam's direction, scaled, array by array, to the weights it changes.

    m = m + (1 - beta1) * (gradient - m)
    v = v + (1 - beta2) * (gradient^2 - v)
    d = (m / c1) / (sqrt(v / c2) + epsilon) + weight_decay * p        c1, c2 = 1 - beta^(step + 1)
    p = p - learning_rate * |p| / |d| * d        of each array of weights; 1 for |p| / |d| if either is 0

Arrays of one dimension (biases; scale and shift of normalisation) have 1 for |p| / |d| and no weight decay, as is
usual: Adam alone. Norms are taken as they are: the paper's phi is the identity. The corrections move out of the vectors
as in `adam`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnpar.config.choices import LAMB
from cnnpar.optim.norms import norm, trust_ratio
from cnnpar.optim.rules import ByArray, Vector, apply
from cnnpar.optim.sgd import plain


def rule(settings: LAMB) -> ByArray:
    """The rule of these settings. Its steps leave their direction where the gradient sum was."""

    def step(vectors: Sequence[Vector], divisor: float, rate: float, number: int, weights: bool) -> None:
        p, g, m, v = vectors
        root = math.sqrt(1 - settings.beta2 ** (number + 1))
        scale, decay = root / (1 - settings.beta1 ** (number + 1)), settings.weight_decay if weights else 0.0
        numbers = scale, settings.epsilon * root, 1 - settings.beta1, 1 - settings.beta2, decay
        apply(lamb, vectors, (g, m, v), divisor, numbers)
        trust = trust_ratio(norm(p), norm(g)) if weights else 1.0
        apply(plain, (p, g), (p,), 1.0, (rate * trust, 0.0))

    return ByArray(("mean", "square"), step)


def lamb(
    p: Any, g: Any, m: Any, v: Any, scale: Any, epsilon: Any, share: Any, square_share: Any, decay: Any
) -> tuple[Any, Any, Any]:
    """The direction, and the new running means of the gradient and of its square."""
    m = m + (g - m) * share
    v = v + (g * g - v) * square_share
    return m / (np.sqrt(v) + epsilon) * scale + p * decay, m, v
