"""Who computes what in a step, and who is late: the schedule in virtual time."""

import pytest

from cnnpar.parallel.scheduling.actions import Drop, Fail, Finish, Start
from cnnpar.parallel.tree import Span
from tests.helpers.virtual_scheduler import assigned, jobs, opened, paced, started


def test_a_step_is_dealt_to_all_workers_and_finishes_with_the_last_answer() -> None:
    schedule = opened(3)
    actions = schedule.begin("train", 7, 0.0)
    assert sorted(assigned(actions).values()) == [Span(0, 3), Span(3, 5), Span(5, 7)]
    job = jobs(actions)
    assert schedule.answer(1, job[1], 1.0, 1.0) == (True, [])
    assert schedule.answer(0, job[0], 1.0, 1.0) == (True, [])
    assert schedule.answer(2, job[2], 1.0, 1.0) == (True, [Finish()])


def test_more_workers_than_microbatches_leave_some_idle() -> None:
    assert len(assigned(opened(8).begin("train", 3, 0.0))) == 3


def test_an_answer_counts_once_and_only_for_the_job_that_the_worker_has() -> None:
    schedule = opened(2)
    job = jobs(schedule.begin("train", 4, 0.0))
    assert schedule.answer(0, job[1], 1.0, 1.0) == (False, [])
    assert schedule.answer(0, job[0], 1.0, 1.0) == (True, [])
    assert schedule.answer(0, job[0], 1.0, 1.0) == (False, [])


def test_a_dead_workers_span_goes_to_those_that_are_done() -> None:
    schedule = opened(2)
    job = jobs(schedule.begin("train", 4, 0.0))
    assert started(schedule.lost(1, "killed", 1.0)) == []  # it had not answered once: the next one comes later
    accepted, actions = schedule.answer(0, job[0], 2.0, 2.0)
    assert accepted
    assert assigned(actions) == {0: Span(2, 4)}
    assert schedule.answer(0, jobs(actions)[0], 1.0, 3.0) == (True, [Finish()])


def test_a_dead_workers_span_is_shared_among_the_idle() -> None:
    schedule = opened(3)
    job = jobs(schedule.begin("train", 6, 0.0))
    for worker in (0, 1):
        schedule.answer(worker, job[worker], 1.0, 1.0)
    assert assigned(schedule.lost(2, "killed", 1.1)) == {0: Span(4, 5), 1: Span(5, 6)}


def test_a_loss_told_twice_is_one_loss() -> None:
    schedule = paced(0.1, 0.1, max_worker_failures=1)
    schedule.begin("train", 2, 0.0)
    assert started(schedule.lost(0, "killed", 0.1)) == [2]
    assert schedule.lost(0, "killed", 0.1) == []
    assert schedule.alive == 1


def test_a_worker_that_joins_in_mid_step_helps_where_help_is_needed() -> None:
    schedule = paced(0.1, 0.1)
    schedule.begin("train", 4, 0.0)
    assert started(schedule.lost(0, "killed", 0.1)) == [2]
    assert assigned(schedule.joined(2, 0.2)) == {2: Span(0, 2)}
    assert started(schedule.lost(2, "killed", 0.2)) == []
    schedule = opened("1:2")
    schedule.lost(1, "killed", 0.0)
    schedule.begin("train", 4, 0.0)
    assert started(schedule.expire(0.5)) == [2]
    assert schedule.joined(2, 0.6) == [], "all is with somebody who is not late"


# Who is late, and what is done about it.


def test_until_something_is_measured_nobody_is_late_before_step_timeout() -> None:
    schedule = opened(2)
    schedule.begin("train", 2, 5.0)
    assert schedule.deadline == 15.0


def test_the_first_answer_sets_the_deadlines_of_the_others() -> None:
    schedule = opened(2)
    job = jobs(schedule.begin("train", 2, 0.0))
    schedule.answer(0, job[0], 0.9, 1.0)  # 0.9 s of computing, and 0.1 s on the way
    assert schedule.deadline == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("limits", "late"),
    [({}, 0.8), ({"deadline_factor": 2.0}, 0.4), ({"deadline_floor": 3.0}, 3.0), ({"step_timeout": 0.3}, 0.3)],
)
def test_deadlines_are_a_multiple_of_the_usual_time_within_limits(limits: dict[str, float], late: float) -> None:
    schedule = paced(0.1, 0.1, **limits)
    schedule.begin("train", 4, 0.0)
    assert schedule.deadline == pytest.approx(late)


def test_lost_workers_say_nothing_of_how_fast_those_are_that_remain() -> None:
    schedule = paced(0.1, 1.0)
    schedule.lost(0, "killed", 0.0)
    schedule.begin("train", 2, 0.0)
    assert schedule.deadline == pytest.approx(8.0)


def test_the_time_of_a_job_counts_from_when_it_was_sent() -> None:
    schedule = paced(0.1)
    schedule.begin("train", 1, 0.0)
    schedule.sent(0, 5.0)
    assert schedule.deadline == pytest.approx(5.4)


def test_a_late_span_is_raced_by_the_free_and_the_first_answer_counts() -> None:
    for first in (0, 1):
        schedule = paced(0.1, 0.1)
        job = jobs(schedule.begin("train", 2, 0.0))
        schedule.answer(0, job[0], 0.1, 0.1)
        assert schedule.deadline == pytest.approx(0.4)
        actions = schedule.expire(0.4)
        assert assigned(actions) == {0: Span(1, 2)}
        race = {0: jobs(actions)[0], 1: job[1]}
        assert schedule.answer(first, race[first], 0.1, 0.5) == (True, [Finish()])
        assert schedule.answer(1 - first, race[1 - first], 0.1, 0.5) == (False, [])


def test_what_overlaps_an_answer_is_void_and_the_rest_of_it_is_dealt_again() -> None:
    schedule = paced(0.1, 0.1, 0.1)
    job = jobs(schedule.begin("train", 6, 0.0))
    for worker in (1, 2):
        schedule.answer(worker, job[worker], 0.2, 0.2)
    race = schedule.expire(0.8)
    assert assigned(race) == {1: Span(0, 1), 2: Span(1, 2)}
    assert schedule.lost(2, "killed", 0.9)[1:] == []
    accepted, actions = schedule.answer(1, jobs(race)[1], 0.1, 1.0)
    assert accepted
    assert assigned(actions) == {1: Span(1, 2)}
    assert schedule.answer(0, job[0], 1.0, 1.1) == (False, []), "half of it is there, so none of it is used"


def test_a_late_worker_is_given_up_after_five_deadlines_or_the_settings_time_and_replaced() -> None:
    for give_up_after, end in [(0.1, 2.0), (3.0, 3.0), (60.0, 10.0)]:  # 5 * 0.4, the setting, step_timeout
        schedule = paced(0.1, 0.1, give_up_after=give_up_after)
        job = jobs(schedule.begin("train", 2, 0.0))
        schedule.answer(1, job[1], 0.1, 0.1)
        schedule.answer(1, jobs(schedule.expire(0.4))[1], 0.1, 0.5)
        assert schedule.deadline == pytest.approx(end)
        assert schedule.expire(end - 0.01) == []
        actions = schedule.expire(end + 0.01)
        assert actions[:2] == [Drop(0, f"no answer for {end + 0.01:.3g} s"), Start(2)]
        assert schedule.alive == 1
        assert schedule.answer(0, job[0], 0.1, end + 0.02) == (False, []), "nothing it says counts any more"


def test_what_the_server_slept_makes_nobody_late() -> None:
    schedule = paced(0.1, 0.1)
    schedule.begin("train", 2, 0.0)
    schedule.held_up(100.0)
    assert schedule.expire(100.3) == []
    assert schedule.deadline == pytest.approx(100.4)
    schedule.expire(100.4)
    schedule.held_up(100.0)
    assert schedule.expire(201.9) == [], "nor is anybody given up"
    assert len(schedule.expire(202.1)) == 4, "but after that both are"


def test_what_the_server_slept_brings_no_shortage() -> None:
    schedule = paced(0.1)
    schedule.begin("train", 2, 0.0)
    schedule.lost(0, "killed", 0.0)
    schedule.held_up(100.0)
    assert not any(isinstance(action, Fail) for action in schedule.expire(119.9))
    assert any(isinstance(action, Fail) for action in schedule.expire(120.1))


def test_a_worker_with_an_answer_to_an_earlier_step_gets_no_job_before_it_has_answered() -> None:
    schedule = paced(0.1, 0.1)
    job = jobs(schedule.begin("train", 2, 0.0))
    schedule.answer(0, job[0], 0.1, 0.1)
    race = schedule.expire(0.4)
    schedule.answer(0, jobs(race)[0], 0.1, 0.5)
    assert assigned(schedule.begin("train", 4, 0.5)) == {0: Span(0, 4)}
    assert schedule.answer(1, job[1], 0.6, 0.6) == (False, []), "all is with somebody who is not late"
    assert not schedule.holds(1, job[1])


# Who gets how much.


def test_a_step_is_dealt_by_speed() -> None:
    assert assigned(paced(0.1, 0.3).begin("train", 8, 0.0)) == {0: Span(0, 6), 1: Span(6, 8)}


def test_who_is_too_slow_to_help_gets_a_probe_that_nobody_waits_for() -> None:
    schedule = paced(0.1, 0.1, 9.0, step_timeout=100.0)
    actions = schedule.begin("train", 4, 0.0)
    assert assigned(actions) == {0: Span(0, 2), 1: Span(2, 4), 2: Span(0, 1)}
    job = jobs(actions)
    assert schedule.answer(2, job[2], 0.1, 0.1) == (False, [])
    assert schedule.answer(0, job[0], 0.2, 0.2) == (True, []), "the probe's answer has not taken its place"
    assert schedule.answer(1, job[1], 0.2, 0.2) == (True, [Finish()])


def test_probes_find_out_who_has_become_fast_again() -> None:
    schedule = paced(0.1, 9.0, step_timeout=100.0)
    for _ in range(2):
        job = jobs(schedule.begin("train", 4, 0.0))
        schedule.answer(1, job[1], 0.1, 0.1)
        schedule.answer(0, job[0], 0.4, 0.4)
    assert assigned(schedule.begin("train", 4, 1.0)) == {0: Span(0, 2), 1: Span(2, 4)}


def test_there_are_no_probes_where_workers_are_idle_for_lack_of_work_or_of_workers() -> None:
    assert assigned(paced(0.1, 0.1, 9.0).begin("train", 2, 0.0)) == {0: Span(0, 1), 1: Span(1, 2)}
    schedule = paced(0.1, 0.1, min_workers=2)
    schedule.lost(0, "killed", 0.0)
    assert schedule.begin("train", 4, 0.0) == []


def test_what_a_fast_worker_cannot_take_in_one_run_goes_to_a_slow_one_rather_than_to_nobody() -> None:
    schedule = paced(0.1, 0.1, 0.1, 0.3)
    job = jobs(schedule.begin("train", 3, 0.0))
    assert set(job) == {0, 1, 2}
    schedule.answer(1, job[1], 0.1, 0.1)
    assert assigned(schedule.expire(0.4)) == {1: Span(0, 1), 3: Span(2, 3)}
