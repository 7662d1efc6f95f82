"""The schedule's promises under any order of answers, deaths and deadlines, in virtual time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.parallel.plan import Span
from cnnpar.parallel.schedule import Action, Assign, Drop, Fail, Finish, Schedule


def assigned(actions: list[Action]) -> dict[int, Span]:
    return {action.worker: action.span for action in actions if isinstance(action, Assign)}


def test_a_step_is_dealt_to_all_workers_and_finishes_with_the_last_answer() -> None:
    schedule = Schedule(workers=3, timeout=10.0)
    actions = schedule.begin(7, now=0.0)
    assert sorted(assigned(actions).values()) == [Span(0, 2), Span(2, 4), Span(4, 7)]
    jobs = [(action.worker, action.job) for action in actions if isinstance(action, Assign)]
    assert schedule.answer(*jobs[1], now=1.0) == (True, [])
    assert schedule.answer(*jobs[0], now=1.0) == (True, [])
    assert schedule.answer(*jobs[2], now=1.0) == (True, [Finish()])


def test_more_workers_than_microbatches_leave_some_idle() -> None:
    assert len(assigned(Schedule(workers=8, timeout=1.0).begin(3, now=0.0))) == 3


def test_a_dead_workers_span_goes_to_those_that_are_done() -> None:
    schedule = Schedule(workers=2, timeout=10.0)
    first, second = (a for a in schedule.begin(4, now=0.0) if isinstance(a, Assign))
    assert schedule.lost(second.worker, "killed", now=1.0) == []  # the other one is still at work
    accepted, actions = schedule.answer(first.worker, first.job, now=2.0)
    assert accepted
    assert assigned(actions) == {first.worker: second.span}
    (again,) = actions
    assert isinstance(again, Assign)
    assert schedule.answer(first.worker, again.job, now=3.0) == (True, [Finish()])


def test_a_dead_workers_span_is_shared_among_the_idle() -> None:
    schedule = Schedule(workers=3, timeout=10.0)
    jobs = [a for a in schedule.begin(6, now=0.0) if isinstance(a, Assign)]
    for job in jobs[:2]:
        schedule.answer(job.worker, job.job, now=1.0)
    actions = schedule.lost(jobs[2].worker, "killed", now=2.0)
    assert sorted(assigned(actions).values()) == [Span(4, 5), Span(5, 6)]


def test_an_answer_after_the_deadline_counts_no_more() -> None:
    schedule = Schedule(workers=2, timeout=10.0)
    first, second = (a for a in schedule.begin(2, now=0.0) if isinstance(a, Assign))
    schedule.answer(first.worker, first.job, now=1.0)
    assert schedule.deadline == 10.0
    assert schedule.expire(now=9.9) == []
    actions = schedule.expire(now=10.0)
    assert isinstance(actions[0], Drop)
    assert assigned(actions) == {first.worker: second.span}
    assert schedule.answer(second.worker, second.job, now=10.1) == (False, [])


def test_without_workers_the_step_fails_with_the_last_reason() -> None:
    schedule = Schedule(workers=1, timeout=10.0)
    (job,) = (a for a in schedule.begin(2, now=0.0) if isinstance(a, Assign))
    assert schedule.lost(job.worker, "out of memory", now=1.0) == [Fail("out of memory")]
    assert schedule.begin(2, now=2.0) == [Fail("out of memory")]


def test_a_loss_told_twice_is_one_loss() -> None:
    schedule = Schedule(workers=2, timeout=10.0)
    schedule.begin(2, now=0.0)
    schedule.lost(0, "killed", now=1.0)
    assert schedule.lost(0, "killed", now=1.0) == []
    assert schedule.alive == 1


@given(workers=st.integers(1, 6), steps=st.integers(1, 4), microbatches=st.integers(1, 20), data=st.data())
def test_under_any_faults_each_microbatch_counts_once_or_the_step_fails(
    workers: int, steps: int, microbatches: int, data: st.DataObject
) -> None:
    schedule = Schedule(workers, timeout=5.0)
    now = 0.0
    for _ in range(steps):
        done: list[int] = []
        under_way: dict[int, tuple[int, Span]] = {}
        actions = schedule.begin(microbatches, now)
        while True:
            for action in actions:
                if isinstance(action, Assign):
                    assert action.worker not in under_way, "a worker has one job at a time"
                    under_way[action.worker] = action.job, action.span
                elif isinstance(action, Drop):
                    del under_way[action.worker]
            if Finish() in actions:
                break
            if any(isinstance(action, Fail) for action in actions):
                assert schedule.alive == 0
                return
            assert under_way, "somebody must be at work while the step is not done"
            assert schedule.deadline < float("inf"), "every wait has a deadline"
            worker = data.draw(st.sampled_from(sorted(under_way)))
            match data.draw(st.sampled_from(["answer", "answer", "answer", "death", "silence", "stale"])):
                case "answer":
                    job, span = under_way.pop(worker)
                    accepted, actions = schedule.answer(worker, job, now)
                    assert accepted
                    done += range(*span)
                case "death":
                    del under_way[worker]
                    actions = schedule.lost(worker, "killed", now)
                case "silence":
                    now = schedule.deadline
                    actions = schedule.expire(now)
                case "stale":
                    assert schedule.answer(worker, -1, now) == (False, [])
                    actions = []
        assert sorted(done) == list(range(microbatches))


def test_deadlines_are_those_of_the_oldest_job() -> None:
    schedule = Schedule(workers=2, timeout=10.0)
    assert schedule.deadline == float("inf")
    schedule.begin(2, now=5.0)
    assert schedule.deadline == pytest.approx(15.0)
