"""The scheduler in virtual time when all workers are gone with their cluster, which comes back, late or never."""

import pytest

from cnnpar.config.sections import Engine
from cnnpar.parallel.scheduling.actions import Drop, Fail, Finish
from cnnpar.parallel.scheduling.scheduler import Scheduler
from cnnpar.parallel.tree import Span
from tests.helpers.virtual_scheduler import TIMES, assigned, jobs, opened, started


def test_all_workers_are_started_anew_when_the_cluster_is_back() -> None:
    scheduler = opened(2)
    first = jobs(scheduler.begin("train", 4, 0.0))
    assert scheduler.cluster_gone("head died", 300.0, 1.0) == []
    assert scheduler.alive == 0
    assert scheduler.expire(100.0) == [], "none is started while there is no cluster"
    assert scheduler.answer(0, first[0], 0.1, 100.0) == (False, [])
    assert started(scheduler.cluster_back(200.0)) == [2, 3]
    assert scheduler.joined(0, 200.0) == [Drop(0, "it was asked for before its cluster was gone")]
    again = scheduler.joined(2, 201.0)
    assert sorted(microbatch for span in assigned(again).values() for microbatch in range(*span)) == [0, 1, 2, 3]


def test_the_run_fails_when_the_cluster_does_not_come_back() -> None:
    scheduler = opened(2)
    scheduler.begin("train", 4, 0.0)
    scheduler.cluster_gone("the head is gone", 300.0, 1.0)
    assert scheduler.deadline == 301.0
    assert scheduler.expire(301.0) == [
        Fail("the head is gone, and not back within 300 s (engine.cluster_timeout)", starved=True),
    ]


def test_workers_must_come_in_time_once_the_cluster_is_back() -> None:
    scheduler = opened(2)
    scheduler.begin("train", 4, 0.0)
    scheduler.cluster_gone("head died", 300.0, 0.0)
    scheduler.cluster_back(100.0)
    assert scheduler.deadline == 120.0
    (failure,) = scheduler.expire(120.0)
    assert isinstance(failure, Fail)
    assert "no new ones came within 20 s" in failure.reason


@pytest.mark.parametrize("workers", [2, "2:8"])
def test_without_cluster_the_run_goes_on_with_one_worker(workers: int | str) -> None:
    scheduler = opened(workers)
    scheduler.begin("train", 4, 0.0)
    scheduler.cluster_gone("head died", 300.0, 1.0)
    (only,) = started(scheduler.cluster_given_up(2.0))
    (job,) = jobs(scheduler.joined(only, 3.0)).values()
    assert scheduler.answer(only, job, 0.1, 4.0) == (True, [Finish()])
    assert assigned(scheduler.begin("train", 4, 5.0)) == {only: Span(0, 4)}, (
        "the least number of workers counts no more"
    )
    assert started(scheduler.expire(5.0)) == []


def test_workers_of_a_cluster_that_is_given_up_are_not_awaited() -> None:
    scheduler = opened(2)
    scheduler.begin("train", 4, 0.0)
    scheduler.cluster_gone("head died", 300.0, 1.0)
    assert len(started(scheduler.cluster_back(2.0))) == 2
    (only,) = started(scheduler.cluster_given_up(3.0))
    assert assigned(scheduler.joined(only, 4.0)) == {only: Span(0, 4)}


def test_step_that_ends_every_cluster_ends_the_run() -> None:
    scheduler = opened(1)
    scheduler.begin("train", 4, 0.0)
    for number in range(3):
        assert scheduler.cluster_gone("out of memory", 300.0, float(number)) == []
        (worker,) = started(scheduler.cluster_back(float(number)))
        scheduler.joined(worker, float(number))
    assert scheduler.cluster_gone("out of memory", 300.0, 4.0) == [
        Fail("one step has cost 4 clusters of workers; the last: out of memory")
    ]


def test_losses_before_a_clusters_end_do_not_count_besides() -> None:
    scheduler = opened(1)
    scheduler.begin("train", 4, 0.0)
    worker = 0
    for number in range(3):
        now = float(number)
        assert not any(isinstance(action, Fail) for action in scheduler.lost(worker, "its connection broke", now))
        assert scheduler.cluster_gone("head died", 300.0, now) == []
        (worker,) = started(scheduler.cluster_back(now))
        assert assigned(scheduler.joined(worker, now)) == {worker: Span(0, 4)}


def test_failed_starts_of_a_gone_cluster_do_not_count_on() -> None:
    scheduler = Scheduler(Engine(workers=4, **TIMES))
    for worker in started(scheduler.open(0.0)):
        assert scheduler.not_started(worker, "its process died", 0.0) == []
    scheduler.cluster_gone("head died", 300.0, 0.0)
    (only,) = started(scheduler.cluster_given_up(1.0))
    assert scheduler.not_started(only, "no memory", 2.0) == []
    (again,) = started(scheduler.expire(3.0))
    scheduler.joined(again, 3.0)
    assert scheduler.ready


def test_cluster_that_dies_while_workers_start_is_awaited() -> None:
    scheduler = opened(2)
    scheduler.lost(0, "killed", 0.0)
    scheduler.cluster_gone("head died", 300.0, 0.0)
    assert scheduler.not_started(2, "its process died", 1.0) == []
    assert scheduler.lost(1, "its process died", 1.0) == []
    assert len(started(scheduler.cluster_back(2.0))) == 2
