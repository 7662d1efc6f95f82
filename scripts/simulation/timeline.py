"""Virtual time: a queue of events to come, and a clock that moves only when somebody waits."""

from collections.abc import Callable
from heapq import heappop, heappush
from math import ceil
from random import Random


class Timeline:
    """Events to come, each a call at its time."""

    def __init__(self, random: Random) -> None:
        self.now = 0.0  # seconds
        self.read_at = 0.0  # when the clock was read last
        self._grid = random.choice((0, 100))  # events on a grid of 1/100 s often fall together
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._so_far = 0

    def clock(self) -> float:
        """Return the time; the server reads it here."""
        self.read_at = self.now
        return self.now

    def plan(self, seconds: float, event: Callable[..., None], *arguments: object) -> None:
        """Plan a call in so many seconds, after those planned before for the same moment."""
        time = self.now + seconds
        if self._grid:
            time = ceil(time * self._grid) / self._grid
        self._so_far += 1
        heappush(self._events, (time, self._so_far, event, arguments))

    def wait(self, seconds: float) -> bool:
        """Move the clock to the next event, but at most so many seconds; tell whether one is due."""
        until = self.now + seconds
        if self._events and self._events[0][0] <= until:
            self.now = max(self.now, self._events[0][0])
            return True
        self.now = until
        return False

    def happen(self) -> bool:
        """Do the first event that is due, which may move the clock; tell whether there was one."""
        if not self._events or self._events[0][0] > self.now:
            return False
        _, _, event, arguments = heappop(self._events)
        event(*arguments)
        return True
