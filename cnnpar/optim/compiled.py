"""The update rules, compiled by numba: one pass over all vectors, with the bits of the rules in numpy."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

import cnnpar.optim.adam as _adam
import cnnpar.optim.sgd as _sgd

Function = TypeVar("Function", bound=Callable[..., None])

_VECTOR, _NUMBER = "float32[::1]", "float32"


def _inline(formula: Any) -> Any:
    """A function that is compiled into those that call it."""
    return njit(inline="always", error_model="numpy")(formula)


def _loop(vectors: int, numbers: int) -> Callable[[Function], Function]:
    """Compile a function of so many, now, or take what was compiled before."""
    signature = f"void({','.join([_VECTOR] * vectors + [_NUMBER] * numbers)})"
    return cast("Callable[[Function], Function]", njit(signature, cache=True, error_model="numpy"))


_plain, _momentum, _nesterov = _inline(_sgd.plain), _inline(_sgd.momentum), _inline(_sgd.nesterov)
_step = _inline(_adam.adam)


@_loop(2, 2)
def plain(p: Any, g: Any, rate: Any, decay: Any) -> None:
    """See `sgd.plain`."""
    for i in range(len(p)):
        (p[i],) = _plain(p[i], g[i], rate, decay)


@_loop(3, 3)
def momentum(p: Any, g: Any, v: Any, rate: Any, mass: Any, decay: Any) -> None:
    """See `sgd.momentum`."""
    for i in range(len(p)):
        p[i], v[i] = _momentum(p[i], g[i], v[i], rate, mass, decay)


@_loop(3, 3)
def nesterov(p: Any, g: Any, v: Any, rate: Any, mass: Any, decay: Any) -> None:
    """See `sgd.nesterov`."""
    for i in range(len(p)):
        p[i], v[i] = _nesterov(p[i], g[i], v[i], rate, mass, decay)


@_loop(4, 6)
def adam(
    p: Any, g: Any, m: Any, v: Any, rate: Any, epsilon: Any, share: Any, other: Any, decay: Any, kept: Any
) -> None:
    """See `adam.adam`."""
    for i in range(len(p)):
        p[i], m[i], v[i] = _step(p[i], g[i], m[i], v[i], rate, epsilon, share, other, decay, kept)
