"""Schedulers in virtual time, with workers that are up, or up and measured."""

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
    """Return a scheduler at time 0 with all its workers up."""
    scheduler = Scheduler(Engine(workers=workers, **{**TIMES, **limits}))
    for worker in started(scheduler.open(0.0)):
        assert scheduler.joined(worker, 0.0) == []
    assert scheduler.ready
    return scheduler


def paced(*paces: float, **limits: Any) -> Scheduler:
    """Return a scheduler whose workers were measured at these seconds for a microbatch; a step has just ended."""
    scheduler = opened(len(paces), **limits)
    for _ in range(3):
        for action in scheduler.begin("train", len(paces), 0.0):
            assert isinstance(action, Assign)
            seconds = paces[action.worker] * action.span.length
            scheduler.answer(action.worker, action.job, seconds, seconds)
    return scheduler
