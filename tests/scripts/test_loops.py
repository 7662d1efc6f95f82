"""The benchmark of compiled loops: none is missing."""

import pytest

pytest.importorskip("numba")

from scripts.bench.loop_cases import cases_of, loops
from scripts.bench.loops import REASONS


def test_every_compiled_loop_has_cases_and_moves_something() -> None:
    found = loops()
    assert len(found) > 20
    for loop in found:
        case = next(cases_of(loop))
        loop.compiled(*case.arguments)
        assert case.held <= case.moved


def test_reasons_are_of_loops_that_exist() -> None:
    assert set(REASONS) <= {loop.name for loop in loops()}
