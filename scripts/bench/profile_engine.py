"""Where a whole training step's time goes, as the server sees it: a part of profile_step.py."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any
from unittest.mock import patch

import cnnpar.parallel.server
import cnnpar.training
from cnnpar import optim
from cnnpar.data.dataset import Dataset
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.nn.network import Network
from cnnpar.parallel.plan import Tree
from cnnpar.parallel.schedule import Schedule
from cnnpar.parallel.server import Server
from cnnpar.parallel.transport import Answer, Event
from cnnpar.parallel.work import Kind, Step, Training
from scripts.bench.contestants import Silent, open_run

PHASES = {  # of a step, in its order
    "publish": "parameters where workers see them",
    "cut": "spans for the workers",
    "send": "jobs written to sockets",
    "compute": "in the mean of the workers: their own clocks",
    "slowest": "how much longer the slowest worker computes",
    "wait": "waiting beyond that: ways there and back, waking up",
    "reduce": "the upper part of the tree",
    "check": "whether loss and gradient are finite",
    "update": "division, optimizer, in one pass",
    "the rest": "the loop, events, the clocks of this table",
}


class Phases(Silent):
    """Milliseconds of each phase, step by step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self._now: defaultdict[str, float] = defaultdict(float)
        self._computed: list[float] = []
        self._began = time.perf_counter()

    @contextmanager
    def installed(self, server: Server) -> Iterator[None]:
        """With a clock at every phase."""
        transport = server._transport
        places = [
            (transport, "publish", "publish"),
            (transport, "assign", "send"),
            (Schedule, "begin", "cut"),
            (cnnpar.training, "_trouble", "check"),
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
        """Close the books of a step."""
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
    """Medians of the phases of a step, in ms, and of a worker's preparing of its next inputs."""
    settings, work, server, state = open_run(network, data, preprocessing, batch, microbatch, workers)
    phases = Phases()
    try:
        with phases.installed(server):
            total = 2 * steps  # the first half warms up
            cnnpar.training.train(
                settings, network, work.steps_per_epoch, False, server, state, phases, lambda: state.step >= total
            )
    finally:
        server.close()
    kept = phases.steps[steps:]
    medians = {phase: median(step[phase] for step in kept) for phase in ("step", *PHASES)}
    whole = work.with_data({Kind.TRAIN: data})
    share = -(-work.microbatches(Step(Kind.TRAIN, 0, 0)) // max(workers, 1))
    return {**medians, "prepare": median(_preparing(whole, number, share) for number in range(50))}


def _preparing(work: Training, number: int, microbatches: int) -> float:
    began = time.perf_counter()
    for microbatch in range(microbatches):
        work.prepare(Step(Kind.TRAIN, 0, number), microbatch)
    return 1e3 * (time.perf_counter() - began)


def show(medians: dict[str, float], batch: int, workers: int) -> None:
    """The table."""
    whole = medians["step"]
    print(f"\n{'engine phase':<27} {'ms':>10} {'share':>11}   a step of {batch} samples, {workers} workers, medians")
    for phase, meaning in PHASES.items():
        print(f"{phase:<27} {medians[phase]:10.3f} {medians[phase] / whole:11.1%}   {meaning}")
    print(f"{'a whole step':<27} {whole:10.3f} {'':11}   {1e3 * batch / whole:,.0f} samples/s")
    print(f"{'prepare, ahead':<27} {medians['prepare']:10.3f} {medians['prepare'] / whole:11.1%}   ", end="")
    print("a worker's next inputs, while the server reduces and updates")
