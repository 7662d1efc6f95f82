"""What the engine itself costs per optimizer step, when there is next to nothing to compute.

    python scripts/bench_overhead.py [--json] [--steps 200] [--sizes 25000,250000,2500000] [--workers 1,2,4,8]

Counted is all that a step does besides a network's arithmetic: parameters made visible to the workers, a job for each
of them, waking up, the answers, the sum over the workers' gradients, the division, and the SGD update with momentum.
A worker's own part is to write one float into every page of its gradient, which is there from before; making or
copying a whole gradient would be compute and is not counted. Each worker has one microbatch, so the tree of the
reduction has as many leaves as there are workers. Each worker is a process: more workers than cores share them.

Both transports are up at once and take turns, so that a machine that is busy for a while slows both.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from itertools import product
from statistics import median
from typing import Any

import numpy as np

from cnnpar import config, optim
from cnnpar.data.dataset import Dataset
from cnnpar.parallel.ray_settings import prepare_ray
from cnnpar.parallel.server import Server
from cnnpar.parallel.start import start
from cnnpar.parallel.work import Kind, Prepared, Step, Sums, Vector, Work
from cnnpar.settings import resolve

TRANSPORTS = ("direct", "ray")
WARM_UP_STEPS = 20
BLOCK = 20  # steps of one turn
PAGE = 1024  # floats
STORE_BYTES = 4 << 30  # Ray frees objects late: the largest steps leave many behind
TARGETS = {(250_000, 1): 0.3, (250_000, 2): 0.5, (250_000, 8): 2.0, (2_500_000, 2): 4.0}  # ms, direct
TARGET_FACTOR = 5.0  # ray over direct, 250,000 parameters, 2 workers


class Nothing:
    """A work of which nothing is left but its gradient's size."""

    def __init__(self, size: int, workers: int) -> None:
        self.size = size
        self._workers = workers
        self._filled = False

    def with_data(self, data: Mapping[Kind, Dataset]) -> Work:
        """There are no data."""
        del data
        return self

    def microbatches(self, step: Step) -> int:
        """One for each worker."""
        del step
        return self._workers

    def length(self, step: Step) -> int:
        """A gradient, always."""
        del step
        return self.size

    def following(self, step: Step) -> Step | None:
        """Nothing to prepare."""
        del step
        return None

    def prepare(self, step: Step, microbatch: int) -> Prepared:
        """Nothing."""
        del step, microbatch

    def compute(self, step: Step, microbatch: int, prepared: Prepared, parameters: Vector, out: Vector) -> Sums:
        """A gradient of zeros the first time; from then on it is touched, page by page."""
        del step, microbatch, prepared, parameters
        if not self._filled:
            out.fill(0.0)  # sums lie where gradients lay: others would grow from step to step
            self._filled = True
        out[::PAGE] = 0.0
        return Sums(0.0, 0, 1)


class Lane:
    """One transport with its workers, and the times of its steps."""

    def __init__(self, transport: str, size: int, workers: int) -> None:
        engine = resolve({"engine": {"transport": transport, "workers": workers}}).engine
        work = Nothing(size, workers)
        self.milliseconds: list[float] = []
        self._server: Server = start(engine, work, {}, lambda text: print(text, file=sys.stderr), lambda: False)
        self._rule = config.SGD(learning_rate=0.01, momentum=0.9, nesterov=True, weight_decay=0.0)
        self._parameters = self._server.home(np.zeros(size, np.float32))
        self._state = optim.init(self._rule, size)
        self._step = 0

    def run(self, steps: int) -> None:
        """So many steps, each with its time."""
        for _ in range(steps):
            began = time.perf_counter()
            gradient_sum, sums = self._server.gradient(self._parameters, 0, self._step)
            shapes = [gradient_sum.shape]
            optim.update(self._rule, self._state, self._parameters, gradient_sum, sums.count, 0.01, self._step, shapes)
            self.milliseconds.append(1e3 * (time.perf_counter() - began))
            self._step += 1

    def close(self) -> None:
        """End the workers."""
        self._server.close()


def measure(size: int, workers: int, steps: int) -> dict[str, Any]:
    """A row of the table: for each transport median and p95 of a step, in ms."""
    lanes: dict[str, Lane] = {}
    try:
        for transport in TRANSPORTS:
            lanes[transport] = Lane(transport, size, workers)
            lanes[transport].run(WARM_UP_STEPS)
            lanes[transport].milliseconds.clear()
        for _ in range(-(-steps // BLOCK)):
            for lane in lanes.values():
                lane.run(BLOCK)
    finally:
        for lane in lanes.values():
            lane.close()
    row: dict[str, Any] = {"parameters": size, "workers": workers}
    for transport, lane in lanes.items():
        middle, late = np.percentile(lane.milliseconds, (50, 95))
        row |= {f"{transport}_ms": float(middle), f"{transport}_p95_ms": float(late)}
    return row | {"ray_over_direct": row["ray_ms"] / row["direct_ms"]}


def start_ray(processors: int) -> None:
    """A Ray of this script's own, with room for the workers of both transports."""
    prepare_ray(config.Engine())
    import ray  # reads what prepare_ray has set

    ray.init(
        address="local",
        num_cpus=processors,
        include_dashboard=False,
        object_store_memory=STORE_BYTES,
        logging_level="error",
        log_to_driver=False,
    )


def memory_speeds(size: int) -> dict[str, float]:
    """GB/s, read and written, of a plain copy, of one addition of the reduction, and of the update."""
    rule = config.SGD()
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


def integers(text: str) -> list[int]:
    """Numbers with commas between them."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print all numbers as one object, on the last line")
    parser.add_argument("--steps", type=int, default=200, help="measured for each row and transport")
    parser.add_argument("--sizes", type=integers, default="25000,250000,2500000", help="numbers of parameters")
    parser.add_argument("--workers", type=integers, default="1,2,4,8", help="numbers of workers")
    options = parser.parse_args()

    load = os.getloadavg()[0]
    print(f"{len(os.sched_getaffinity(0))} cores, load {load:.1f}; ms per step, median and 95th percentile\n")
    print(f"{'parameters':>10} {'workers':>7} {'direct':>8} {'p95':>8} {'ray':>8} {'p95':>8} {'ray/direct':>10}")
    start_ray(2 * max(options.workers))
    rows = []
    for size, workers in product(options.sizes, options.workers):
        row = measure(size, workers, options.steps)
        rows.append(row)
        times = " ".join(f"{row[name]:8.2f}" for name in ("direct_ms", "direct_p95_ms", "ray_ms", "ray_p95_ms"))
        print(f"{size:>10,} {workers:>7} {times} {row['ray_over_direct']:>10.1f}", flush=True)

    print()
    found = {(row["parameters"], row["workers"]): row for row in rows}
    for (size, workers), most in TARGETS.items():
        if (size, workers) in found:
            milliseconds = found[size, workers]["direct_ms"]
            met = "met" if milliseconds <= most else "MISSED"
            print(
                f"direct, {size:,} parameters, {workers} workers: {milliseconds:.2f} ms, target at most {most:g}: {met}"
            )
    checked = found.get((250_000, 2), {"direct_ms": None, "ray_over_direct": None})
    if checked["ray_over_direct"] is not None:
        met = "met" if checked["ray_over_direct"] >= TARGET_FACTOR else "MISSED"
        print(
            f"ray costs {checked['ray_over_direct']:.1f} times as much there, target at least {TARGET_FACTOR:g}: {met}"
        )
    speeds = memory_speeds(max(options.sizes))
    print(
        f"{max(options.sizes):,} parameters, GB/s: "
        + ", ".join(f"{name} {speed:.0f}" for name, speed in speeds.items())
    )
    result = {"direct_250k_2_ms": checked["direct_ms"], "ray_over_direct_250k_2": checked["ray_over_direct"]}
    if options.json:
        print(json.dumps({**result, "gb_per_s": speeds, "steps": options.steps, "load_before": load, "table": rows}))


if __name__ == "__main__":
    main()
