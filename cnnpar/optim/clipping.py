"""Gradients kept within limits: the mean gradient of a batch, after PyTorch's clip_grad_value_ and clip_grad_norm_."""

import numpy as np

from cnnpar.config.sections import Train
from cnnpar.optim.norms import norm
from cnnpar.optim.rules import Vector

_EPSILON = 1e-6  # PyTorch's


def clip(settings: Train, gradient_sum: Vector, count: int) -> float:
    """What to divide `gradient_sum` by, instead of `count`, so that the mean gradient keeps within the limits.

    First each number is moved to within `clip_value`, in place; then all are multiplied by
    `clip_norm` / (their L2 norm + 1e-6), if that is below 1 (Pascanu et al. 2013).
    """
    # Nothing is divided here, so that the update's division stays the only one: the limit of a sum is that of the mean
    # times count, and a factor of the mean goes into the divisor, which spares the vector another pass.
    if settings.clip_value:
        limit = settings.clip_value * count
        np.clip(gradient_sum, -limit, limit, out=gradient_sum)
    if settings.clip_norm:
        return count * max((norm(gradient_sum) / count + _EPSILON) / settings.clip_norm, 1.0)
    return count
