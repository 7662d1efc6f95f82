"""The second table of profile.py: where a whole training step's time goes, measured in the server's process."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any
from unittest.mock import patch

import cnnpar.parallel.server
import cnnpar.training.loop
from cnnpar import optim
from cnnpar.data.dataset import Dataset
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.nn.network import Network
from cnnpar.parallel.scheduling.scheduler import Scheduler
from cnnpar.parallel.server import Server
from cnnpar.parallel.transport import Answer, Event
from cnnpar.parallel.tree import Tree
from cnnpar.parallel.work import Kind, Step
from cnnpar.training.microbatch import Training
from scripts.bench.contestants import Loop, Silent
from scripts.harness import Table

PHASES = {  # of a step, in its order
    "publish": "the parameters made visible to the workers",
    "cut": "spans cut for the workers",
    "send": "jobs written to sockets",
    "compute": "the mean of the workers, by their own clocks",
    "slowest": "how much longer the slowest worker computes",
    "wait": "waiting beyond that: messages both ways, waking up",
    "reduce": "the upper part of the tree",
    "check": "whether loss and gradient are finite",
    "update": "division and optimizer, in one pass",
    "the rest": "the loop, events, the clocks of this table",
}


class Phases(Silent):
    """An observer that keeps the milliseconds of each phase, step by step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self._now: defaultdict[str, float] = defaultdict(float)
        self._computed: list[float] = []
        self._began = time.perf_counter()

    @contextmanager
    def installed(self, server: Server) -> Iterator[None]:
        """Put a clock at every phase while the block runs."""
        transport = server._transport
        places = [
            (transport, "publish", "publish"),
            (transport, "assign", "send"),
            (Scheduler, "begin", "cut"),
            (cnnpar.training.loop, "_trouble", "check"),
            (optim, "update", "update"),
        ]
        timed = self._timed

        class TimedTree(Tree[Any]):
            put = timed(Tree.put, "reduce")

        with ExitStack() as stack:
            stack.enter_context(patch.object(cnnpar.parallel.server, "Tree", TimedTree))
            for owner, name, phase in places:
                stack.enter_context(patch.object(owner, name, timed(getattr(owner, name), phase)))
            stack.enter_context(patch.object(transport, "wait", self._waiting(transport.wait)))
            yield

    def step_done(self, *_: object) -> None:
        """Close the account of a step."""
        now = time.perf_counter()
        step, whole = dict(self._now), now - self._began
        step["compute"] = sum(self._computed) / max(len(self._computed), 1)
        step["slowest"] = max(self._computed, default=0.0) - step["compute"]
        step["wait"] = step.get("wait", 0.0) - step["compute"] - step["slowest"]
        step["the rest"] = whole - sum(step.values())
        self.steps.append({"step": 1e3 * whole, **{phase: 1e3 * step.get(phase, 0.0) for phase in PHASES}})
        self._now.clear()
        self._computed.clear()
        self._began = time.perf_counter()

    def _timed(self, function: Callable[..., Any], phase: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            result = function(*arguments, **named)
            self._now[phase] += time.perf_counter() - began
            return result

        return timed

    def _waiting(self, wait: Callable[[float], list[Event]]) -> Callable[[float], list[Event]]:
        timed = self._timed(wait, "wait")

        def waiting(seconds: float) -> list[Event]:
            events: list[Event] = timed(seconds)
            self._computed += [event.seconds for event in events if isinstance(event, Answer)]
            return events

        return waiting


def profile(
    network: Network, data: Dataset, preprocessing: Preprocessing, batch: int, microbatch: int, workers: int, steps: int
) -> dict[str, float]:
    """Measure the phases of a step, and a worker's preparing of its next inputs; medians in ms."""
    loop = Loop(network, data, preprocessing, batch, microbatch, workers)
    phases = Phases()
    try:
        with phases.installed(loop.server):
            loop.train(phases, lambda: loop.state.step >= 2 * steps)  # the first half warms up
    finally:
        loop.close()
    kept = phases.steps[steps:]
    medians = {phase: median(step[phase] for step in kept) for phase in ("step", *PHASES)}
    whole = loop.work.with_data({Kind.TRAIN: data})
    share = -(-loop.work.microbatches(Step(Kind.TRAIN, 0, 0)) // max(workers, 1))
    return {**medians, "prepare": median(_preparing(whole, number, share) for number in range(50))}


def _preparing(work: Training, number: int, microbatches: int) -> float:
    began = time.perf_counter()
    for microbatch in range(microbatches):
        work.prepare(Step(Kind.TRAIN, 0, number), microbatch)
    return 1e3 * (time.perf_counter() - began)


def show(medians: dict[str, float], batch: int, workers: int) -> None:
    """Print the table."""
    whole = medians["step"]
    print(f"a step of {batch} samples, {workers} workers: {1e3 * batch / whole:,.0f} samples/s")
    table = Table(f"{'phase of the engine':<19}", "     ms", " share", f"{'what it is':>50}")
    for phase, meaning in PHASES.items():
        table.row(phase, f"{medians[phase]:.3f}", f"{medians[phase] / whole:.1%}", meaning)
    table.row("a whole step", f"{whole:.3f}", "", "")
    ahead = "a worker's next inputs, meanwhile"
    table.row("prepare, ahead", f"{medians['prepare']:.3f}", f"{medians['prepare'] / whole:.1%}", ahead)
