"""Workers in this process and in virtual time that answer in a random order and die at random moments."""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import numpy as np

from cnnpar.config.sections import Engine
from cnnpar.data.dataset import Dataset
from cnnpar.nn.shapes import Vector
from cnnpar.parallel.compute import Computer, slots_shape
from cnnpar.parallel.server import Server
from cnnpar.parallel.transport import Answer, Event, Joined, Lost
from cnnpar.parallel.tree import Span
from cnnpar.parallel.work import Kind, Step, Work
from tests.helpers.made_runs import fail, opened


class RandomWorkers:
    """A transport and the clock of its server; what chance decides comes from `random`."""

    def __init__(self, work: Work, data: Mapping[Kind, Dataset], random: Random, deaths: int = 0) -> None:
        """Let at most `deaths` workers die in all."""
        self.now = 0.0
        self.started: list[int] = []
        self.jobs: dict[int, tuple[int, Step, Span]] = {}  # under way, by worker
        self.dropped: list[int] = []
        self.work = work.with_data(data)
        self._random = random
        self._deaths = deaths
        self.slots: dict[int, Vector] = {}
        self.events: list[Event] = []
        self._answered: list[Answer] = []
        self._outdated: set[int] = set()  # workers whose parameters have changed under them

    def clock(self) -> float:
        return self.now

    def adopt(self, parameters: Vector) -> Vector:
        return parameters

    def start(self, worker: int) -> None:
        self.started.append(worker)
        self.slots[worker] = np.empty(slots_shape(self.work), np.float32)
        self.events.append(Joined(worker))

    def publish(self, parameters: Vector) -> None:
        self._parameters = parameters
        self._outdated |= self.jobs.keys()

    def assign(self, worker: int, job: int, step: Step, span: Span) -> None:
        assert worker in self.slots, "it was lost before"
        assert worker not in self.jobs, "one job at a time"
        self.jobs[worker] = job, step, span
        self.slots[worker].fill(np.nan)

    def wait(self, seconds: float) -> list[Event]:
        if self.events:
            events, self.events = self.events, []
            return events
        if not self.jobs or (seconds > 0 and self._random.random() < 0.2):
            self.now += seconds
            return []
        if self._answered and self._random.random() < 0.1:
            return [self._random.choice(self._answered)]  # once more, and too late
        worker = self._random.choice(sorted(self.jobs))
        if self._deaths and self._random.random() < 0.3:
            self._deaths -= 1
            return [self.lose(worker)]
        return [self.answer(worker)]

    def answer(self, worker: int) -> Answer:
        """Compute the worker's job and return its answer; NaN if the parameters have changed meanwhile."""
        job, step, span = self.jobs.pop(worker)
        slots = self.slots[worker]
        parameters = np.full_like(self._parameters, np.nan) if worker in self._outdated else self._parameters
        self._outdated.discard(worker)
        blocks = Computer(self.work, slots).compute(step, span, parameters)
        values = [(node, slots[slot], sums) for node, slot, sums in blocks]
        self._answered.append(Answer(worker, job, self._random.choice((0.01, 0.02, 0.1)) * span.length, values))
        return self._answered[-1]

    def lose(self, worker: int, reason: str = "killed") -> Lost:
        """Let a worker die, in the middle of a job or without one."""
        self.jobs.pop(worker, None)
        self._outdated.discard(worker)
        del self.slots[worker]
        return Lost(worker, reason)

    def drop(self, worker: int) -> None:
        self.dropped.append(worker)
        self.lose(worker)

    def shortage(self) -> str:
        return "there is no room"

    def close(self) -> None:
        pass


def served(transport: RandomWorkers, workers: int, warn: Callable[[str], None] = fail, **limits: Any) -> Server:
    """Return a server with these workers, opened, on the transport's clock."""
    engine = Engine(workers=workers, **limits)
    return opened(Server(transport.work, transport, engine, warn, clock=transport.clock))
