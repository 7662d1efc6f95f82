"""Learning rate schedules: pure functions of the global step, so that a resumed run needs no state of theirs.

A schedule is a factor of the optimizer's learning rate:

- Constant: 1.
- StepDecay: `factor` to the power of epoch // every_epochs.
- Cosine: (step + 1) / (w + 1) up to 1 at step w (the warm-up in steps), then half a cosine that reaches `final` after
  the last step: even if `final` is 0, that step changes the weights.
- OneCycle: half a cosine from `start` to 1 at step warmup * total_steps - 1, then another one to `final` at the last
  step, as in PyTorch's OneCycleLR.
- Piecewise: linear between points, read at the middle of a step: warm restarts, tails, any curve.
"""

import math
from itertools import pairwise

from cnnpar.config.choices import Constant, Cosine, OneCycle, Piecewise, Schedule, StepDecay


def learning_rate(schedule: Schedule, base: float, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Return the learning rate of a step, which counts from 0 over the whole run.

    `base` is the optimizer's learning rate. From `total_steps` on the result is the final value.
    """
    match schedule:
        case Constant():
            factor = 1.0
        case StepDecay():
            epoch = min(step, total_steps - 1) // steps_per_epoch
            factor = schedule.factor ** (epoch // schedule.every_epochs)
        case Cosine():
            warmup = schedule.warmup_epochs * steps_per_epoch
            factor = _cosine(min(step, total_steps), warmup, total_steps, schedule.final)
        case OneCycle():
            factor = _one_cycle(schedule, step, total_steps)
        case Piecewise():
            factor = _piecewise(schedule, min((step + 0.5) / total_steps, 1.0))
    return base * factor


def _cosine(step: int, warmup: float, total_steps: int, final: float) -> float:
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return _half_cosine(1.0, final, _share(step, warmup, total_steps))


def _one_cycle(schedule: OneCycle, step: int, total_steps: int) -> float:
    peak = max(schedule.warmup * total_steps - 1, 0.0)  # 0: the run is too short to warm up
    if step < peak:
        return _half_cosine(schedule.start, 1.0, _share(step, 0.0, peak))
    return _half_cosine(1.0, schedule.final, _share(step, peak, total_steps - 1))


def _piecewise(schedule: Piecewise, place: float) -> float:
    """Return the factor at `place`, a share of the run (0 .. 1)."""
    (first, factor), (_, last) = schedule.points[0], schedule.points[-1]
    if place <= first:
        return factor
    for (left, low), (right, high) in pairwise(schedule.points):
        if place < right:
            return max(low + (high - low) * (place - left) / (right - left), 0.0)  # rounding may go below
    return last


def _share(step: int, first: float, last: float) -> float:
    """Return the share of the way from `first` to `last` that is done at `step`, at most 1; 0 if they are equal."""
    return min((step - first) / (last - first), 1.0) if last > first else 0.0


def _half_cosine(start: float, end: float, share: float) -> float:
    """Return the value at `share` of half a cosine from `start` (0) to `end` (1), level at both ends."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
