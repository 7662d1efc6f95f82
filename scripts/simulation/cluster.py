"""Simulated workers that are gone with their cluster at times, as the launcher on Ray reports it.

The cluster's end, and the moment in which the server reads of it, are two. Between them orders have no effect, and any
worker may go on, fall silent, or be reported as lost. Later its workers may be reported as lost, answer, or join, also
after the next cluster has come.
"""

from random import Random

import numpy as np

from cnnpar.config.sections import Engine
from cnnpar.nn.shapes import Vector
from cnnpar.parallel.transport import Answer, ClusterBack, ClusterGivenUp, ClusterGone, Joined, Lost
from cnnpar.parallel.tree import Node, Span
from cnnpar.parallel.work import Kind, Step
from scripts.simulation.faults import OF_CLUSTERS, OUTAGES
from scripts.simulation.watch import Job, Watch
from scripts.simulation.work import SimulatedWork
from scripts.simulation.workers import NONSENSE, Trace, Workers

_MOST_AGAIN = 5  # ends of clusters in a row


class ClusteredWorkers(Workers):
    """The transport, with ends of the cluster among its faults."""

    def __init__(self, work: SimulatedWork, engine: Engine, random: Random, watch: Watch, trace: Trace | None) -> None:
        super().__init__(work, engine, random, watch, trace)
        self._up = True  # there is a cluster, which takes orders
        self._ended = False  # its end is not reported yet
        self._alone = False  # given up: only a worker in the server's process can be had
        self._silent: set[int] = set()  # workers that died with the cluster and are not reported
        self._between_steps = False  # the next end comes during an update
        self._again = 0  # ends that follow

    def start(self, worker: int) -> None:
        """Ask for a worker, which will not come while there is no cluster."""
        self._watch.asked(worker, lost=not self._up and not self._ended)
        self.kinds["order that is lost with its cluster"] += self._ended
        super().start(worker)

    def assign(self, worker: int, job: int, step: Step, span: Span) -> None:
        """Have a worker compute; one that has died silently may be found out by that."""
        super().assign(worker, job, step, span)
        if worker in self._silent and self._random.random() < 0.5:
            self.time.plan(0.0, self._lose, worker, "")

    def drop(self, worker: int) -> None:
        """Give a worker up, or end one that has joined too late."""
        if worker in self._watch.strangers:
            self._watch.strangers.discard(worker)
        else:
            super().drop(worker)

    def publish(self, parameters: Vector) -> None:
        """Take new parameters; the cluster may end meanwhile."""
        super().publish(parameters)
        if self._between_steps:
            self._between_steps = False
            self._end("cluster gone between steps")

    def _place(self) -> None:
        if self._up:
            super()._place()

    def _answer(self, worker: int, job: Job, seconds: float) -> None:
        if worker not in self._silent:
            super()._answer(worker, job, seconds)

    def _repeat(self, worker: int, job: Job, seconds: float, kind: str) -> None:
        if worker not in self._silent:
            super()._repeat(worker, job, seconds, kind)

    def _come(self, kind: str) -> None:
        """Do a fault that comes at a moment."""
        random = self._random
        if kind == "cluster gone between steps":
            self._between_steps = True
        elif kind == "cluster gone while replacements start" and self._watch.here:
            here = sorted(self._watch.here)
            for worker in random.sample(here, random.randint(1, len(here))):
                self._lose(worker, "")
            self.time.plan(0.3 * random.random(), self._end, kind)
        elif kind in OF_CLUSTERS:
            if kind == "cluster gone again and again":
                self._again = random.randint(1, _MOST_AGAIN)
            self._end(kind)
        elif not (self._alone and kind in ("more room", "less room")):  # one in the server's process needs none
            super()._come(kind)

    def _end(self, kind: str) -> None:
        """End the cluster, which the server reads of later."""
        if not self._up or self._alone:
            return
        random = self._random
        self._tell("the cluster ends (%s)", kind)
        self.kinds[kind] += 1
        self._up, self._ended = False, True
        seconds = random.choice((0.0, 0.02, 0.5)) * random.random()  # until the server reads of it
        reported, silent = random.choice(((1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.4, 0.3)))
        for worker in sorted(self._workers):
            fate = random.random()
            if fate < reported:
                self.time.plan(seconds * random.choice((0.0, random.random(), 1.0)), self._lose, worker, "")
            elif fate < reported + silent:
                self._silent.add(worker)
        self.time.plan(seconds, self._be_gone)

    def _be_gone(self) -> None:
        """Report the cluster's end; nobody hears of its workers any more but by events that are late."""
        random, watch = self._random, self._watch
        self._tell("the cluster is gone")
        self.kinds["cluster gone before the first step"] += watch.turn == 0
        self.kinds["cluster gone in an evaluation"] += self._step.kind is not Kind.TRAIN
        self.kinds["cluster gone twice in a step"] += watch.clusters_of_step == 1
        seconds = self._engine.cluster_timeout
        self._events.append(ClusterGone("the cluster is gone", "trying again", seconds))
        late = random.choice((0.0, 0.0, 0.3, 0.9))  # share of workers of which an event comes late
        for worker, former in sorted(self._workers.items()):
            if random.random() < late:
                event = random.choice(("loss", "answer" if worker in watch.here else "join"))
                delay = random.choice((0.0, 0.1, 3.0)) * random.random()
                self.time.plan(delay, self._hear_late, event, worker, former.job.number if former.job else 0)
        self._workers.clear()
        self._waiting.clear()
        self._silent.clear()
        self._ended = False
        watch.cluster_gone(self.time.now)
        outage = random.choices(list(OUTAGES), (4, 8, 2, 1, 3))[0]
        self.kinds[outage] += 1
        back = seconds * random.uniform(*OUTAGES[outage])
        if outage == "cluster back too late":
            back += 2.0  # a look of the server may be late, too
        self.time.plan(back, self._come_back, outage == "cluster given up")

    def _come_back(self, alone: bool) -> None:
        """Report that workers can be had again, or one in the server's process."""
        self._tell("the cluster is %s", "given up" if alone else "back")
        self._up, self._alone = True, alone
        if alone:
            self._most = self._room = 1
        self._watch.cluster_back(self.time.now, alone)
        self._events.append(ClusterGivenUp("the cluster is given up") if alone else ClusterBack())
        if self._again:
            self._again -= 1
            delay = self._random.choice((0.0, 0.1, 1.0)) * self._random.random()
            self.time.plan(delay, self._end, "cluster gone again and again")

    def _hear_late(self, event: str, worker: int, job: int) -> None:
        """Report an event of a worker whose cluster is gone."""
        self._tell("worker %d of a cluster that is gone: %s", worker, event)
        self.kinds[f"{event} after the end of its cluster"] += 1
        if event == "loss":
            self._events.append(Lost(worker, "its cluster is gone", self._random.random() < 0.2))
        elif event == "join":
            self._watch.strangers.add(worker)
            self._events.append(Joined(worker, exact=False))
        else:
            nonsense = np.full(self._work.size, np.nan, np.float32)
            self._events.append(Answer(worker, job, 0.0, [(Node(0, 0), nonsense, NONSENSE)]))
