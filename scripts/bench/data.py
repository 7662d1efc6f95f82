"""How long data take to be ready: MNIST as CSV and as pictures, first and second start; and a worker's inputs.

    python scripts/bench_data.py [--json] [--repeat 5] [--pictures 6000]

MNIST comes from `$CNNPAR_DATA/mnist`, or is downloaded once, and is written as CSV, as CSV.GZ and as PNG files into a
temporary folder. Ready means `cnnpar.data.sources.load`: read, checked, held out. The first start fills an empty
cache, the second finds it filled; `off` is without one. `numpy.loadtxt` takes turns with them on the same CSV file.

Then, on MNIST with every variation there is (one-pixel copies and random shifts): what a worker needs to prepare the
inputs of a microbatch, which it does while the server updates, beside computing it with the small network of the
benchmarks; and what drawing up an epoch takes, once an epoch.
"""

import argparse
import gzip
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits

from cnnpar import config
from cnnpar.data.dataset import Dataset
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.data.sources import load
from cnnpar.errors import InputError
from cnnpar.nn.network import Network
from cnnpar.parallel.work import Kind, Step, Training
from scripts.bench.networks import TASKS

FIRST_TARGET, SECOND_TARGET = 1.5, 0.2  # times numpy.loadtxt; seconds
MICROBATCH = 16
STEPS = 50


def write_csv(path: Path, data: Dataset) -> None:
    """Label first, then the pixels, below a header; as a packed file too."""
    table = np.column_stack([data.labels, data.images.reshape(len(data), -1)])
    header = ",".join(["label", *(f"pixel{number}" for number in range(table.shape[1] - 1))])
    rows = (",".join(map(str, row)) for row in table.tolist())
    content = ("\n".join([header, *rows]) + "\n").encode()
    path.write_bytes(content)
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(content, 1))


def write_pictures(folder: Path, data: Dataset, count: int) -> None:
    """The first images as PNG files in a folder for each class."""
    for number, (image, label) in enumerate(zip(data.images[:count], data.labels[:count], strict=True)):
        picture = folder / data.class_names[label] / f"{number:05}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze(-1)).save(picture)


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall clock and of processor that something takes."""
    wall, processor = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - processor


def starts(source: Path, cache: Path) -> dict[str, tuple[float, float]]:
    """Times without a cache, of the first start with one, and of the second."""

    def read() -> None:
        load(config.Data(train=str(source)))

    os.environ["CNNPAR_CACHE"] = "off"
    off = timed(read)
    shutil.rmtree(cache, ignore_errors=True)
    os.environ["CNNPAR_CACHE"] = str(cache)
    return {"off": off, "first": timed(read), "second": timed(read)}


def loading(folder: Path, data: Dataset, pictures: int, repeat: int) -> dict[str, dict[str, tuple[float, float]]]:
    """Medians of seconds and of processor seconds, by source and start."""
    csv = folder / "mnist.csv"
    write_csv(csv, data)
    write_pictures(folder / "pictures", data, pictures)
    sources = {"csv": csv, "csv.gz": csv.with_name("mnist.csv.gz"), "pictures": folder / "pictures"}
    rounds = []
    for _ in range(repeat):
        alone = timed(lambda: np.loadtxt(csv, np.uint8, delimiter=",", skiprows=1))
        rounds.append(
            {"loadtxt": {"alone": alone}} | {k: starts(path, folder / "cache") for k, path in sources.items()}
        )

    def middle(source: str, start: str) -> tuple[float, float]:
        walls, processors = zip(*(times[source][start] for times in rounds), strict=True)
        return median(walls), median(processors)

    return {source: {start: middle(source, start) for start in starts} for source, starts in rounds[0].items()}


def preparing(data: Dataset) -> dict[str, float]:
    """Milliseconds for a microbatch to be prepared and computed, and for an epoch to be drawn up."""
    network = Network.from_tables(TASKS["small"].layers, data.image_shape, len(data.class_names))
    augment = config.Augment(ratio=4, shift=2)
    train = config.Train(microbatch=MICROBATCH)
    work = Training(network, Preprocessing.of(data), augment, train, {Kind.TRAIN: len(data)})
    work = work.with_data({Kind.TRAIN: data})
    parameters = network.init(0)
    gradient = np.empty_like(parameters)
    with threadpool_limits(1):
        epoch, _ = timed(lambda: work.prepare(Step(Kind.TRAIN, 1, 0), 0))
        times = []
        for number in range(STEPS):
            step = Step(Kind.TRAIN, 1, number)
            prepared: list[Any] = []
            ahead, _ = timed(lambda: prepared.append(work.prepare(step, 0)))  # noqa: B023  # called at once
            then, _ = timed(lambda: work.compute(step, 0, prepared[0], parameters, gradient))  # noqa: B023
            times.append((ahead, then))
    prepare, compute = (1e3 * median(column) for column in zip(*times, strict=True))
    return {"epoch_ms": 1e3 * epoch, "prepare_ms": prepare, "compute_ms": compute}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print all numbers as one object, on the last line")
    parser.add_argument("--repeat", type=int, default=5, help="times that each source is read in each way")
    parser.add_argument("--pictures", type=int, default=6_000, help="number of PNG files")
    options = parser.parse_args()

    try:
        data = load(config.Data(name="mnist", validation=0.0)).train
    except InputError as error:
        raise SystemExit(str(error)) from error
    with tempfile.TemporaryDirectory() as name:
        table = loading(Path(name), data, options.pictures, options.repeat)
    worker = preparing(data)

    print(
        f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}; medians of {options.repeat}, seconds\n"
    )
    print(f"{'':<18} {'wall':>6} {'cpu':>6}")
    for source, rows in table.items():
        for start, (wall, processor) in rows.items():
            print(f"{source:<10}{start:<8} {wall:6.2f} {processor:6.2f}")
    first, second = table["csv"]["first"][0] / table["loadtxt"]["alone"][0], table["csv"]["second"][0]
    met = "met" if first <= FIRST_TARGET else "MISSED"
    print(f"\nCSV, first start: {first:.2f} times loadtxt alone, target at most {FIRST_TARGET:g}: {met}")
    met = "met" if second <= SECOND_TARGET else "MISSED"
    print(f"CSV, second start: {second:.2f} s, target at most {SECOND_TARGET:g}: {met}")
    share = worker["prepare_ms"] / (worker["prepare_ms"] + worker["compute_ms"])
    print(f"\na microbatch of {MICROBATCH}: prepared in {worker['prepare_ms']:.3f} ms, ", end="")
    print(f"computed in {worker['compute_ms']:.2f} ms: {share:.1%} of a worker's time, most of it while it would wait")
    print(f"an epoch of {5 * len(data):,} samples: drawn up in {worker['epoch_ms']:.0f} ms")
    if options.json:
        summary = {"first_over_loadtxt": first, "second_s": second, "prepare_share": share, **worker}
        print(json.dumps({**summary, "seconds_wall_cpu": table, "repeat": options.repeat}))


if __name__ == "__main__":
    main()
