"""Measure what checkpoints of 10 million parameters cost: the training while they are written, the disk, and loading.

    python -m scripts.bench.checkpoint [--json] [--repeat 5] [--workers 0,2] [--directory DIR]

For SGD with momentum (two vectors in the file) and Adam (three), printed and held to an aim:

- stall: by how much a save delays the training. Real steps are timed with and without a save among them, in turns; the
  stall is what all steps from the save until the file is in place take longer than as many usual ones, the copy of the
  state included. Aim: at most 5 % of the ten seconds between two checkpoints.
- rate: megabytes of file a second, from handing over the state until the file is in place, while nothing else is done:
  encoding, digest, writing, fsync, renaming. Beside it, a plain write and fsync of the same bytes in that directory.
  Aim: at least 100 MB/s.
- load: reading and checking the file, and making network and state of it. Aim: below 2 s.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from cnnpar.config.resolve import resolve
from cnnpar.data.dataset import Dataset
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.fingerprint import fingerprint
from cnnpar.nn.network import Network
from cnnpar.parallel.work import Kind
from cnnpar.storage.checkpoint import read
from cnnpar.storage.packing import pack, unpack
from cnnpar.storage.saver import Saver
from cnnpar.training.microbatch import Training
from cnnpar.training.state import first_state
from scripts.harness import Report, Stepper, integers, make_parser, to_stderr

# 10,002,950 parameters
LAYERS = [
    {"type": "flatten"},
    {"type": "dense", "units": 3000},
    {"type": "relu"},
    {"type": "dense", "units": 2540},
    {"type": "relu"},
    {"type": "dense"},
]
SAMPLES, BATCH = 1 << 16, 64  # more steps an epoch than are timed
INTERVAL = 10.0  # seconds between checkpoints
MOST_STALL, LEAST_RATE, LONGEST_LOAD = 0.05, 100.0, 2.0  # the aims: share of the interval, MB/s, seconds
USUAL_STEPS = 10  # timed before each save
WARM_UP_STEPS = 3
POLL = 0.001  # seconds


class Run:
    """A training whose steps and saves are made one by one."""

    def __init__(self, optimizer: str, workers: int, directory: Path) -> None:
        """Start the workers; the checkpoint is written to `directory`."""
        tables = {
            "optimizer": {"type": optimizer, "learning_rate": 1e-4},
            "model": {"layers": LAYERS},
            "train": {"batch_size": BATCH},
            "engine": {"workers": workers},
        }
        self._config = resolve(tables)
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (SAMPLES, 28, 28, 1), np.uint8)
        data = Dataset(images, np.arange(SAMPLES) % 10, tuple("0123456789"))
        self._preprocessing = Preprocessing.of(data)
        self._network = Network.from_config(self._config, data.image_shape, len(data.class_names))
        work = Training(
            self._network, self._preprocessing, self._config.augment, self._config.train, {Kind.TRAIN: SAMPLES}
        )
        state = first_state(self._config, self._network)
        self._stepper = Stepper(self._config, work, {Kind.TRAIN: data}, state)
        self.step = self._stepper.step
        self._saver = Saver(to_stderr)
        self.path = directory / "model.json"

    def save(self) -> float:
        """Hand the state over to be saved; seconds that this takes."""
        began = time.perf_counter()
        self._inode = self._present()
        state = self._stepper.state
        payload = pack(self._config, self._network, self._preprocessing, state, fingerprint(), "")
        self._saver.save(self.path, payload, self.path.with_name("model.prev.json"))
        return time.perf_counter() - began

    def saved(self) -> bool:
        """Tell whether the file is in place."""
        return self._present() != self._inode

    def close(self) -> None:
        """End the saver and the workers."""
        self._saver.close()
        self._stepper.close()

    def _present(self) -> int:
        return self.path.stat().st_ino if self.path.exists() else 0


def stall(run: Run) -> tuple[float, float]:
    """Measure seconds by which one save delays the steps, and those of copying the state between two steps alone."""
    usual = median(run.step() for _ in range(USUAL_STEPS))
    began = time.perf_counter()
    copying = run.save()
    steps = 0
    while steps < USUAL_STEPS or not run.saved():
        run.step()
        steps += 1
    return time.perf_counter() - began - steps * usual, copying


def saving(run: Run) -> float:
    """Measure seconds of a save while nothing else is done; a step before it changes the state."""
    run.step()
    began = time.perf_counter()
    run.save()
    while not run.saved():
        time.sleep(POLL)
    return time.perf_counter() - began


def plain_write(content: bytes, path: Path) -> float:
    """Measure seconds of a write and fsync of a new file."""
    began = time.perf_counter()
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    path.unlink()
    return seconds


def loading(path: Path) -> float:
    """Measure seconds from a file's name to network and state."""
    began = time.perf_counter()
    unpack(read(path), str(path))
    return time.perf_counter() - began


def measure(optimizer: str, workers: list[int], repeat: int, parent: Path | None) -> dict[str, Any]:
    """Measure everything for one optimizer; medians."""
    row: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=parent) as name:
        for count in workers:
            run = Run(optimizer, count, Path(name))
            try:
                for _ in range(WARM_UP_STEPS):
                    run.step()
                saving(run)  # the first save checks the file that is there already
                stalls = [stall(run) for _ in range(repeat)]
                row[f"stall_{count}_s"] = median(seconds for seconds, _ in stalls)
                row["copy_s"] = median(seconds for _, seconds in stalls)
                if count == workers[0]:
                    content = run.path.read_bytes()
                    times = [(saving(run), plain_write(content, Path(name) / "plain")) for _ in range(repeat)]
            finally:
                run.close()
        row["load_s"] = median(loading(run.path) for _ in range(repeat))
    row["megabytes"] = len(content) / 1e6
    row["rate_mb_s"], row["plain_mb_s"] = (row["megabytes"] / median(column) for column in zip(*times, strict=True))
    return row


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="saves of each kind, plain writes, and loads")
    parser.add_argument("--workers", type=integers, default="0,2", help="numbers of workers of the steps")
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: the one of temporary files")
    options = parser.parse_args()

    report = Report()
    print(f"medians of {options.repeat}")
    results: dict[str, Any] = {}
    for optimizer in ("sgd", "adam"):
        row = results[optimizer] = measure(optimizer, options.workers, options.repeat, options.directory)
        print(f"{optimizer}: {row['megabytes']:.0f} MB; copying the state {1e3 * row['copy_s']:.0f} ms", end="")
        for count in options.workers:
            stalled = row[f"stall_{count}_s"]
            share = row[f"stall_{count}_share"] = stalled / INTERVAL
            where = f"{count} workers" if count else "in process"
            print(f"; stall, {where}: {1e3 * stalled:.0f} ms", end="")
            report.check(f"{optimizer}, {where}: stall", 100 * share, "at most", 100 * MOST_STALL, "%")
        print(f"; plain write {row['plain_mb_s']:.0f} MB/s", flush=True)
        report.check(f"{optimizer}: saved at", row["rate_mb_s"], "at least", LEAST_RATE, "MB/s")
        report.check(f"{optimizer}: loaded in", row["load_s"], "below", LONGEST_LOAD, "s")
    return report.end(results, options.json)


if __name__ == "__main__":
    sys.exit(main())
