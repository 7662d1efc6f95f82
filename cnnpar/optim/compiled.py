"""The update rules, compiled by numba: one pass over all vectors, with the bits of the rules in numpy."""

from typing import Any

import cnnpar.optim.adam as _adam
import cnnpar.optim.sgd as _sgd
from cnnpar.compiling import forget_older, inline, loop

_TWO, _THREE, _FOUR = ("void(" + "float32[::1]," * vectors for vectors in (2, 3, 4))  # and then so many numbers

forget_older(__file__, _adam, _sgd)
_plain, _momentum, _nesterov = inline(_sgd.plain), inline(_sgd.momentum), inline(_sgd.nesterov)
_step = inline(_adam.adam)


@loop(_TWO + "float32, float32, float32)")
def plain(p: Any, g: Any, n: Any, rate: Any, decay: Any) -> None:
    """See `sgd.plain`."""
    for i in range(len(p)):
        (p[i],) = _plain(p[i], g[i] / n, rate, decay)


@loop(_THREE + "float32, float32, float32, float32)")
def momentum(p: Any, g: Any, v: Any, n: Any, rate: Any, mass: Any, decay: Any) -> None:
    """See `sgd.momentum`."""
    for i in range(len(p)):
        p[i], v[i] = _momentum(p[i], g[i] / n, v[i], rate, mass, decay)


@loop(_THREE + "float32, float32, float32, float32)")
def nesterov(p: Any, g: Any, v: Any, n: Any, rate: Any, mass: Any, decay: Any) -> None:
    """See `sgd.nesterov`."""
    for i in range(len(p)):
        p[i], v[i] = _nesterov(p[i], g[i] / n, v[i], rate, mass, decay)


@loop(_FOUR + "float32, float32, float32, float32, float32, float32, float32)")
def adam(
    p: Any, g: Any, m: Any, v: Any, n: Any, rate: Any, epsilon: Any, share: Any, other: Any, decay: Any, kept: Any
) -> None:
    """See `adam.adam`."""
    for i in range(len(p)):
        p[i], m[i], v[i] = _step(p[i], g[i] / n, m[i], v[i], rate, epsilon, share, other, decay, kept)
