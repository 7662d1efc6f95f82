"""Measure what a run holds in memory: one more worker, the samples on each node, and whether either grows.

    python -m scripts.bench.memory [--json] [--steps 10000] [--ray-steps 2000] [--warm-up 2000]

Runs of the command itself train the small network of the benchmarks with two workers, on noise of MNIST's image size
and number. Their memory is read from /proc at given steps, for all processes of a run:

- unique memory: what is freed when a process ends, the private pages of `smaps_rollup`;
- all memory: anonymous pages of all processes, and shared memory (Ray's object store in /dev/shm, and that of the
  direct transport), each page once.

How often a sample is held follows from a second run with a tenth of the samples: more memory over more samples. Growth
is that of unique memory of the driver and of a worker, and of shared memory, from the end of the warm-up to the last
step, in the medians of a few looks at both ends.

Aims: one more worker at most 150 MB; samples held at most 1.15 times on a node, which is once with the store's own
pages; growth below 2 %, or 1 MiB where that is more: a heap grows and shrinks by as much when the garbage collector or
another thread runs at another moment.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tomli_w

from scripts.bench.networks import TASKS
from scripts.chaos.processes import Process, descendants
from scripts.harness import Report, Table, make_parser

SAMPLES, SHAPE, CLASSES = 60_000, (28, 28), 10
FEWER = SAMPLES // 10
MOST_WORKER_MB, MOST_COPIES = 150.0, 1.15  # the aims
NO_GROWTH_BYTES, NO_GROWTH_SHARE = 1 << 20, 0.02
LOOKS = 8  # at each end
BATCH = 32  # samples of a step: two microbatches, one for each worker
LOOK_STEPS = 50  # between lines of metrics.jsonl
POLL = 0.01  # seconds
LONGEST = 600.0  # seconds between two lines

Bytes = dict[str, int]


def look(root: int) -> Bytes:
    """Read the memory of a run in bytes: of the driver, a worker (the larger one), shared, and all."""
    unique: dict[int, int] = {}
    anonymous, shared = 0, {}
    processes = [Process.of(root), *descendants(root)]
    for pid in (process.pid for process in processes):
        with suppress(OSError):  # it has just ended
            lines = (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
            sizes = {name.rstrip(":"): int(size) << 10 for name, size, _ in map(str.split, lines)}
            unique[pid] = sizes["Private_Clean"] + sizes["Private_Dirty"]
            anonymous += sizes["Pss_Anon"]
            for descriptor in (Path("/proc") / str(pid) / "fd").iterdir():
                with suppress(OSError):
                    target = str(descriptor.readlink())
                    if target.startswith(("/dev/shm/", "/memfd:")):
                        status = descriptor.stat()
                        shared[status.st_dev, status.st_ino] = status.st_blocks * 512
    workers = [unique.get(process.pid, 0) for process in processes if process.is_worker]
    store = sum(shared.values())
    return {"driver": unique[root], "worker": max(workers), "shared": store, "all": anonymous + store}


class Run:
    """A training under way."""

    def __init__(self, process: "subprocess.Popen[bytes]", metrics: Path) -> None:
        self._process = process
        self._metrics = metrics

    def at(self, step: int) -> Bytes:
        """Wait until that many steps are done, a multiple of `LOOK_STEPS`, and read the run's memory."""
        until = time.monotonic() + LONGEST
        while self._step() < step:
            if self._process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the run did not come to step {step}")
            time.sleep(POLL)
        return look(self._process.pid)

    def _step(self) -> int:
        try:
            with self._metrics.open("rb") as file:
                file.seek(-min(4096, file.seek(0, os.SEEK_END)), os.SEEK_END)
                lines = file.read().splitlines()
        except FileNotFoundError:
            return 0
        return max((int(json.loads(line)["step"]) for line in lines[1:]), default=0)


@contextmanager
def running(samples: int, transport: str) -> Iterator[Run]:
    """Have a training run on Ray while the block does; it is stopped then, and must leave nothing in /dev/shm."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (samples, *SHAPE), np.uint8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "noise.npz", images=images, labels=np.arange(samples) % CLASSES)
        tables = {
            "data": {"train": str(folder / "noise.npz"), "validation": 0.02},
            "model": {"layers": TASKS["small"].layers},
            "train": {"epochs": 10_000, "batch_size": BATCH, "microbatch": BATCH // 2},
            "optimizer": {"learning_rate": 1e-4},
            "schedule": {"type": "constant"},
            "engine": {"workers": 2, "transport": transport},
            "report": {"every_steps": LOOK_STEPS},
        }
        (folder / "run.toml").write_text(tomli_w.dumps(tables))
        before = set(Path("/dev/shm").iterdir())
        options = ["--config", str(folder / "run.toml"), "--run-dir", str(folder / "run"), "--quiet"]
        with subprocess.Popen([sys.executable, "-m", "cnnpar", "train", *options]) as process:
            try:
                yield Run(process, folder / "run" / "metrics.jsonl")
            finally:
                process.send_signal(signal.SIGTERM)
    left = set(Path("/dev/shm").iterdir()) - before
    if left:
        print(f"left in /dev/shm (by this run, or by another process meanwhile): {', '.join(sorted(map(str, left)))}")


def growth(run: Run, warm_up: int, steps: int) -> tuple[Bytes, Bytes, Bytes]:
    """Measure memory after the warm-up, its growth over so many steps, and the growth that still counts as none."""
    starts = (warm_up, warm_up + steps - LOOKS * LOOK_STEPS)
    ends = [[run.at(start + number * LOOK_STEPS) for number in range(LOOKS + 1)] for start in starts]
    first, last = ({name: int(median(look[name] for look in looks)) for name in looks[0]} for looks in ends)
    allowed = {name: max(NO_GROWTH_BYTES, int(NO_GROWTH_SHARE * size)) for name, size in first.items()}
    return first, {name: last[name] - size for name, size in first.items()}, allowed


def mb(size: float) -> float:
    """Bytes in megabytes, rounded."""
    return round(size / 1e6, 2)


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--steps", type=int, default=10_000, help="over which growth is measured, direct transport")
    parser.add_argument("--ray-steps", type=int, default=2_000, help="the same, ray transport")
    parser.add_argument(
        "--warm-up", type=int, default=2_000, help="steps before; more than an epoch: much is allocated once in it"
    )
    options = parser.parse_args()

    report = Report()
    lengths = {"direct": options.steps, "ray": options.ray_steps}
    found: dict[str, tuple[Bytes, Bytes, Bytes]] = {}
    for transport, steps in lengths.items():
        with running(SAMPLES, transport) as run:
            found[transport] = growth(run, options.warm_up, steps)
    with running(FEWER, "direct") as run:
        fewer = [run.at(options.warm_up + number * LOOK_STEPS)["all"] for number in range(LOOKS)]
    begun = found["direct"][0]
    sample = SHAPE[0] * SHAPE[1] + 8  # bytes: uint8 pixels and an int64 label
    copies = (begun["all"] - median(fewer)) / ((SAMPLES - FEWER) * sample)

    results: dict[str, Any] = {"worker_mb": mb(begun["worker"]), "driver_mb": mb(begun["driver"]), "copies": copies}
    report.check("one more worker", begun["worker"] / 1e6, "at most", MOST_WORKER_MB, "MB")
    report.check("times that samples are held on the node", copies, "at most", MOST_COPIES)
    table = Table("transport", "memory", "  steps", "     MB", "growth, MB")
    for transport, (first, more, allowed) in found.items():
        for kind in ("driver", "worker", "shared"):
            table.row(transport, kind, f"{lengths[transport]:,}", f"{mb(first[kind]):.2f}", f"{mb(more[kind]):+.2f}")
            name = f"growth, {transport} transport, {kind}"
            report.check(name, more[kind] / 1e6, "below", allowed[kind] / 1e6, "MB")
            results[f"{transport}_{kind}_growth_mb"] = mb(more[kind])
    return report.end({**results, "steps": options.steps, "ray_steps": options.ray_steps}, options.json)


if __name__ == "__main__":
    sys.exit(main())
