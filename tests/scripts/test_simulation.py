"""Thousands of runs under random faults, in virtual time: `scripts/simulation/run.py` says what is checked in each."""

import subprocess
import sys
from collections.abc import Callable
from copy import copy
from typing import Any

import pytest

from cnnpar.parallel.scheduling.scheduler import Scheduler
from cnnpar.parallel.scheduling.speeds import Speeds
from cnnpar.parallel.tree import Span, Tree
from scripts.simulation import run as script
from scripts.simulation.cluster import ClusteredWorkers
from scripts.simulation.faults import KINDS
from scripts.simulation.run import Tally
from tests.helpers.limits import HANGING
from tests.helpers.tiny_runs import ROOT

SCHEDULES = 2000
COME_BACK = ClusteredWorkers._come_back


@pytest.fixture(scope="module")
def tally() -> Tally:
    return script.simulate_all(range(SCHEDULES))


def test_any_faults_leave_the_serial_runs_bits_or_a_reason(tally: Tally) -> None:
    assert tally.broken == []
    assert tally.endings.total() == SCHEDULES


def test_most_simulated_runs_finish_and_each_ending_occurs(tally: Tally) -> None:
    assert tally.endings["done"] > SCHEDULES / 2
    assert tally.endings["stopped"]
    assert len([ending for ending in tally.endings if ending.startswith("failed: ")]) == 7


def test_each_kind_of_fault_is_simulated_ten_times(tally: Tally) -> None:
    assert [kind for kind in KINDS if tally.kinds[kind] < 10] == []


def test_a_seed_alone_makes_the_same_schedule_in_any_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert script.replay(5) == 0
    done = subprocess.run(
        [sys.executable, "-m", "scripts.simulation.run", "--seed", "5", "--replay"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=HANGING,
    )
    assert done.stdout == capsys.readouterr().out
    assert "gets job 1: microbatches" in done.stdout


def _forgotten(method: Callable[..., Any], attribute: str) -> Callable[..., Any]:
    """Return a scheduler's method that leaves an attribute as it was."""

    def broken(scheduler: Scheduler, *arguments: Any) -> Any:
        before = copy(getattr(scheduler, attribute))
        actions = method(scheduler, *arguments)
        setattr(scheduler, attribute, before)
        return actions

    return broken


def _announced_early(workers: ClusteredWorkers, alone: bool) -> None:
    """Say that the cluster is back a moment before orders have an effect."""
    COME_BACK(workers, alone)
    workers._up = False
    workers.time.plan(0.001, lambda: setattr(workers, "_up", not workers._ended))


@pytest.mark.parametrize(
    ("where", "name", "broken"),
    [
        (Tree, "replace", lambda *_: None),
        pytest.param(Scheduler, "held_up", lambda *_: None, marks=pytest.mark.slow),
        pytest.param(Scheduler, "holds", lambda *_: True, marks=pytest.mark.slow),
        pytest.param(Speeds, "shares", lambda _, workers, *__: [0] * len(workers), marks=pytest.mark.slow),
        (Span, "length", property(lambda span: max(span.stop - span.start - 1, 1))),
        pytest.param(Scheduler, "knows", lambda *_: True, marks=pytest.mark.slow),
        (Scheduler, "cluster_gone", _forgotten(Scheduler.cluster_gone, "_tasks")),
        pytest.param(
            Scheduler, "cluster_gone", _forgotten(Scheduler.cluster_gone, "_starting"), marks=pytest.mark.slow
        ),
        pytest.param(Scheduler, "cluster_gone", _forgotten(Scheduler.cluster_gone, "_gone"), marks=pytest.mark.slow),
        pytest.param(
            Scheduler, "cluster_gone", _forgotten(Scheduler.cluster_gone, "_starved_at"), marks=pytest.mark.slow
        ),
        pytest.param(
            Scheduler, "cluster_given_up", lambda scheduler, now: scheduler.cluster_back(now), marks=pytest.mark.slow
        ),
        (ClusteredWorkers, "_come_back", _announced_early),
    ],
    ids=[
        "buffers not saved",
        "held up",
        "lost workers",
        "no shares",
        "length of spans",
        "orders to a gone cluster",
        "jobs of a gone cluster",
        "starts of a gone cluster",
        "starts while there is no cluster",
        "no end of waiting for a cluster",
        "all workers without a cluster",
        "cluster announced early",
    ],
)
def test_a_broken_engine_is_found_and_its_seed_replays_it(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    where: type,
    name: str,
    broken: object,
) -> None:
    monkeypatch.setattr(where, name, broken)
    found = script.simulate_all(range(200)).broken
    assert found
    seed, what = found[0]
    assert script.replay(seed) == 1
    assert what in capsys.readouterr().out
