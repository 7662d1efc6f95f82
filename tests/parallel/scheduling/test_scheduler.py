"""The scheduler in virtual time: spans of a step, deadlines, races, probes."""

import pytest

from cnnpar.parallel.scheduling.actions import Drop, Fail, Finish, Start
from cnnpar.parallel.tree import Span
from tests.helpers.virtual_scheduler import assigned, jobs, opened, paced, started


def test_step_is_split_over_workers_and_ends_with_last_answer() -> None:
    scheduler = opened(3)
    actions = scheduler.begin("train", 7, 0.0)
    assert sorted(assigned(actions).values()) == [Span(0, 3), Span(3, 5), Span(5, 7)]
    job = jobs(actions)
    assert scheduler.answer(1, job[1], 1.0, 1.0) == (True, [])
    assert scheduler.answer(0, job[0], 1.0, 1.0) == (True, [])
    assert scheduler.answer(2, job[2], 1.0, 1.0) == (True, [Finish()])


def test_more_workers_than_microbatches_leave_some_idle() -> None:
    assert len(assigned(opened(8).begin("train", 3, 0.0))) == 3


def test_an_answer_counts_once_and_only_for_the_workers_job() -> None:
    scheduler = opened(2)
    job = jobs(scheduler.begin("train", 4, 0.0))
    assert scheduler.answer(0, job[1], 1.0, 1.0) == (False, [])
    assert scheduler.answer(0, job[0], 1.0, 1.0) == (True, [])
    assert scheduler.answer(0, job[0], 1.0, 1.0) == (False, [])


def test_a_dead_workers_span_goes_to_those_that_are_done() -> None:
    scheduler = opened(2)
    job = jobs(scheduler.begin("train", 4, 0.0))
    assert started(scheduler.lost(1, "killed", 1.0)) == []  # it had not answered once: the next one comes later
    accepted, actions = scheduler.answer(0, job[0], 2.0, 2.0)
    assert accepted
    assert assigned(actions) == {0: Span(2, 4)}
    assert scheduler.answer(0, jobs(actions)[0], 1.0, 3.0) == (True, [Finish()])


def test_a_dead_workers_span_is_shared_among_the_idle() -> None:
    scheduler = opened(3)
    job = jobs(scheduler.begin("train", 6, 0.0))
    for worker in (0, 1):
        scheduler.answer(worker, job[worker], 1.0, 1.0)
    assert assigned(scheduler.lost(2, "killed", 1.1)) == {0: Span(4, 5), 1: Span(5, 6)}


def test_a_loss_reported_twice_counts_once() -> None:
    scheduler = paced(0.1, 0.1, max_worker_failures=1)
    scheduler.begin("train", 2, 0.0)
    assert started(scheduler.lost(0, "killed", 0.1)) == [2]
    assert scheduler.lost(0, "killed", 0.1) == []
    assert scheduler.alive == 1


def test_worker_joining_mid_step_gets_a_lost_span_or_nothing() -> None:
    scheduler = paced(0.1, 0.1)
    scheduler.begin("train", 4, 0.0)
    assert started(scheduler.lost(0, "killed", 0.1)) == [2]
    assert assigned(scheduler.joined(2, 0.2)) == {2: Span(0, 2)}
    assert started(scheduler.lost(2, "killed", 0.2)) == []
    scheduler = opened("1:2")
    scheduler.lost(1, "killed", 0.0)
    scheduler.begin("train", 4, 0.0)
    assert started(scheduler.expire(0.5)) == [2]
    assert scheduler.joined(2, 0.6) == [], "all is with somebody who is not late"


# Deadlines: races, and workers that are given up.


def test_without_measurements_the_deadline_is_step_timeout() -> None:
    scheduler = opened(2)
    scheduler.begin("train", 2, 5.0)
    assert scheduler.deadline == 15.0


def test_the_first_answer_sets_the_deadlines_of_the_others() -> None:
    scheduler = opened(2)
    job = jobs(scheduler.begin("train", 2, 0.0))
    scheduler.answer(0, job[0], 0.9, 1.0)  # 0.9 s of computing, and 0.1 s on the way
    assert scheduler.deadline == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("limits", "late"),
    [({}, 0.8), ({"deadline_factor": 2.0}, 0.4), ({"deadline_floor": 3.0}, 3.0), ({"step_timeout": 0.3}, 0.3)],
)
def test_deadline_is_a_multiple_of_usual_time_within_limits(limits: dict[str, float], late: float) -> None:
    scheduler = paced(0.1, 0.1, **limits)
    scheduler.begin("train", 4, 0.0)
    assert scheduler.deadline == pytest.approx(late)


def test_speeds_of_lost_workers_do_not_set_deadlines() -> None:
    scheduler = paced(0.1, 1.0)
    scheduler.lost(0, "killed", 0.0)
    scheduler.begin("train", 2, 0.0)
    assert scheduler.deadline == pytest.approx(8.0)


def test_the_time_of_a_job_counts_from_when_it_was_sent() -> None:
    scheduler = paced(0.1)
    scheduler.begin("train", 1, 0.0)
    scheduler.sent(0, 5.0)
    assert scheduler.deadline == pytest.approx(5.4)


def test_late_span_is_raced_and_the_first_answer_counts() -> None:
    for first in (0, 1):
        scheduler = paced(0.1, 0.1)
        job = jobs(scheduler.begin("train", 2, 0.0))
        scheduler.answer(0, job[0], 0.1, 0.1)
        assert scheduler.deadline == pytest.approx(0.4)
        actions = scheduler.expire(0.4)
        assert assigned(actions) == {0: Span(1, 2)}
        race = {0: jobs(actions)[0], 1: job[1]}
        assert scheduler.answer(first, race[first], 0.1, 0.5) == (True, [Finish()])
        assert scheduler.answer(1 - first, race[1 - first], 0.1, 0.5) == (False, [])


def test_overlapping_answer_is_refused_and_its_rest_reassigned() -> None:
    scheduler = paced(0.1, 0.1, 0.1)
    job = jobs(scheduler.begin("train", 6, 0.0))
    for worker in (1, 2):
        scheduler.answer(worker, job[worker], 0.2, 0.2)
    race = scheduler.expire(0.8)
    assert assigned(race) == {1: Span(0, 1), 2: Span(1, 2)}
    assert scheduler.lost(2, "killed", 0.9)[1:] == []
    accepted, actions = scheduler.answer(1, jobs(race)[1], 0.1, 1.0)
    assert accepted
    assert assigned(actions) == {1: Span(1, 2)}
    assert scheduler.answer(0, job[0], 1.0, 1.1) == (False, []), "half of it is there, so none of it is used"


def test_worker_past_its_give_up_time_is_dropped_and_replaced() -> None:
    for give_up_after, end in [(0.1, 2.0), (3.0, 3.0), (60.0, 10.0)]:  # 5 * 0.4, the setting, step_timeout
        scheduler = paced(0.1, 0.1, give_up_after=give_up_after)
        job = jobs(scheduler.begin("train", 2, 0.0))
        scheduler.answer(1, job[1], 0.1, 0.1)
        scheduler.answer(1, jobs(scheduler.expire(0.4))[1], 0.1, 0.5)
        assert scheduler.deadline == pytest.approx(end)
        assert scheduler.expire(end - 0.01) == []
        actions = scheduler.expire(end + 0.01)
        assert actions[:2] == [Drop(0, f"no answer for {end + 0.01:.3g} s"), Start(2)]
        assert scheduler.alive == 1
        assert scheduler.answer(0, job[0], 0.1, end + 0.02) == (False, []), "nothing it says counts any more"


def test_time_the_server_was_held_up_makes_no_worker_late() -> None:
    scheduler = paced(0.1, 0.1)
    scheduler.begin("train", 2, 0.0)
    scheduler.held_up(100.0)
    assert scheduler.expire(100.3) == []
    assert scheduler.deadline == pytest.approx(100.4)
    scheduler.expire(100.4)
    scheduler.held_up(100.0)
    assert scheduler.expire(201.9) == [], "nor is anybody given up"
    assert len(scheduler.expire(202.1)) == 4, "but after that both are"


def test_time_the_server_was_held_up_counts_for_no_shortage() -> None:
    scheduler = paced(0.1)
    scheduler.begin("train", 2, 0.0)
    scheduler.lost(0, "killed", 0.0)
    scheduler.held_up(100.0)
    assert not any(isinstance(action, Fail) for action in scheduler.expire(119.9))
    assert any(isinstance(action, Fail) for action in scheduler.expire(120.1))


def test_worker_busy_with_an_earlier_step_gets_no_job() -> None:
    scheduler = paced(0.1, 0.1)
    job = jobs(scheduler.begin("train", 2, 0.0))
    scheduler.answer(0, job[0], 0.1, 0.1)
    race = scheduler.expire(0.4)
    scheduler.answer(0, jobs(race)[0], 0.1, 0.5)
    assert assigned(scheduler.begin("train", 4, 0.5)) == {0: Span(0, 4)}
    assert scheduler.answer(1, job[1], 0.6, 0.6) == (False, []), "all is with somebody who is not late"
    assert not scheduler.holds(1, job[1])


# Lengths of spans by speed, and probes.


def test_a_faster_worker_gets_a_longer_span() -> None:
    assert assigned(paced(0.1, 0.3).begin("train", 8, 0.0)) == {0: Span(0, 6), 1: Span(6, 8)}


def test_too_slow_worker_gets_a_probe_that_no_step_awaits() -> None:
    scheduler = paced(0.1, 0.1, 9.0, step_timeout=100.0)
    actions = scheduler.begin("train", 4, 0.0)
    assert assigned(actions) == {0: Span(0, 2), 1: Span(2, 4), 2: Span(0, 1)}
    job = jobs(actions)
    assert scheduler.answer(2, job[2], 0.1, 0.1) == (False, [])
    assert scheduler.answer(0, job[0], 0.2, 0.2) == (True, []), "the probe's answer has not taken its place"
    assert scheduler.answer(1, job[1], 0.2, 0.2) == (True, [Finish()])


def test_a_probe_finds_a_worker_that_is_fast_again() -> None:
    scheduler = paced(0.1, 9.0, step_timeout=100.0)
    for _ in range(2):
        job = jobs(scheduler.begin("train", 4, 0.0))
        scheduler.answer(1, job[1], 0.1, 0.1)
        scheduler.answer(0, job[0], 0.4, 0.4)
    assert assigned(scheduler.begin("train", 4, 1.0)) == {0: Span(0, 2), 1: Span(2, 4)}


def test_no_probe_without_spare_work_or_enough_workers() -> None:
    assert assigned(paced(0.1, 0.1, 9.0).begin("train", 2, 0.0)) == {0: Span(0, 1), 1: Span(1, 2)}
    scheduler = paced(0.1, 0.1, min_workers=2)
    scheduler.lost(0, "killed", 0.0)
    assert scheduler.begin("train", 4, 0.0) == []


def test_late_span_that_no_fast_worker_takes_goes_to_a_slow_one() -> None:
    scheduler = paced(0.1, 0.1, 0.1, 0.3)
    job = jobs(scheduler.begin("train", 3, 0.0))
    assert set(job) == {0, 1, 2}
    scheduler.answer(1, job[1], 0.1, 0.1)
    assert assigned(scheduler.expire(0.4)) == {1: Span(0, 1), 3: Span(2, 3)}
