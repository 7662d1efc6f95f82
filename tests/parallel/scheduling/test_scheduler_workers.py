"""The scheduler in virtual time: starts, losses and replacements of workers, and when a run fails for want of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.config.sections import Engine
from cnnpar.parallel.scheduling.actions import Assign, Drop, Fail, Finish, Start
from cnnpar.parallel.scheduling.scheduler import Scheduler
from cnnpar.parallel.tree import Span
from tests.helpers.virtual_scheduler import TIMES, assigned, jobs, opened, paced, started


def test_a_run_is_ready_with_its_least_number_of_workers() -> None:
    scheduler = Scheduler(Engine(workers="2:3", **TIMES))
    assert started(scheduler.open(0.0)) == [0, 1, 2]
    ready = []
    for worker in (2, 0):
        scheduler.joined(worker, 1.0)
        ready.append(scheduler.ready)
    assert ready == [False, True]
    assert scheduler.alive == 2


def test_a_run_without_its_first_workers_fails_at_start_timeout() -> None:
    scheduler = Scheduler(Engine(workers=2, **TIMES))
    scheduler.open(5.0)
    scheduler.joined(0, 6.0)
    assert scheduler.deadline == 25.0
    assert scheduler.expire(24.9) == []
    assert scheduler.expire(25.0) == [
        Fail("only 1 of 2 workers started within 20 s (engine.start_timeout)", starved=True)
    ]


def test_hopeless_first_worker_ends_the_run_with_the_reason() -> None:
    scheduler = Scheduler(Engine(workers=2, **TIMES))
    scheduler.open(0.0)
    refusal = [Fail("worker 1 did not start: other kernels")]
    assert scheduler.not_started(1, "other kernels", 1.0, hopeless=True) == refusal


def test_dead_first_workers_are_replaced_up_to_a_limit() -> None:
    scheduler = Scheduler(Engine(workers=2, **TIMES))
    scheduler.open(0.0)
    assert scheduler.not_started(0, "killed", 1.0) == []
    assert scheduler.not_started(1, "killed", 1.0) == []
    assert scheduler.deadline == 1.5
    assert started(scheduler.expire(1.5)) == [2, 3]
    scheduler.joined(2, 2.0)
    assert scheduler.not_started(3, "killed", 2.0) == []
    assert started(scheduler.expire(scheduler.deadline)) == [4]
    scheduler.joined(4, 4.0)
    assert scheduler.ready

    scheduler = Scheduler(Engine(workers=1, **TIMES))
    scheduler.open(0.0)
    for worker in range(3):
        assert scheduler.not_started(worker, "killed", 0.0) == []
        assert started(scheduler.expire(scheduler.deadline)) == [worker + 1]
    assert scheduler.not_started(3, "killed", 0.0) == [Fail("worker 3 did not start: killed")]


def test_workers_that_were_not_started_are_ignored_or_ended() -> None:
    scheduler = opened(2)
    assert scheduler.joined(7, 0.0) == [Drop(7, "it was asked for before its cluster was gone")]
    assert scheduler.joined(1, 0.0) == [], "nor one that is there already"
    assert scheduler.not_started(7, "killed", 0.0) == []
    assert scheduler.lost(7, "killed", 0.0) == []
    assert scheduler.alive == 2
    assert scheduler.knows(1)
    assert not scheduler.knows(7)


# Losses, replacements, and the least number of workers.


def test_a_lost_worker_is_replaced_under_a_new_number() -> None:
    scheduler = paced(0.1, 0.1, 0.1)
    scheduler.begin("train", 6, 0.0)
    assert started(scheduler.lost(1, "killed", 0.1)) == [3]
    assert started(scheduler.lost(0, "killed", 0.1)) == [4]


def test_workers_that_die_unanswered_are_replaced_ever_later() -> None:
    scheduler = paced(0.1, start_timeout=1000.0)
    scheduler.begin("train", 2, 0.0)
    assert started(scheduler.lost(0, "killed", 0.0)) == [1], "one that has answered is replaced at once"
    now = 0.0
    for worker, pause in enumerate([0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 60.0, 60.0], start=1):
        actions = scheduler.joined(worker, now) if worker % 2 else []
        assert bool(assigned(actions)) == bool(worker % 2)
        gone = scheduler.lost(worker, "killed", now)  # before or after it has come
        assert started(gone) == []
        assert scheduler.deadline == pytest.approx(now + pause)
        assert scheduler.expire(now + pause - 0.01) == []
        now += pause
        assert started(scheduler.expire(now)) == [worker + 1]
    actions = scheduler.joined(9, now)
    scheduler.answer(9, jobs(actions)[9], 0.2, now + 0.2)
    scheduler.begin("train", 2, now + 1.0)
    assert started(scheduler.lost(9, "killed", now + 1.0)) == [10], "an answer shows that things are well again"


def test_new_workers_that_are_lost_together_count_as_one_try() -> None:
    scheduler = opened(8)
    scheduler.begin("train", 8, 0.0)
    for worker in range(8):
        assert started(scheduler.lost(worker, "its node is gone", 0.01 * worker)) == []
    assert len(started(scheduler.expire(0.5))) == 8


def test_answers_of_others_do_not_shorten_the_growing_pause() -> None:
    scheduler = paced(0.1, 0.1)
    now = 0.0
    scheduler.lost(1, "killed", now)
    for worker, pause in [(2, 0.5), (3, 1.5), (4, 3.5)]:
        scheduler.joined(worker, now)
        job = jobs(scheduler.begin("train", 1, now))
        scheduler.lost(worker, "killed", now)
        assert scheduler.answer(0, job[0], 0.1, now + 0.1) == (True, [Finish()])
        assert started(scheduler.expire(now + pause - 0.01)) == []
        now += pause
        assert started(scheduler.expire(now)) == [worker + 1]


def test_when_all_workers_are_lost_the_step_waits_for_new_ones() -> None:
    scheduler = paced(0.1, 0.1)
    scheduler.begin("train", 4, 0.0)
    scheduler.lost(0, "killed", 0.1)
    assert started(scheduler.lost(1, "killed", 0.1)) == [3]
    assert scheduler.deadline == pytest.approx(20.1)
    assert assigned(scheduler.joined(3, 19.0)) == {3: Span(0, 4)}


def test_run_without_workers_fails_in_time_with_the_last_reason() -> None:
    scheduler = paced(0.1)
    scheduler.begin("train", 2, 0.0)
    scheduler.lost(0, "out of memory", 1.0)
    assert scheduler.expire(20.9) == []
    (fail,) = scheduler.expire(21.0)
    assert fail == Fail(
        "no worker is left, and no new ones came within 20 s (engine.start_timeout); "
        "the last was lost because: out of memory",
        starved=True,
    )


def test_a_step_begins_only_with_the_least_number_of_workers() -> None:
    scheduler = paced(0.1, 0.1, 0.1, min_workers=2)
    scheduler.lost(0, "killed", 0.0)
    scheduler.lost(1, "killed", 0.0)
    assert scheduler.begin("train", 4, 1.0) == []
    assert scheduler.deadline == pytest.approx(21.0)
    assert assigned(scheduler.joined(3, 2.0)) == {2: Span(0, 2), 3: Span(2, 4)}
    assert assigned(scheduler.lost(3, "killed", 2.1)) == {}
    assert scheduler.deadline < 20.0, "what has begun goes on with those that remain"


def test_run_with_too_few_workers_fails_and_says_how_many() -> None:
    scheduler = paced(0.1, 0.1, min_workers=2)
    scheduler.lost(1, "killed", 0.0)
    scheduler.begin("train", 4, 1.0)
    (fail,) = scheduler.expire(21.0)
    assert isinstance(fail, Fail)
    assert fail.reason.startswith("only 1 of at least 2 workers are left, and no new ones came within 20 s")


def test_more_losses_than_max_worker_failures_end_the_run() -> None:
    scheduler = paced(0.1, 0.1, 0.1, max_worker_failures=1)
    assert not any(isinstance(action, Fail) for action in scheduler.lost(0, "killed", 0.0))
    scheduler.begin("train", 2, 0.0)
    assert scheduler.lost(1, "out of memory", 0.0) == [
        Fail("2 workers were lost (engine.max_worker_failures 1); the last: out of memory")
    ]


def test_losses_that_end_the_run_are_counted_per_step() -> None:
    scheduler = paced(0.1, start_timeout=1000.0)
    worker = 0
    for step in range(4):
        scheduler.begin("train", 1, 100.0 * step)
        for loss in range(3):
            now = 100.0 * step + 10.0 * loss
            actions = scheduler.lost(worker, "killed", now)
            assert not any(isinstance(action, Fail) for action in actions)
            (worker,) = started(actions) or started(scheduler.expire(now + 9.0))
            actions = scheduler.joined(worker, now + 9.0)
        assert scheduler.answer(worker, jobs(actions)[worker], 0.1, now + 9.1) == (True, [Finish()])
    scheduler.begin("train", 1, 1000.0)
    for _ in range(3):
        actions = scheduler.lost(worker, "killed", 1000.0)
        (worker,) = started(actions) or started(scheduler.expire(1010.0))
        scheduler.joined(worker, 1010.0)
    assert scheduler.lost(worker, "killed", 1010.0) == [
        Fail("one step has cost 4 workers; the last was lost because: killed")
    ]


# Any sequence of faults; `scripts/simulation/run.py` does the same with the server, many more times.


@given(workers=st.integers(1, 6), steps=st.integers(1, 4), microbatches=st.integers(1, 20), data=st.data())
def test_each_microbatch_counts_once_or_the_run_fails(
    workers: int, steps: int, microbatches: int, data: st.DataObject
) -> None:
    scheduler = opened(workers)
    now = 0.0
    numbers = set(range(workers))
    coming: set[int] = set()
    under_way: dict[int, tuple[int, Span]] = {}
    last_job = 0
    for _ in range(steps):
        done: list[int] = []
        actions = scheduler.begin("train", microbatches, now)
        while Finish() not in actions:
            for action in actions:
                if isinstance(action, Assign):
                    assert action.worker not in under_way, "a worker has one job at a time"
                    assert action.job > last_job
                    last_job = action.job
                    under_way[action.worker] = action.job, action.span
                elif isinstance(action, Drop):
                    del under_way[action.worker]
                elif isinstance(action, Start):
                    assert action.worker not in numbers, "a number is never used again"
                    numbers.add(action.worker)
                    coming.add(action.worker)
            if any(isinstance(action, Fail) for action in actions):
                return
            assert scheduler.deadline < float("inf"), "every wait has a deadline"
            worker = data.draw(st.sampled_from(sorted(under_way.keys() | coming) or [-1]))
            kind = data.draw(st.sampled_from(["fact", "fact", "fact", "loss", "silence", "stale", "moment"]))
            if kind == "fact" and worker in under_way:
                now += 0.1
                job, span = under_way.pop(worker)
                accepted, actions = scheduler.answer(worker, job, 0.1, now)
                done += range(*span) if accepted else ()
            elif kind == "fact" and worker in coming:
                coming.discard(worker)
                actions = scheduler.joined(worker, now)
            elif kind == "loss":
                under_way.pop(worker, None)
                coming.discard(worker)
                actions = scheduler.lost(worker, "killed", now)
            elif kind == "stale":
                assert scheduler.answer(worker, -1, 0.1, now) == (False, [])
                actions = []
            else:
                now = max(now, scheduler.deadline) if kind == "silence" else now
                actions = scheduler.expire(now)
        assert sorted(done) == list(range(microbatches))
