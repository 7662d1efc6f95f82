"""What a run holds in memory: a worker more, the samples on each node, and whether either grows.

    python scripts/bench_memory.py [--json] [--steps 10000] [--ray-steps 2000] [--warm-up 2000]

Runs of the command itself train the small network of the benchmarks on images of MNIST's size and number (noise:
memory knows no content), with two workers. Read from /proc at given steps, for all processes of the run:

- unique memory: what ends with a process, the private pages of `smaps_rollup`;
- all memory: anonymous pages of all processes, and shared memory (Ray's object store in /dev/shm, and that of the
  direct transport), each page once.

A run with a tenth of the samples tells how often a sample is held: more memory over more samples. Growth is that of
unique memory of the driver and of a worker, and of shared memory, from the end of the warm-up to the last step, in the
medians of a few looks on both sides. Less than 1 MiB, or 2 %, counts as none: a heap breathes by as much when the
garbage collector or another thread comes at another moment.
"""

import argparse
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

SAMPLES, SHAPE, CLASSES = 60_000, (28, 28), 10
FEWER = SAMPLES // 10
TARGET_MB = 150.0  # of one more worker
MOST_COPIES = 1.15  # of the samples on a node: one, with the store's own pages
NO_GROWTH_BYTES, NO_GROWTH_SHARE = 1 << 20, 0.02
LOOKS = 8  # at each end
BATCH = 32  # samples of a step: two microbatches, one for each worker
LOOK_STEPS = 50  # between lines of metrics.jsonl
POLL = 0.01  # seconds
LONGEST = 600.0  # seconds between two lines

Bytes = dict[str, int]


def processes(root: int) -> dict[int, str]:
    """The process and all that it has started, in turn: number and command line."""
    parents, names = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            pid = int(path.name)
            parents[pid] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            names[pid] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return {pid: names[pid] for pid in found if pid in names}


def look(root: int) -> Bytes:
    """The memory of a run in bytes: of the driver, a worker (the larger one), shared, and all."""
    unique: dict[int, int] = {}
    anonymous, shared = 0, {}
    names = processes(root)
    for pid in names:
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
    workers = [unique.get(pid, 0) for pid, name in names.items() if name.startswith("ray::Worker")]
    store = sum(shared.values())
    return {"driver": unique[root], "worker": max(workers), "shared": store, "all": anonymous + store}


@contextmanager
def run(folder: Path, samples: int, transport: str) -> Iterator["Run"]:
    """A training on Ray that goes on until it is left; then it is stopped, and must have cleaned up."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (samples, *SHAPE), np.uint8)
    np.savez(folder / "noise.npz", images=images, labels=np.arange(samples) % CLASSES)
    tables = {
        "data": {"train": "noise.npz", "validation": 0.02},
        "model": {"layers": TASKS["small"].layers},
        "train": {"epochs": 10_000, "batch_size": BATCH, "microbatch": BATCH // 2},
        "optimizer": {"learning_rate": 1e-4},
        "schedule": {"type": "constant"},
        "engine": {"workers": 2, "transport": transport},
        "report": {"every_steps": LOOK_STEPS},
    }
    (folder / "run.toml").write_text(tomli_w.dumps(tables))
    before = set(Path("/dev/shm").iterdir())
    command = [sys.executable, "-m", "cnnpar", "train", "--config", "run.toml", "--run-dir", "run", "--quiet"]
    with subprocess.Popen(command, cwd=folder) as process:
        try:
            yield Run(process, folder / "run" / "metrics.jsonl")
        finally:
            process.send_signal(signal.SIGTERM)
    left = set(Path("/dev/shm").iterdir()) - before
    if left:
        print(f"left in /dev/shm (by this run, or by another process meanwhile): {', '.join(sorted(map(str, left)))}")


class Run:
    """A training under way."""

    def __init__(self, process: "subprocess.Popen[bytes]", metrics: Path) -> None:
        self._process = process
        self._metrics = metrics

    def at(self, step: int) -> Bytes:
        """Its memory as soon as that many steps are done; they are a multiple of `LOOK_STEPS`."""
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


def growth(run: Run, warm_up: int, steps: int) -> tuple[Bytes, Bytes, Bytes]:
    """Memory after the warm-up, the growth over so many steps, and the largest growth that counts as none."""
    starts = (warm_up, warm_up + steps - LOOKS * LOOK_STEPS)
    ends = [[run.at(start + number * LOOK_STEPS) for number in range(LOOKS + 1)] for start in starts]
    first, last = ({name: int(median(look[name] for look in looks)) for name in looks[0]} for looks in ends)
    allowed = {name: max(NO_GROWTH_BYTES, int(NO_GROWTH_SHARE * size)) for name, size in first.items()}
    return first, {name: last[name] - size for name, size in first.items()}, allowed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print all numbers as one object, on the last line")
    parser.add_argument("--steps", type=int, default=10_000, help="over which growth is measured, direct transport")
    parser.add_argument("--ray-steps", type=int, default=2_000, help="the same, ray transport")
    parser.add_argument(
        "--warm-up",
        type=int,
        default=2_000,
        help="steps before: more than an epoch, after which much is there for good",
    )
    options = parser.parse_args()

    def mb(size: float) -> float:
        return round(size / 1e6, 2)

    def verdict(met: bool) -> str:
        return "met" if met else "MISSED"

    found: dict[str, tuple[Bytes, Bytes, Bytes]] = {}
    for transport, steps in {"direct": options.steps, "ray": options.ray_steps}.items():
        with tempfile.TemporaryDirectory() as name, run(Path(name), SAMPLES, transport) as training:
            found[transport] = growth(training, options.warm_up, steps)
    with tempfile.TemporaryDirectory() as name, run(Path(name), FEWER, "direct") as training:
        fewer = [training.at(options.warm_up + number * LOOK_STEPS)["all"] for number in range(LOOKS)]
    begun = found["direct"][0]
    sample = SHAPE[0] * SHAPE[1] + 8  # bytes: uint8 pixels and an int64 label
    copies = (begun["all"] - median(fewer)) / ((SAMPLES - FEWER) * sample)

    result: dict[str, Any] = {"worker_mb": mb(begun["worker"]), "driver_mb": mb(begun["driver"]), "copies": copies}
    print(f"one more worker: {result['worker_mb']:.0f} MB, target at most {TARGET_MB:g}: ", end="")
    print(verdict(begun["worker"] <= TARGET_MB * 1e6))
    print(f"the driver: {result['driver_mb']:.0f} MB; shared: {mb(begun['shared']):.0f} MB")
    print(f"samples are held {copies:.2f} times on the node, target once: {verdict(copies <= MOST_COPIES)}")
    for transport, (first, more, allowed) in found.items():
        steps = options.steps if transport == "direct" else options.ray_steps
        print(f"\ngrowth over {steps:,} steps, {transport} transport")
        for kind in ("driver", "worker", "shared"):
            print(f"  {kind:<7} {mb(first[kind]):8.2f} MB {mb(more[kind]):+7.2f} MB  ", end="")
            print(f"target none (less than {mb(allowed[kind]):g}): {verdict(more[kind] < allowed[kind])}")
            result[f"{transport}_{kind}_growth_mb"] = mb(more[kind])
    if options.json:
        print(json.dumps({**result, "steps": options.steps, "ray_steps": options.ray_steps}))


if __name__ == "__main__":
    main()
