"""Thousands of runs under random faults, in virtual time: `scripts/simulate.py` says what is checked in each."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from cnnpar.parallel.plan import Span, Tree
from cnnpar.parallel.schedule import Schedule
from cnnpar.parallel.speeds import Speeds
from tests.conftest import HANGING

if TYPE_CHECKING:
    from simulate import Tally

SCRIPT = Path(__file__).parents[1] / "scripts" / "simulate.py"
SCHEDULES = 2000


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        import simulate

        yield simulate


@pytest.fixture(scope="module")
def tally(script: Any) -> "Tally":
    result: Tally = script.simulate_all(range(SCHEDULES))
    return result


def test_every_schedule_of_faults_leaves_the_bits_of_a_serial_run_or_fails_for_a_reason(tally: "Tally") -> None:
    assert tally.broken == []
    assert tally.endings.total() == SCHEDULES


def test_most_schedules_reach_their_end_and_each_other_way_to_end_occurs(tally: "Tally") -> None:
    assert tally.endings["done"] > SCHEDULES / 2
    assert tally.endings["stopped"]
    assert len([ending for ending in tally.endings if ending.startswith("failed: ")]) == 6


def test_each_kind_of_fault_has_really_happened(script: Any, tally: "Tally") -> None:
    assert [kind for kind in script.KINDS if tally.kinds[kind] < 10] == []


def test_a_seed_alone_makes_the_same_schedule_in_any_process(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.replay(5) == 0
    done = subprocess.run(
        [sys.executable, SCRIPT, "--seed", "5", "--replay"], capture_output=True, text=True, check=True, timeout=HANGING
    )
    assert done.stdout == capsys.readouterr().out
    assert "gets job 1: microbatches" in done.stdout


@pytest.mark.parametrize(
    ("where", "name", "broken"),
    [
        (Tree, "replace", lambda *_: None),
        (Schedule, "held_up", lambda *_: None),
        (Schedule, "holds", lambda *_: True),
        (Speeds, "shares", lambda _, workers, *__: [0] * len(workers)),
        (Span, "length", property(lambda span: max(span.stop - span.start - 1, 1))),
    ],
    ids=["buffers not saved", "held up", "lost workers", "no shares", "length of spans"],
)
def test_a_broken_engine_is_found_out_and_the_seed_shows_it_alone(
    script: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    where: type,
    name: str,
    broken: object,
) -> None:
    monkeypatch.setattr(where, name, broken)
    found: list[tuple[int, str]] = script.simulate_all(range(200)).broken
    assert found
    seed, what = found[0]
    assert script.replay(seed) == 1
    assert what in capsys.readouterr().out
