"""How many workers there are, and whether the run can go on: the schedule in virtual time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.config.sections import Engine
from cnnpar.parallel.scheduling.actions import Assign, Drop, Fail, Finish, Start
from cnnpar.parallel.scheduling.scheduler import Scheduler
from cnnpar.parallel.tree import Span
from tests.helpers.virtual_scheduler import TIMES, assigned, jobs, opened, paced, started


def test_a_run_begins_with_as_many_workers_as_it_needs_while_more_may_come() -> None:
    schedule = Scheduler(Engine(workers="2:3", **TIMES))
    assert started(schedule.open(0.0)) == [0, 1, 2]
    ready = []
    for worker in (2, 0):
        schedule.joined(worker, 1.0)
        ready.append(schedule.ready)
    assert ready == [False, True]
    assert schedule.alive == 2


def test_a_run_without_its_first_workers_fails_in_time() -> None:
    schedule = Scheduler(Engine(workers=2, **TIMES))
    schedule.open(5.0)
    schedule.joined(0, 6.0)
    assert schedule.deadline == 25.0
    assert schedule.expire(24.9) == []
    assert schedule.expire(25.0) == [
        Fail("only 1 of 2 workers started within 20 s (engine.start_timeout)", starved=True)
    ]


def test_a_first_worker_that_cannot_be_had_ends_the_run_with_the_reason() -> None:
    schedule = Scheduler(Engine(workers=2, **TIMES))
    schedule.open(0.0)
    refusal = [Fail("worker 1 did not start: other kernels")]
    assert schedule.not_started(1, "other kernels", 1.0, hopeless=True) == refusal


def test_first_workers_that_die_are_replaced_but_not_for_ever() -> None:
    schedule = Scheduler(Engine(workers=2, **TIMES))
    schedule.open(0.0)
    assert schedule.not_started(0, "killed", 1.0) == []
    assert schedule.not_started(1, "killed", 1.0) == []
    assert schedule.deadline == 1.5
    assert started(schedule.expire(1.5)) == [2, 3]
    schedule.joined(2, 2.0)
    assert schedule.not_started(3, "killed", 2.0) == []
    assert started(schedule.expire(schedule.deadline)) == [4]
    schedule.joined(4, 4.0)
    assert schedule.ready

    schedule = Scheduler(Engine(workers=1, **TIMES))
    schedule.open(0.0)
    for worker in range(3):
        assert schedule.not_started(worker, "killed", 0.0) == []
        assert started(schedule.expire(schedule.deadline)) == [worker + 1]
    assert schedule.not_started(3, "killed", 0.0) == [Fail("worker 3 did not start: killed")]


def test_whoever_was_not_asked_for_is_not_taken_in() -> None:
    schedule = opened(2)
    assert schedule.joined(7, 0.0) == []
    assert schedule.joined(1, 0.0) == [], "nor one that is there already"
    assert schedule.not_started(7, "killed", 0.0) == []
    assert schedule.lost(7, "killed", 0.0) == []
    assert schedule.alive == 2
    assert schedule.knows(1)
    assert not schedule.knows(7)


# How many workers there must be.


def test_a_lost_worker_is_replaced_under_a_new_number() -> None:
    schedule = paced(0.1, 0.1, 0.1)
    schedule.begin("train", 6, 0.0)
    assert started(schedule.lost(1, "killed", 0.1)) == [3]
    assert started(schedule.lost(0, "killed", 0.1)) == [4]


def test_a_worker_that_dies_before_its_first_answer_is_replaced_after_a_growing_pause() -> None:
    schedule = paced(0.1, start_timeout=1000.0)
    schedule.begin("train", 2, 0.0)
    assert started(schedule.lost(0, "killed", 0.0)) == [1], "one that has answered is replaced at once"
    now = 0.0
    for worker, pause in enumerate([0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 60.0, 60.0], start=1):
        actions = schedule.joined(worker, now) if worker % 2 else []
        assert bool(assigned(actions)) == bool(worker % 2)
        gone = schedule.lost(worker, "killed", now)  # before or after it has come
        assert started(gone) == []
        assert schedule.deadline == pytest.approx(now + pause)
        assert schedule.expire(now + pause - 0.01) == []
        now += pause
        assert started(schedule.expire(now)) == [worker + 1]
    actions = schedule.joined(9, now)
    schedule.answer(9, jobs(actions)[9], 0.2, now + 0.2)
    schedule.begin("train", 2, now + 1.0)
    assert started(schedule.lost(9, "killed", now + 1.0)) == [10], "an answer shows that things are well again"


def test_new_workers_that_are_lost_together_are_one_try() -> None:
    schedule = opened(8)
    schedule.begin("train", 8, 0.0)
    for worker in range(8):
        assert started(schedule.lost(worker, "its node is gone", 0.01 * worker)) == []
    assert len(started(schedule.expire(0.5))) == 8


def test_answers_of_others_do_not_shorten_the_pause_between_workers_that_die_at_once() -> None:
    schedule = paced(0.1, 0.1)
    now = 0.0
    schedule.lost(1, "killed", now)
    for worker, pause in [(2, 0.5), (3, 1.5), (4, 3.5)]:
        schedule.joined(worker, now)
        job = jobs(schedule.begin("train", 1, now))
        schedule.lost(worker, "killed", now)
        assert schedule.answer(0, job[0], 0.1, now + 0.1) == (True, [Finish()])
        assert started(schedule.expire(now + pause - 0.01)) == []
        now += pause
        assert started(schedule.expire(now)) == [worker + 1]


def test_when_all_workers_are_lost_the_step_waits_for_new_ones() -> None:
    schedule = paced(0.1, 0.1)
    schedule.begin("train", 4, 0.0)
    schedule.lost(0, "killed", 0.1)
    assert started(schedule.lost(1, "killed", 0.1)) == [3]
    assert schedule.deadline == pytest.approx(20.1)
    assert assigned(schedule.joined(3, 19.0)) == {3: Span(0, 4)}


def test_without_workers_the_run_fails_in_time_with_the_last_reason() -> None:
    schedule = paced(0.1)
    schedule.begin("train", 2, 0.0)
    schedule.lost(0, "out of memory", 1.0)
    assert schedule.expire(20.9) == []
    (fail,) = schedule.expire(21.0)
    assert fail == Fail(
        "no worker is left, and no new ones came within 20 s (engine.start_timeout); "
        "the last was lost because: out of memory",
        starved=True,
    )


def test_a_step_does_not_begin_with_fewer_workers_than_the_minimum_and_goes_on_when_they_have_come() -> None:
    schedule = paced(0.1, 0.1, 0.1, min_workers=2)
    schedule.lost(0, "killed", 0.0)
    schedule.lost(1, "killed", 0.0)
    assert schedule.begin("train", 4, 1.0) == []
    assert schedule.deadline == pytest.approx(21.0)
    assert assigned(schedule.joined(3, 2.0)) == {2: Span(0, 2), 3: Span(2, 4)}
    assert assigned(schedule.lost(3, "killed", 2.1)) == {}
    assert schedule.deadline < 20.0, "what has begun goes on with those that remain"


def test_a_run_with_too_few_workers_for_too_long_fails_with_how_many_there_are() -> None:
    schedule = paced(0.1, 0.1, min_workers=2)
    schedule.lost(1, "killed", 0.0)
    schedule.begin("train", 4, 1.0)
    (fail,) = schedule.expire(21.0)
    assert isinstance(fail, Fail)
    assert fail.reason.startswith("only 1 of at least 2 workers are left, and no new ones came within 20 s")


def test_more_losses_than_the_settings_allow_end_the_run() -> None:
    schedule = paced(0.1, 0.1, 0.1, max_worker_failures=1)
    assert not any(isinstance(action, Fail) for action in schedule.lost(0, "killed", 0.0))
    schedule.begin("train", 2, 0.0)
    assert schedule.lost(1, "out of memory", 0.0) == [
        Fail("2 workers were lost (engine.max_worker_failures 1); the last: out of memory")
    ]


def test_a_step_that_costs_too_many_workers_ends_the_run_and_many_steps_may_cost_many() -> None:
    schedule = paced(0.1, start_timeout=1000.0)
    worker = 0
    for step in range(4):
        schedule.begin("train", 1, 100.0 * step)
        for loss in range(3):
            now = 100.0 * step + 10.0 * loss
            actions = schedule.lost(worker, "killed", now)
            assert not any(isinstance(action, Fail) for action in actions)
            (worker,) = started(actions) or started(schedule.expire(now + 9.0))
            actions = schedule.joined(worker, now + 9.0)
        assert schedule.answer(worker, jobs(actions)[worker], 0.1, now + 9.1) == (True, [Finish()])
    schedule.begin("train", 1, 1000.0)
    for _ in range(3):
        actions = schedule.lost(worker, "killed", 1000.0)
        (worker,) = started(actions) or started(schedule.expire(1010.0))
        schedule.joined(worker, 1010.0)
    assert schedule.lost(worker, "killed", 1010.0) == [
        Fail("one step has cost 4 workers; the last was lost because: killed")
    ]


# All of it at once; `scripts/simulation/run.py` does the same with the server, and much more of it.


@given(workers=st.integers(1, 6), steps=st.integers(1, 4), microbatches=st.integers(1, 20), data=st.data())
def test_under_any_faults_each_microbatch_counts_once_or_the_run_fails(
    workers: int, steps: int, microbatches: int, data: st.DataObject
) -> None:
    schedule = opened(workers)
    now = 0.0
    numbers = set(range(workers))
    coming: set[int] = set()
    under_way: dict[int, tuple[int, Span]] = {}
    last_job = 0
    for _ in range(steps):
        done: list[int] = []
        actions = schedule.begin("train", microbatches, now)
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
            assert schedule.deadline < float("inf"), "every wait has a deadline"
            worker = data.draw(st.sampled_from(sorted(under_way.keys() | coming) or [-1]))
            kind = data.draw(st.sampled_from(["fact", "fact", "fact", "loss", "silence", "stale", "moment"]))
            if kind == "fact" and worker in under_way:
                now += 0.1
                job, span = under_way.pop(worker)
                accepted, actions = schedule.answer(worker, job, 0.1, now)
                done += range(*span) if accepted else ()
            elif kind == "fact" and worker in coming:
                coming.discard(worker)
                actions = schedule.joined(worker, now)
            elif kind == "loss":
                under_way.pop(worker, None)
                coming.discard(worker)
                actions = schedule.lost(worker, "killed", now)
            elif kind == "stale":
                assert schedule.answer(worker, -1, 0.1, now) == (False, [])
                actions = []
            else:
                now = max(now, schedule.deadline) if kind == "silence" else now
                actions = schedule.expire(now)
        assert sorted(done) == list(range(microbatches))
