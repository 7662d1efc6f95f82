"""Gradient clipping, by value and by norm, as PyTorch's clip_grad_value_ and clip_grad_norm_."""

import numpy as np

from cnnpar.config.sections import Train
from cnnpar.optim.norms import norm
from cnnpar.optim.rules import Vector

_EPSILON = 1e-6  # PyTorch's


def clip(settings: Train, gradient_sum: Vector, count: int) -> float:
    """Return the divisor of `gradient_sum`, instead of `count`, with which the mean gradient is within the limits.

    First clip each number of the mean to +-`clip_value`, in place; then multiply the mean by
    `clip_norm` / (its L2 norm + 1e-6), if that is below 1 (Pascanu et al. 2013).
    """
    # The update's division stays the only one: a limit of the mean is `count` times as large for the sum, and the
    # factor of the norm goes into the divisor, which spares the vector another pass.
    if settings.clip_value:
        limit = settings.clip_value * count
        np.clip(gradient_sum, -limit, limit, out=gradient_sum)
    if settings.clip_norm:
        return count * max((norm(gradient_sum) / count + _EPSILON) / settings.clip_norm, 1.0)
    return count
