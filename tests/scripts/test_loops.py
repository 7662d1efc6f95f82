"""The benchmark of compiled loops: none is missing."""

import pytest

pytest.importorskip("numba")

from scripts.bench.loop_cases import cases_of, loops
from scripts.bench.loop_limits import LIMITS, MOST, limit_of


def test_every_compiled_loop_has_cases_and_moves_something() -> None:
    found = loops()
    assert len(found) > 20
    for loop in found:
        case = next(cases_of(loop))
        loop.compiled(*case.arguments)
        assert case.held <= case.moved


def test_limits_are_of_cases_that_exist_and_have_a_reason() -> None:
    used = {limit_of(loop.name, case.what) for loop in loops() for case in cases_of(loop)}
    assert {limit for limit in used if limit.most != MOST} == set(LIMITS)
    assert all(limit.reason and limit.most > MOST for limit in LIMITS)
