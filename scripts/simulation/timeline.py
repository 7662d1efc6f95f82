"""Virtual time: what will happen, in order, and a clock that only moves when somebody waits."""

from collections.abc import Callable
from heapq import heappop, heappush
from math import ceil
from random import Random


class Timeline:
    """Facts to come, each a call at its time."""

    def __init__(self, random: Random) -> None:
        self.now = 0.0  # seconds
        self.read_at = 0.0  # when somebody looked at the clock last
        self._grid = random.choice((0, 100))  # facts that fall on a grid of 1/100 s often meet
        self._facts: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._so_far = 0

    def clock(self) -> float:
        """The time, as the server reads it."""
        self.read_at = self.now
        return self.now

    def plan(self, seconds: float, fact: Callable[..., None], *arguments: object) -> None:
        """Have something happen in so many seconds, after what was planned for the same moment before."""
        time = self.now + seconds
        if self._grid:
            time = ceil(time * self._grid) / self._grid
        self._so_far += 1
        heappush(self._facts, (time, self._so_far, fact, arguments))

    def wait(self, seconds: float) -> bool:
        """Let time pass until something is to happen, but not longer than that; whether there is."""
        until = self.now + seconds
        if self._facts and self._facts[0][0] <= until:
            self.now = max(self.now, self._facts[0][0])
            return True
        self.now = until
        return False

    def happen(self) -> bool:
        """Let the first of the facts that are due happen, if any; it may move the clock."""
        if not self._facts or self._facts[0][0] > self.now:
            return False
        _, _, fact, arguments = heappop(self._facts)
        fact(*arguments)
        return True
