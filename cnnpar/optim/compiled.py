"""Update rules compiled by numba: one pass over all vectors, with the same bits as the rules in numpy.

Vectors come first (parameter, gradient sum, state), then the divisor `n` and the numbers of the rule. A function has
the name of its formula, by which `rules.apply` finds it.
"""

from typing import Any

import cnnpar.optim.adagrad as _adagrad
import cnnpar.optim.adam as _adam
import cnnpar.optim.lamb as _lamb
import cnnpar.optim.lars as _lars
import cnnpar.optim.rmsprop as _rmsprop
import cnnpar.optim.sgd as _sgd
from cnnpar.compiling import inline, loop, takes_from

_TWO, _THREE, _FOUR = ("void(" + "float32[::1]," * vectors for vectors in (2, 3, 4))  # signatures; the numbers follow

takes_from(__file__, _adagrad, _adam, _lamb, _lars, _rmsprop, _sgd)
_sgd_step, _momentum, _nesterov = inline(_sgd.sgd), inline(_sgd.momentum), inline(_sgd.nesterov)
_adam_step, _adagrad_step = inline(_adam.adam), inline(_adagrad.adagrad)
_lamb_step, _lars_step = inline(_lamb.lamb), inline(_lars.lars)
_rmsprop_step, _rmsprop_momentum = inline(_rmsprop.rmsprop), inline(_rmsprop.rmsprop_momentum)


@loop(_TWO + "float32, float32, float32)")
def sgd(p: Any, g: Any, n: Any, rate: Any, decay: Any) -> None:
    """Apply `sgd.sgd`."""
    for i in range(len(p)):
        (p[i],) = _sgd_step(p[i], g[i] / n, rate, decay)


@loop(_THREE + "float32, float32, float32, float32)")
def momentum(p: Any, g: Any, v: Any, n: Any, rate: Any, mass: Any, decay: Any) -> None:
    """Apply `sgd.momentum`."""
    for i in range(len(p)):
        p[i], v[i] = _momentum(p[i], g[i] / n, v[i], rate, mass, decay)


@loop(_THREE + "float32, float32, float32, float32)")
def nesterov(p: Any, g: Any, v: Any, n: Any, rate: Any, mass: Any, decay: Any) -> None:
    """Apply `sgd.nesterov`."""
    for i in range(len(p)):
        p[i], v[i] = _nesterov(p[i], g[i] / n, v[i], rate, mass, decay)


@loop(_FOUR + "float32, float32, float32, float32, float32, float32, float32)")
def adam(
    p: Any, g: Any, m: Any, v: Any, n: Any, rate: Any, epsilon: Any, share: Any, other: Any, decay: Any, kept: Any
) -> None:
    """Apply `adam.adam`."""
    for i in range(len(p)):
        p[i], m[i], v[i] = _adam_step(p[i], g[i] / n, m[i], v[i], rate, epsilon, share, other, decay, kept)


@loop(_THREE + "float32, float32, float32, float32, float32)")
def rmsprop(p: Any, g: Any, v: Any, n: Any, rate: Any, share: Any, epsilon: Any, decay: Any) -> None:
    """Apply `rmsprop.rmsprop`."""
    for i in range(len(p)):
        p[i], v[i] = _rmsprop_step(p[i], g[i] / n, v[i], rate, share, epsilon, decay)


@loop(_FOUR + "float32, float32, float32, float32, float32, float32)")
def rmsprop_momentum(
    p: Any, g: Any, v: Any, u: Any, n: Any, rate: Any, share: Any, epsilon: Any, decay: Any, mass: Any
) -> None:
    """Apply `rmsprop.rmsprop_momentum`."""
    for i in range(len(p)):
        p[i], v[i], u[i] = _rmsprop_momentum(p[i], g[i] / n, v[i], u[i], rate, share, epsilon, decay, mass)


@loop(_THREE + "float32, float32, float32, float32)")
def adagrad(p: Any, g: Any, s: Any, n: Any, rate: Any, epsilon: Any, decay: Any) -> None:
    """Apply `adagrad.adagrad`."""
    for i in range(len(p)):
        p[i], s[i] = _adagrad_step(p[i], g[i] / n, s[i], rate, epsilon, decay)


@loop(_THREE + "float32, float32, float32, float32, float32)")
def lars(p: Any, g: Any, v: Any, n: Any, rate: Any, mass: Any, decay: Any, trust: Any) -> None:
    """Apply `lars.lars`."""
    for i in range(len(p)):
        p[i], v[i] = _lars_step(p[i], g[i] / n, v[i], rate, mass, decay, trust)


@loop(_FOUR + "float32, float32, float32, float32, float32, float32)")
def lamb(p: Any, g: Any, m: Any, v: Any, n: Any, scale: Any, epsilon: Any, share: Any, other: Any, decay: Any) -> None:
    """Apply `lamb.lamb`: the direction overwrites the gradient sum."""
    for i in range(len(p)):
        g[i], m[i], v[i] = _lamb_step(p[i], g[i] / n, m[i], v[i], scale, epsilon, share, other, decay)
