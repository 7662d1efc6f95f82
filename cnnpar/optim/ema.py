"""The running mean of the weights: smoother than any of them, and what is evaluated where a run keeps it.

Polyak and Juditsky 1992, in the exponential form. The mean of the first steps is over fewer of them: step t, counting
from 0, keeps at most (1 + t) / (10 + t) of it, as TensorFlow's ExponentialMovingAverage does.
"""

from cnnpar.optim.rules import BLOCK, Vector


def follow(average: Vector, parameters: Vector, decay: float, step: int) -> None:
    """Move the running mean, in place, towards the parameters that a step has come to."""
    share = average.dtype.type(1 - min(decay, (1 + step) / (10 + step)))
    for start in range(0, len(average), BLOCK):
        part = average[start : start + BLOCK]
        part += (parameters[start : start + BLOCK] - part) * share
