"""A job of a worker as the scheduler follows it: its span, and the times at which it is late and given up."""

from collections.abc import Hashable
from dataclasses import dataclass

from cnnpar.config.sections import Engine
from cnnpar.parallel.tree import Span

_PATIENCE = 5  # deadlines until a late worker is given up


@dataclass
class Task:
    """A job that a worker has; times are in seconds, on the clock of the events."""

    job: int
    kind: Hashable
    span: Span
    sent: float
    late_at: float = 0.0
    give_up_at: float = 0.0
    late: bool = False  # past its deadline: other workers may compute the span too
    void: bool = False  # its answer will not be used, except to measure the worker's speed

    def set_deadlines(self, engine: Engine, expected: float | None) -> None:
        """Set the times from the seconds that the job is expected to take; None: nothing is measured yet."""
        wait = engine.step_timeout if expected is None else engine.deadline_factor * expected
        wait = min(max(wait, engine.deadline_floor), engine.step_timeout)
        self.late_at = self.sent + wait
        self.give_up_at = self.sent + min(max(_PATIENCE * wait, engine.give_up_after), engine.step_timeout)
