"""How fast the workers are, as measured, and how much of a step each should get."""

from collections import deque
from collections.abc import Hashable, Sequence
from heapq import heapify, heapreplace
from statistics import median_low

_REMEMBERED = 3  # answers; their median is not moved by one that a busy machine held up
_ALIKE = 1.25  # times the usual pace, or a part of it: such workers get equal spans, which come as whole subtrees
_SHORTEST = 1e-9  # seconds; no clock tells less
_NOTHING = 0.0005  # seconds of a step that are not worth unequal spans


class Speeds:
    """Seconds for a microbatch of each worker, apart for each kind of step."""

    def __init__(self) -> None:
        self._paces: dict[Hashable, dict[int, deque[float]]] = {}
        self._delays: deque[float] = deque(maxlen=9)
        self._usual: dict[Hashable, float] = {}  # of kinds about which nothing new was measured

    def measured(self, worker: int, kind: Hashable, microbatches: int, seconds: float, turnaround: float) -> None:
        """A worker computed for that many seconds; its answer came `turnaround` seconds after the job was sent."""
        remembered = self._paces.setdefault(kind, {}).setdefault(worker, deque(maxlen=_REMEMBERED))
        remembered.append(seconds / microbatches)
        self._delays.append(max(turnaround - seconds, 0.0))
        self._usual.pop(kind, None)

    def forget(self, worker: int) -> None:
        """The worker is gone."""
        self._usual.clear()
        for paces in self._paces.values():
            paces.pop(worker, None)

    def usual(self, kind: Hashable) -> float | None:
        """The pace of most workers, of two the faster one's; None while nothing has been measured."""
        paces = self._paces.get(kind)
        if not paces:
            return None
        if kind not in self._usual:
            self._usual[kind] = median_low([median_low(pace) for pace in paces.values()])
        return self._usual[kind]

    def expected(self, kind: Hashable, microbatches: int) -> float | None:
        """Seconds from job to answer of a usual worker; of a kind never seen, by the slowest kind that was."""
        pace = self.usual(kind)
        if pace is None:
            known = [other for other in map(self.usual, self._paces) if other is not None]
            pace = max(known, default=None)
        return None if pace is None else median_low(self._delays) + pace * microbatches

    def shares(self, workers: Sequence[int], kind: Hashable, microbatches: int) -> list[int]:
        """How many microbatches each should get so that all are done soonest; 0 for who is too slow to help."""
        usual = max(self.usual(kind) or 1.0, _SHORTEST)
        slack = _NOTHING * len(workers) / max(microbatches, 1)
        paces = [self._pace(worker, kind, usual, slack) for worker in workers]
        speed = sum(1 / pace for pace in paces)
        sizes = [int(microbatches / pace / speed) for pace in paces]
        ends = [((size + 1) * pace, place) for place, (size, pace) in enumerate(zip(sizes, paces, strict=True))]
        heapify(ends)
        for _ in range(microbatches - sum(sizes)):
            end, place = ends[0]
            sizes[place] += 1
            heapreplace(ends, (end + paces[place], place))
        return sizes

    def _pace(self, worker: int, kind: Hashable, usual: float, slack: float) -> float:
        """Seconds for a microbatch; the usual ones for who is about as fast, or not known yet."""
        remembered = self._paces.get(kind, {}).get(worker)
        pace = max(median_low(remembered), usual / 1e6, _SHORTEST) if remembered else usual
        alike = usual / _ALIKE - slack <= pace <= usual * _ALIKE + slack
        return usual if alike else pace
