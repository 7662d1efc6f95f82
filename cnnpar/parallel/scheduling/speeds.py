"""Measured speeds of the workers, and the share of a step that each of them should get."""

from collections import deque
from collections.abc import Hashable, Sequence
from heapq import heapify, heapreplace
from statistics import median_low

_REMEMBERED = 3  # answers of a worker; their median ignores one that a busy machine held up
_ALIKE = 1.25  # factor; paces within it count as equal: equal spans are whole subtrees, with fewer blocks to return
_SHORTEST = 1e-9  # seconds; a clock that measures zero must not divide by it
_NEGLIGIBLE = 0.0005  # seconds of a step; a smaller gain is not worth unequal spans


class Speeds:
    """Pace of each worker, in seconds for a microbatch, for each kind of step on its own."""

    def __init__(self) -> None:
        self._paces: dict[Hashable, dict[int, deque[float]]] = {}  # newest last, by kind and worker
        self._delays: deque[float] = deque(maxlen=9)  # seconds of newest answers that were not spent computing
        self._usual: dict[Hashable, float] = {}  # results of `usual` that are still valid

    def measured(self, worker: int, kind: Hashable, microbatches: int, seconds: float, turnaround: float) -> None:
        """Record an answer: `seconds` of computing, `turnaround` seconds between sending the job and the answer."""
        remembered = self._paces.setdefault(kind, {}).setdefault(worker, deque(maxlen=_REMEMBERED))
        remembered.append(seconds / microbatches)
        self._delays.append(max(turnaround - seconds, 0.0))
        self._usual.pop(kind, None)

    def forget(self, worker: int) -> None:
        """Forget the paces of a lost worker."""
        self._usual.clear()
        for paces in self._paces.values():
            paces.pop(worker, None)

    def usual(self, kind: Hashable) -> float | None:
        """Return the median pace of the workers, of two the faster one's; None while nothing is measured."""
        paces = self._paces.get(kind)
        if not paces:
            return None
        if kind not in self._usual:
            self._usual[kind] = median_low([median_low(pace) for pace in paces.values()])
        return self._usual[kind]

    def expected(self, kind: Hashable, microbatches: int) -> float | None:
        """Return the seconds from job to answer of a usual worker; None while nothing is measured.

        A kind that is not measured yet is expected to be like the slowest one that is.
        """
        pace = self.usual(kind)
        if pace is None:
            known = [other for other in map(self.usual, self._paces) if other is not None]
            pace = max(known, default=None)
        return None if pace is None else median_low(self._delays) + pace * microbatches

    def shares(self, workers: Sequence[int], kind: Hashable, microbatches: int) -> list[int]:
        """Return the number of microbatches for each worker so that all are done soonest; 0: it is too slow to help."""
        usual = max(self.usual(kind) or 1.0, _SHORTEST)
        slack = _NEGLIGIBLE * len(workers) / max(microbatches, 1)
        paces = [self._pace(worker, kind, usual, slack) for worker in workers]
        speed = sum(1 / pace for pace in paces)
        # In proportion to speed, rounded down; each microbatch that is left goes where it is done first.
        sizes = [int(microbatches / pace / speed) for pace in paces]
        ends = [((size + 1) * pace, place) for place, (size, pace) in enumerate(zip(sizes, paces, strict=True))]
        heapify(ends)
        for _ in range(microbatches - sum(sizes)):
            end, place = ends[0]
            sizes[place] += 1
            heapreplace(ends, (end + paces[place], place))
        return sizes

    def _pace(self, worker: int, kind: Hashable, usual: float, slack: float) -> float:
        """Return a worker's seconds for a microbatch; the usual ones if they are alike or not measured yet."""
        remembered = self._paces.get(kind, {}).get(worker)
        # Not below a millionth of the usual pace, as a clock may measure zero seconds.
        pace = max(median_low(remembered), usual / 1e6, _SHORTEST) if remembered else usual
        alike = usual / _ALIKE - slack <= pace <= usual * _ALIKE + slack
        return usual if alike else pace
