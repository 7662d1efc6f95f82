"""A transport whose workers exist in virtual time only, with faults that follow from the seed.

It checks each call of the server (`start`, `assign`, `drop`, `wait`) against what the interface promises. Values that
were computed from parameters which have changed meanwhile are NaN, and so are a worker's buffers from the moment when
it has a new job.
"""

from collections import Counter
from collections.abc import Callable
from math import nan
from random import Random

import numpy as np

from cnnpar.config.sections import Engine
from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums
from cnnpar.parallel.transport import Answer, Event, Joined, Lost, Note
from cnnpar.parallel.tree import Node, Span
from cnnpar.parallel.work import Kind, Step
from scripts.simulation.faults import Faults
from scripts.simulation.timeline import Timeline
from scripts.simulation.watch import Broken, Job, Watch
from scripts.simulation.work import SimulatedWork

Trace = Callable[[float, str], None]

_MOST_WAITS = 20_000  # in one schedule: more would be one without an end
_UPDATE = 0.003  # seconds between two steps
NONSENSE = Sums(nan, -1, -1)


class Worker:
    """A worker that was asked for, until it is lost or given up."""

    def __init__(self, slots: Vector) -> None:
        self.slots = slots
        self.job: Job | None = None
        self.times_slower = 1.0


class Workers:
    """The transport, its clock, and the faults of its workers."""

    def __init__(self, work: SimulatedWork, engine: Engine, random: Random, watch: Watch, trace: Trace | None) -> None:
        """`trace` is called with the time and what happens."""
        self.time = Timeline(random)
        self.kinds: Counter[str] = Counter()
        self._work = work
        self._engine = engine
        self._random = random
        self._watch = watch
        self._trace = trace
        self._pace = 10 ** random.uniform(-4.0, -2.0)  # seconds for a microbatch
        self._most = self._room = engine.most
        self._events: list[Event] = []
        self._workers: dict[int, Worker] = {}
        self._waiting: list[int] = []  # for room
        self._used: set[int] = set()
        self._last_job = 0
        self._waits = 0
        self._step = work.asked
        self._leaves = 0
        self._told_until = 0.0
        self._version = 0  # of the parameters
        self._parameters: Vector = np.empty(0, np.float32)
        self._update_seconds = _UPDATE
        self._deadly_until = 0.0
        self._faults = Faults.drawn(random)
        for share, kind in self._faults.before:
            self.time.plan(share * 0.5, self._come, kind)

    def adopt(self, parameters: Vector) -> Vector:
        """Leave them where they are."""
        return parameters

    def publish(self, parameters: Vector) -> None:
        """Take new parameters, after the time of an update; answers of jobs under way become NaN."""
        self.time.now += self._update_seconds * self._random.uniform(0.5, 1.0)
        if self._update_seconds > _UPDATE:
            self._hold_up()
            self._update_seconds = _UPDATE
            self.kinds["long update"] += 1
        self._parameters = parameters
        self._version += 1

    def shortage(self) -> str:
        """Know of none."""
        return ""

    def close(self) -> None:
        """End nothing."""

    def start(self, worker: int) -> None:
        """Ask for a worker, which may come."""
        if worker in self._used or len(self._workers) >= self._most:
            raise Broken(f"worker {worker} was asked for, which is one too many")
        self._tell("worker %d is asked for", worker)
        self._used.add(worker)
        self._workers[worker] = Worker(np.full((self._work.slots, self._work.size), nan, np.float32))
        self._waiting.append(worker)
        self._place()

    def assign(self, worker: int, job: int, step: Step, span: Span) -> None:
        """Have a worker compute, and draw the fault of that."""
        self._notice_step()
        if job <= self._last_job or step is not self._step or not 0 <= span.start < span.stop <= self._leaves:
            raise Broken(f"job {job} is not valid: {step}, {span}")
        self._last_job = job
        task = Job(job, self._watch.turn, range(*span), self.time.now, self._version)
        kind = self._watch.assigned(worker, task)
        self.kinds[kind] += 1
        hand = self._workers[worker]
        hand.job = task
        if step.kind is Kind.TRAIN:
            hand.slots.fill(nan)
        fault = self._faults.of_job(self._random) if self.time.now >= self._deadly_until else "loss during a job"
        self._tell("worker %d gets job %d: microbatches %d to %d %s; %s", worker, job, *span, kind, fault)
        random = self._random.random
        seconds = self._pace * hand.times_slower * span.length * (0.7 + 0.6 * random())
        ready = 0.002 * random() + seconds
        match fault:
            case "loss before a job":
                self.time.plan(0.0, self._lose, worker, fault)
            case "loss during a job" | "loss, and then its answer":
                self.time.plan(seconds * random(), self._lose, worker, fault)
            case "endless silence":
                self.kinds[fault] += 1
                return
            case "stall":
                self.kinds[fault] += 1
                pause = 1.5 * self._engine.step_timeout * random()
                ready += pause
                seconds += random() * pause
            case "long delay":
                self.kinds[fault] += 1
                ready += min(0.001 * self._random.paretovariate(0.5), 3.0)
        self.time.plan(ready, self._answer, worker, task, seconds)
        if fault == "loss after a job":
            self.time.plan(ready + random() * 0.005 * self._random.randrange(2), self._lose, worker, fault)
        elif fault in ("answer twice", "loss, and then its answer"):
            ready += random() * 0.1 * self._random.randrange(2)
            self.time.plan(ready, self._repeat, worker, task, seconds, fault)

    def drop(self, worker: int) -> None:
        """Give a worker up."""
        if worker not in self._workers:
            raise Broken(f"worker {worker} is given up, which is not there")
        self._tell("worker %d is given up", worker)
        self.kinds["worker given up"] += 1
        self._watch.given_up(worker, self.time.now)
        self._leave(worker)

    def wait(self, seconds: float) -> list[Event]:
        """Let virtual time pass until something happens."""
        self._waits += 1
        if self._waits > _MOST_WAITS:
            raise Broken("no end in sight")
        self._notice_step()
        if seconds > 0:
            self._watch.look(self.time.now, seconds)
        if self.time.wait(seconds):
            while self.time.happen():
                if self._events and self._random.random() < 0.1:
                    break  # the rest comes with the next look
        events, self._events = self._events, []
        return events

    def _notice_step(self) -> None:
        """Note when the server has begun a step: it has asked for its microbatches."""
        if self._work.asked is not self._step:
            self._step = self._work.asked
            self._leaves = self._work.microbatches(self._step)
            self._tell("%s begins with %d microbatches", self._step, self._leaves)
            if self._watch.turn == 0:
                steps = 1.5 * self._work.steps * self._work.epochs
                seconds = steps * (0.004 + self._pace * self._work.most / self._engine.most)
                for share, kind in self._faults.moments:
                    self.time.plan(share * seconds, self._come, kind)
            self._watch.begin(self._leaves, self.time.now)

    def _hold_up(self) -> None:
        """Account for a clock that has moved while the server did not read it."""
        time = self.time
        self._told_until = self._watch.held_up(time.read_at, max(time.read_at, self._told_until), time.now)

    def _tell(self, text: str, *values: object) -> None:
        if self._trace:
            self._trace(self.time.now, text % values)

    def _place(self) -> None:
        """Place workers that wait, as far as there is room."""
        while self._waiting and len(self._workers) - len(self._waiting) < self._room:
            worker = self._waiting.pop(0)
            fault = self._faults.of_start(self._random)
            if not self._watch.opened and self._random.random() < 0.9:
                fault = ""  # or else few runs would begin
            ready = self._random.choice((0.05, 0.5)) * self._random.random()
            if fault in ("refused start", "loss while starting"):
                self.time.plan(0.0 if fault == "refused start" else ready, self._lose, worker, fault)
            elif fault == "start without end":
                self.kinds[fault] += 1
            else:
                self.time.plan(ready, self._join, worker, fault)

    def _leave(self, worker: int) -> None:
        del self._workers[worker]
        if worker in self._waiting:
            self._waiting.remove(worker)
        self._place()

    def _join(self, worker: int, fault: str) -> None:
        if worker not in self._workers:
            return
        self._tell("worker %d is there", worker)
        if fault == "slow from the start":
            self.kinds[fault] += 1
            self._workers[worker].times_slower = 2 * 50 ** self._random.random()
        self.kinds["join in mid-step"] += self._watch.opened
        self.kinds["worker replaced"] += worker >= self._engine.most
        self._watch.joined(worker, self.time.now)
        self._events.append(Joined(worker))
        if self.time.now < self._deadly_until:
            self.time.plan(0.05 * self._random.random(), self._lose, worker, "")

    def _lose(self, worker: int, kind: str) -> None:
        if worker not in self._workers:
            return
        self._tell("worker %d is lost (%s)", worker, kind)
        self.kinds[kind] += 1
        refused = kind == "refused start"
        self._watch.lost(worker, self.time.now, refused)
        self._events += [Lost(worker, kind or "killed", refused)] * self._random.choice((1, 1, 1, 2))
        self._leave(worker)

    def _answer(self, worker: int, job: Job, seconds: float) -> None:
        hand = self._workers.get(worker)
        if hand is None or hand.job is not job:
            return
        hand.job = None
        current = job.turn == self._watch.turn
        self.kinds["answer to an earlier step"] += not current
        self._tell("worker %d answers job %d", worker, job.number)
        self._watch.answered(worker, job, seconds, self.time.now)
        if current and job.version == self._version:
            blocks = self._work.blocks(self._step, job.span, self._parameters, hand.slots)
        else:
            blocks = [(Node(0, job.span.start), hand.slots[0], NONSENSE)]
        self._events.append(Answer(worker, job.number, seconds, blocks))

    def _repeat(self, worker: int, job: Job, seconds: float, kind: str) -> None:
        """Send an answer again, or after its worker was lost; its values are NaN."""
        hand = self._workers.get(worker)
        self._tell("worker %d answers job %d again", worker, job.number)
        self.kinds[kind if kind == "answer twice" else ""] += 1
        self.kinds["answer to an earlier job"] += hand is not None and hand.job is not None
        nonsense = np.full(self._work.size, nan, np.float32)
        self._events.append(Answer(worker, job.number, seconds, [(Node(0, job.span.start), nonsense, NONSENSE)]))

    def _come(self, kind: str) -> None:
        """Do a fault that comes at a moment."""
        here = sorted(self._watch.here)
        lost: list[int] = []
        random = self._random
        if kind == "stop":
            self._watch.stopped_at = self.time.now
        elif kind in ("server held up", "server slow"):
            self.time.now += random.uniform(1.1, 4.0) if kind == "server held up" else random.uniform(0.1, 0.7)
            self._hold_up()
        elif kind == "long update":
            self._update_seconds = 3.0
            return
        elif kind == "every worker dies for a while":
            self._deadly_until = self.time.now + random.random()
        elif kind == "more room":
            self._room += random.randint(1, 4)
            self._place()
        elif kind == "less room":
            self._room = random.randrange(self._room + 1)
            lost = random.sample(here, max(len(here) - self._room, 0))
        elif kind == "slow worker" and here:
            self._workers[random.choice(here)].times_slower = 2 * 50 ** random.random()
            if random.random() < 0.5:
                self.time.plan(20 * self._pace * random.random(), self._come, "fast again")
        elif kind == "fast again" and any(self._workers[worker].times_slower > 1 for worker in here):
            for worker in here:
                self._workers[worker].times_slower = 1.0
        elif kind == "loss while idle" and len(here) > len(self._watch.running):
            lost = [random.choice([worker for worker in here if not self._workers[worker].job])]
        elif kind == "several lost at once" and len(here) > 1:
            lost = random.sample(here, random.randint(2, len(here)))
        elif kind == "all lost at once" and here:
            lost = here
        else:
            return
        self._tell("%s", kind)
        self.kinds[kind] += 1
        self._events.append(Note(kind))
        for worker in lost:
            self._lose(worker, "")
