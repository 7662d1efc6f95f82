"""Exponential moving average (EMA) of the weights; runs that keep one evaluate it instead of the weights.

Polyak and Juditsky 1992, in the exponential form. In step t, counted from 0, the average keeps the share
min(decay, (1 + t) / (10 + t)) of itself, as TensorFlow's ExponentialMovingAverage does: so that it forgets the first
weights, which are random, sooner.
"""

from cnnpar.optim.rules import BLOCK, Vector


def update_ema(average: Vector, parameters: Vector, decay: float, step: int) -> None:
    """Move the average, in place, towards the parameters after step `step`; both vectors are (size,)."""
    share = average.dtype.type(1 - min(decay, (1 + step) / (10 + step)))
    for start in range(0, len(average), BLOCK):
        part = average[start : start + BLOCK]
        part += (parameters[start : start + BLOCK] - part) * share
