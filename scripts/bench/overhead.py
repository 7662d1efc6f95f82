"""Measure what the engine itself costs per optimizer step, when there is next to nothing to compute.

    python -m scripts.bench.overhead [--json] [--steps 200] [--sizes 25000,250000,2500000] [--workers 1,2,4,8]

Counted is all that a step does besides a network's arithmetic: the parameters made visible to the workers, a job for
each worker, waking up, the answers, the sum over the workers' gradients, the division, and the SGD update with
momentum. A worker only writes one float into every page of its gradient, which exists from the first step; making or
copying a whole gradient would be compute, and is not counted. Each worker is a process with one microbatch, so the
reduction tree has as many leaves as there are workers; more workers than cores share the cores.

Both transports run at once and take turns, so that a machine that is busy for a while slows both. Printed: ms per step,
median and 95th percentile; and the speed, in GB/s read and written, of a plain copy, of one addition of the reduction,
and of the update.

Aims, direct transport, median: with 250,000 parameters at most 0.3 ms for 1 worker, 0.5 ms for 2, 2.0 ms for 8; with
2,500,000 parameters at most 4.0 ms for 2 workers. The Ray transport, with 250,000 parameters and 2 workers: at least 5
times the direct one.
"""

import sys
import time
from collections.abc import Callable
from itertools import product
from statistics import median
from typing import Any

import numpy as np

from cnnpar import optim
from cnnpar.config.choices import SGD
from cnnpar.config.resolve import resolve
from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums
from cnnpar.parallel.work import Prepared, Step
from cnnpar.training.state import TrainState
from scripts.harness import Report, Stepper, Table, WithoutInputs, integers, make_parser

TRANSPORTS = ("direct", "ray")
WARM_UP_STEPS = 20
BLOCK = 20  # steps of one turn
PAGE = 1024  # floats
AIMS = {(250_000, 1): 0.3, (250_000, 2): 0.5, (250_000, 8): 2.0, (2_500_000, 2): 4.0}  # ms at most, direct
COMPARED, LEAST_FACTOR = (250_000, 2), 5.0  # parameters and workers; Ray over direct


class Nothing(WithoutInputs):
    """A work that computes nothing: only its gradient's size is left."""

    def __init__(self, size: int, workers: int) -> None:
        self.size = size
        self._workers = workers
        self._filled = False

    def microbatches(self, step: Step) -> int:
        """Return one for each worker."""
        del step
        return self._workers

    def length(self, step: Step) -> int:
        """Return the gradient's size, for every step."""
        del step
        return self.size

    def compute(self, step: Step, microbatch: int, prepared: Prepared, parameters: Vector, out: Vector) -> Sums:
        """Leave a gradient of zeros in `out` the first time; from then on touch it, page by page."""
        del step, microbatch, prepared, parameters
        if not self._filled:
            out.fill(0.0)  # sums are left where gradients were: others would grow from step to step
            self._filled = True
        out[::PAGE] = 0.0
        return Sums(0.0, 0, 1)


def stepper(transport: str, size: int, workers: int) -> Stepper:
    """Start a server whose steps compute nothing."""
    rule = {"type": "sgd", "learning_rate": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0}
    settings = resolve({"optimizer": rule, "engine": {"transport": transport, "workers": workers}})
    state = TrainState(np.zeros(size, np.float32), optim.init(settings.optimizer, size))
    return Stepper(settings, Nothing(size, workers), {}, state)


def measure(size: int, workers: int, steps: int) -> dict[str, Any]:
    """Measure a row of the table: for each transport median and 95th percentile of a step, in ms."""
    steppers: dict[str, Stepper] = {}
    seconds: dict[str, list[float]] = {transport: [] for transport in TRANSPORTS}
    try:
        for transport in TRANSPORTS:
            steppers[transport] = stepper(transport, size, workers)
            for _ in range(WARM_UP_STEPS):
                steppers[transport].step()
        for _ in range(-(-steps // BLOCK)):
            for transport, one in steppers.items():
                seconds[transport] += [one.step() for _ in range(BLOCK)]
    finally:
        for one in steppers.values():
            one.close()
    row: dict[str, Any] = {"parameters": size, "workers": workers}
    for transport, times in seconds.items():
        middle, late = 1e3 * np.percentile(times, (50, 95))
        row |= {f"{transport}_ms": float(middle), f"{transport}_p95_ms": float(late)}
    return row | {"ray_over_direct": row["ray_ms"] / row["direct_ms"]}


def memory_speeds(size: int) -> dict[str, float]:
    """Measure GB/s, read and written, of a plain copy, of one addition of the reduction, and of the update."""
    rule = SGD()
    a, b, c = (np.random.default_rng(seed).standard_normal(size, np.float32) for seed in range(3))
    state = optim.init(rule, size)
    actions: dict[str, tuple[int, Callable[[], object]]] = {  # and the bytes for each number
        "copy": (8, lambda: np.copyto(a, b)),
        "addition": (12, lambda: np.add(a, b, out=a)),
        "update": (20, lambda: optim.update(rule, state, c, b, 128, 1e-6, 0, [(size,)])),
    }
    speeds = {}
    for name, (width, action) in actions.items():
        seconds = []
        for _ in range(30):
            began = time.perf_counter()
            action()
            seconds.append(time.perf_counter() - began)
        speeds[name] = width * size / median(seconds) / 1e9
    return speeds


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--steps", type=int, default=200, help="measured for each row and transport")
    parser.add_argument("--sizes", type=integers, default="25000,250000,2500000", help="numbers of parameters")
    parser.add_argument("--workers", type=integers, default="1,2,4,8", help="numbers of workers")
    options = parser.parse_args()

    report = Report()
    print("ms per step, median and 95th percentile")
    table = Table("parameters", "workers", "  direct", "     p95", "     ray", "     p95", "ray / direct")
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    for size, workers in product(options.sizes, options.workers):
        row = rows[size, workers] = measure(size, workers, options.steps)
        times = [f"{row[name]:.2f}" for name in ("direct_ms", "direct_p95_ms", "ray_ms", "ray_p95_ms")]
        table.row(f"{size:,}", workers, *times, f"{row['ray_over_direct']:.1f}")
    speeds = memory_speeds(max(options.sizes))
    each = ", ".join(f"{name} {speed:.0f}" for name, speed in speeds.items())
    print(f"\n{max(options.sizes):,} parameters, GB/s: {each}")

    for place, most in AIMS.items():
        if place in rows:
            name = f"direct, {place[0]:,} parameters, {place[1]} worker{'s' * (place[1] > 1)}"
            report.check(name, rows[place]["direct_ms"], "at most", most, "ms")
    results: dict[str, Any] = {"direct_250k_2_ms": None, "ray_over_direct_250k_2": None}
    if COMPARED in rows:
        factor = rows[COMPARED]["ray_over_direct"]
        report.check(f"ray over direct, {COMPARED[0]:,} parameters, 2 workers", factor, "at least", LEAST_FACTOR)
        results = {"direct_250k_2_ms": rows[COMPARED]["direct_ms"], "ray_over_direct_250k_2": factor}
    results |= {"gb_per_s": speeds, "steps": options.steps, "table": list(rows.values())}
    return report.end(results, options.json)


if __name__ == "__main__":
    sys.exit(main())
