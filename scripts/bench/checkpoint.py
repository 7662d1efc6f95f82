"""What checkpoints of 10 million parameters cost: the training while they are written, the disk, and loading.

    python scripts/bench_checkpoint.py [--json] [--repeat 5] [--workers 0,2] [--directory DIR]

For SGD with momentum (two vectors in the file) and Adam (three):

- stall: real steps are timed with and without a save among them, in turns. The stall is what all steps from the save
  to the file's being in place take longer than as many usual ones, the copy of the state included. It is told as the
  share of a checkpoint interval of ten seconds.
- rate: megabytes of file a second, from handing over the state to the file's being in place with nothing else to do:
  encoding, digest, writing, fsync, renaming. Beside it, a plain write and fsync of the same bytes in that directory.
- load: reading and checking the file, and making network and state of it.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from cnnpar import optim
from cnnpar.checkpoint import Payload, load, pack, unpack
from cnnpar.data.dataset import Dataset
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.nn.network import Network
from cnnpar.parallel.fingerprint import fingerprint
from cnnpar.parallel.start import start
from cnnpar.parallel.work import Kind, Training
from cnnpar.saver import Saver
from cnnpar.settings import resolve
from cnnpar.state import TrainState

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
STALL_TARGET, RATE_TARGET, LOAD_TARGET = 0.05, 100.0, 2.0  # share of the interval, MB/s, seconds
USUAL_STEPS = 10  # timed before each save
WARM_UP_STEPS = 3
POLL = 0.001  # seconds


class Run:
    """A training whose steps and saves are taken one by one."""

    def __init__(self, optimizer: str, workers: int, directory: Path) -> None:
        tables = {"optimizer": {"type": optimizer}, "model": {"layers": LAYERS}, "engine": {"workers": workers}}
        self._config = resolve({**tables, "train": {"batch_size": BATCH}})
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (SAMPLES, 28, 28, 1), np.uint8)
        data = Dataset(images, np.arange(SAMPLES) % 10, tuple("0123456789"))
        self._preprocessing = Preprocessing.of(data)
        self._network = Network.from_tables(self._config.model.layers, data.image_shape, len(data.class_names))
        work = Training(
            self._network, self._preprocessing, self._config.augment, self._config.train, {Kind.TRAIN: SAMPLES}
        )
        self._server = start(self._config.engine, work, {Kind.TRAIN: data}, print, lambda: False)
        size = self._network.layout.size
        parameters = self._server.home(self._network.init(0))
        self._state = TrainState(parameters, optim.init(self._config.optimizer, size))
        self._saver = Saver(lambda text: print(text, file=sys.stderr))
        self.path = directory / "model.json"

    def step(self) -> float:
        """Seconds of one optimizer step, as the training loop does it."""
        began = time.perf_counter()
        state = self._state
        gradient_sum, sums = self._server.gradient(state.parameters, state.epoch, state.index)
        optim.update(
            self._config.optimizer,
            state.optimizer,
            state.parameters,
            gradient_sum,
            sums.count,
            1e-4,
            state.step,
            [gradient_sum.shape],
        )
        state.advance(sums, 0.0)
        return time.perf_counter() - began

    def save(self) -> float:
        """Hand the state over to be saved; seconds that this takes."""
        began = time.perf_counter()
        self._inode = self._present()
        self._saver.save(self.path, self._packed(), self.path.with_name("model.prev.json"))
        return time.perf_counter() - began

    def saved(self) -> bool:
        """Whether the file is in place."""
        return self._present() != self._inode

    def close(self) -> None:
        """End the saver and the workers."""
        self._saver.close()
        self._server.close()

    def _present(self) -> int:
        return self.path.stat().st_ino if self.path.exists() else 0

    def _packed(self) -> Payload:
        return pack(self._config, self._network, self._preprocessing, self._state, fingerprint(), "")


def stall(run: Run) -> tuple[float, float]:
    """Seconds by which one save delays the steps, and those of the copy alone, which is made between two steps."""
    usual = median(run.step() for _ in range(USUAL_STEPS))
    began = time.perf_counter()
    copying = run.save()
    steps = 0
    while steps < USUAL_STEPS or not run.saved():
        run.step()
        steps += 1
    return time.perf_counter() - began - steps * usual, copying


def saving(run: Run) -> float:
    """Seconds of a save when nothing else is to be done; the state is another one than in the file."""
    run.step()
    began = time.perf_counter()
    run.save()
    while not run.saved():
        time.sleep(POLL)
    return time.perf_counter() - began


def plain(content: bytes, path: Path) -> float:
    """Seconds of a write and fsync of a new file."""
    began = time.perf_counter()
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    path.unlink()
    return seconds


def loading(path: Path) -> float:
    """Seconds from a file's name to network and state."""
    began = time.perf_counter()
    unpack(load(path), str(path))
    return time.perf_counter() - began


def measure(optimizer: str, workers: list[int], repeat: int, parent: Path | None) -> dict[str, Any]:
    """A row of the table: medians of all that is measured."""
    row: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=parent) as name:
        for count in workers:
            run = Run(optimizer, count, Path(name))
            try:
                for _ in range(WARM_UP_STEPS):
                    run.step()
                saving(run)  # the first save looks whether what is there already is whole
                stalls = [stall(run) for _ in range(repeat)]
                row[f"stall_{count}_s"] = median(seconds for seconds, _ in stalls)
                row["copy_s"] = median(seconds for _, seconds in stalls)
                if count == workers[0]:
                    content = run.path.read_bytes()
                    times = [(saving(run), plain(content, Path(name) / "plain")) for _ in range(repeat)]
            finally:
                run.close()
        row["load_s"] = median(loading(run.path) for _ in range(repeat))
    row["megabytes"] = len(content) / 1e6
    row["rate_mb_s"], row["plain_mb_s"] = (row["megabytes"] / median(column) for column in zip(*times, strict=True))
    return row


def integers(text: str) -> list[int]:
    """Numbers with commas between them."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print all numbers as one object, on the last line")
    parser.add_argument("--repeat", type=int, default=5, help="saves of each kind, plain writes, and loads")
    parser.add_argument("--workers", type=integers, default="0,2", help="numbers of workers of the steps")
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: the one of temporary files")
    options = parser.parse_args()

    def verdict(met: bool) -> str:
        return "met" if met else "MISSED"

    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}; medians of {options.repeat}")
    result: dict[str, Any] = {}
    for optimizer in ("sgd", "adam"):
        row = result[optimizer] = measure(optimizer, options.workers, options.repeat, options.directory)
        print(f"\n{optimizer}: {row['megabytes']:.0f} MB; copying the state {1e3 * row['copy_s']:.0f} ms")
        for count in options.workers:
            seconds = row[f"stall_{count}_s"]
            share = row[f"stall_{count}_share"] = seconds / INTERVAL
            where = f"{count} workers" if count else "in process"
            print(f"  stall, {where:<10} {1e3 * seconds:7.0f} ms = {share:.1%} of {INTERVAL:g} s, ", end="")
            print(f"target at most {STALL_TARGET:.0%}: {verdict(share <= STALL_TARGET)}")
        print(f"  saved at {row['rate_mb_s']:18.0f} MB/s (plain write {row['plain_mb_s']:.0f}), ", end="")
        print(f"target at least {RATE_TARGET:g}: {verdict(row['rate_mb_s'] >= RATE_TARGET)}")
        print(
            f"  loaded in {row['load_s']:17.2f} s, target below {LOAD_TARGET:g}: {verdict(row['load_s'] < LOAD_TARGET)}"
        )
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
