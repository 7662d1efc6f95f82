"""A schedule in virtual time, as several test modules need it."""

from collections.abc import Mapping
from typing import Any

from cnnpar.config.sections import Engine
from cnnpar.parallel.scheduling.actions import Action, Assign, Start
from cnnpar.parallel.scheduling.scheduler import Scheduler
from cnnpar.parallel.tree import Span

TIMES: Mapping[str, Any] = {
    "start_timeout": 20.0,
    "step_timeout": 10.0,
    "deadline_factor": 4.0,
    "deadline_floor": 0.1,
    "give_up_after": 2.0,
}


def assigned(actions: list[Action]) -> dict[int, Span]:
    return {action.worker: action.span for action in actions if isinstance(action, Assign)}


def jobs(actions: list[Action]) -> dict[int, int]:
    return {action.worker: action.job for action in actions if isinstance(action, Assign)}


def started(actions: list[Action]) -> list[int]:
    return [action.worker for action in actions if isinstance(action, Start)]


def opened(workers: int | str = 2, **limits: Any) -> Scheduler:
    """A schedule at time 0 whose workers are all there."""
    schedule = Scheduler(Engine(workers=workers, **{**TIMES, **limits}))
    for worker in started(schedule.open(0.0)):
        assert schedule.joined(worker, 0.0) == []
    assert schedule.ready
    return schedule


def paced(*paces: float, **limits: Any) -> Scheduler:
    """The same, with as many workers, which were measured: seconds for a microbatch. A step has just ended."""
    schedule = opened(len(paces), **limits)
    for _ in range(3):
        for action in schedule.begin("train", len(paces), 0.0):
            assert isinstance(action, Assign)
            seconds = paces[action.worker] * action.span.length
            schedule.answer(action.worker, action.job, seconds, seconds)
    return schedule
