"""Measure how long data take to be ready: MNIST as CSV and as PNG files, first and second start; and a worker's inputs.

    python -m scripts.bench.data [--json] [--repeat 5] [--pictures 6000] [--jpegs 50000] [--photos 200]

MNIST comes from `$CNNPAR_DATA/mnist`, or is downloaded once, and is written as CSV, as CSV.GZ and as PNG files into a
temporary folder. Ready means `cnnpar.data.load.load_splits`: read, checked, a part held out. The first start fills an
empty cache, the second finds it filled, `off` has none. `numpy.loadtxt` takes turns with them on the same CSV file.
Printed: seconds of wall clock and of processor, medians.

Then, on MNIST with every variation (one-pixel copies and random shifts): how long a worker takes to prepare the inputs
of a microbatch, which it does while the server updates, beside computing it with the small network of the benchmarks;
and how long drawing up an epoch takes, once an epoch.

Before that, folders of JPEGs, which need no MNIST: small ones of 32 x 32, beside Pillow alone on as many cores; and
photos of 12 megapixels scaled to 128 x 128, with the most memory that it takes.

Aims: for the CSV file, the first start at most 1.5 times `numpy.loadtxt`, the second at most 0.2 s; for the small
JPEGs, without a cache at most 1.2 times Pillow alone on as many cores, the second start at most 0.5 s; for the
photos, at most 100 MB in this process beside the result.
"""

import gzip
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits

from cnnpar.config.data import Data
from cnnpar.config.sections import Augment, Train
from cnnpar.data.dataset import Dataset
from cnnpar.data.load import load_splits
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.errors import InputError
from cnnpar.machine import usable_cores
from cnnpar.nn.network import Network
from cnnpar.parallel.work import Kind, Step
from cnnpar.training.microbatch import Training
from scripts.bench import pictures
from scripts.bench.networks import TASKS
from scripts.harness import Report, Table, make_parser

MOST_FIRST, MOST_SECOND = 1.5, 0.2  # the aims: times numpy.loadtxt; seconds
MOST_JPEGS, MOST_SECOND_JPEGS, MOST_BESIDE = 1.2, 0.5, 100.0  # times Pillow alone; seconds; MB
MICROBATCH = 16
STEPS = 50

Times = tuple[float, float]  # seconds of wall clock, and of processor


def write_csv(path: Path, data: Dataset) -> None:
    """Write label and pixels of each sample below a header; and the same packed, as .gz."""
    table = np.column_stack([data.labels, data.images.reshape(len(data), -1)])
    header = ",".join(["label", *(f"pixel{number}" for number in range(table.shape[1] - 1))])
    rows = (",".join(map(str, row)) for row in table.tolist())
    content = ("\n".join([header, *rows]) + "\n").encode()
    path.write_bytes(content)
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(content, 1))


def write_pictures(folder: Path, data: Dataset, count: int) -> None:
    """Write the first images as PNG files, in a folder for each class."""
    for number, (image, label) in enumerate(zip(data.images[:count], data.labels[:count], strict=True)):
        picture = folder / data.class_names[label] / f"{number:05}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze(-1)).save(picture)


def timed(action: Callable[[], object]) -> Times:
    """Measure an action."""
    wall, processor = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - processor


def starts(source: Path, cache: Path) -> dict[str, Times]:
    """Measure reading without a cache, and the first and second start with one."""

    def read() -> None:
        load_splits(Data(train=str(source)))

    os.environ["CNNPAR_CACHE"] = "off"
    off = timed(read)
    shutil.rmtree(cache, ignore_errors=True)
    os.environ["CNNPAR_CACHE"] = str(cache)
    return {"off": off, "first": timed(read), "second": timed(read)}


def loading(folder: Path, data: Dataset, count: int, repeat: int) -> dict[str, dict[str, Times]]:
    """Measure each source and start in turns; medians."""
    csv = folder / "mnist.csv"
    write_csv(csv, data)
    write_pictures(folder / "pictures", data, count)
    sources = {"csv": csv, "csv.gz": csv.with_name("mnist.csv.gz"), "pictures": folder / "pictures"}
    rounds = []
    for _ in range(repeat):
        alone = timed(lambda: np.loadtxt(csv, np.uint8, delimiter=",", skiprows=1))
        own = {source: starts(path, folder / "cache") for source, path in sources.items()}
        rounds.append({"loadtxt": {"alone": alone}} | own)

    def middle(source: str, start: str) -> Times:
        walls, processors = zip(*(times[source][start] for times in rounds), strict=True)
        return median(walls), median(processors)

    return {source: {start: middle(source, start) for start in found} for source, found in rounds[0].items()}


def preparing(data: Dataset) -> dict[str, float]:
    """Measure milliseconds to prepare and to compute a microbatch, and to draw up an epoch."""
    network = Network.from_tables(TASKS["small"].layers, data.image_shape, len(data.class_names))
    augment = Augment(ratio=4, shift=2)
    train = Train(microbatch=MICROBATCH)
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


def folders(report: Report, jpegs: int, photos: int, repeat: int) -> dict[str, float]:
    """Measure and print folders of JPEGs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "jpegs"
        folder.mkdir()
        pictures.write_jpegs(folder, jpegs)
        small = pictures.measure_jpegs(folder, Path(name) / "cache", repeat)
    print(f"{jpegs:,} JPEGs of 32 x 32: Pillow alone on {usable_cores()} cores {small.pillow:.2f} s, ", end="")
    print(f"without a cache {small.off:.2f} s, first start {small.first:.2f} s, second start {small.second:.2f} s")
    with tempfile.TemporaryDirectory() as name:
        size = pictures.write_photos(Path(name), photos)
        large = pictures.measure_photos(Path(name))
    print(f"{photos:,} photos of 12 megapixels, {size:.1f} MB each, to 128 x 128: {large.seconds:.1f} s, ", end="")
    print(f"{photos / large.seconds:.1f} a second; most memory: {large.own_mb:.0f} MB here beside the result, ", end="")
    print(f"{large.process_mb:.0f} MB in each other process")
    report.check("JPEGs without a cache over Pillow alone", small.off / small.pillow, "at most", MOST_JPEGS)
    report.check("JPEGs, second start", small.second, "at most", MOST_SECOND_JPEGS, "s")
    report.check("photos, memory beside the result", large.own_mb, "at most", MOST_BESIDE, "MB")
    return {f"jpegs_{key}": value for key, value in small._asdict().items()} | {
        f"photos_{key}": value for key, value in large._asdict().items()
    }


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="times that each source is read in each way")
    parser.add_argument("--pictures", type=int, default=6_000, help="number of PNG files")
    parser.add_argument("--jpegs", type=int, default=50_000, help="number of small JPEGs")
    parser.add_argument("--photos", type=int, default=200, help="number of photos of 12 megapixels")
    options = parser.parse_args()

    report = Report()
    of_folders = folders(report, options.jpegs, options.photos, options.repeat)
    try:
        data = load_splits(Data(name="mnist", validation=0.0)).train
    except InputError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as name:
        sources = loading(Path(name), data, options.pictures, options.repeat)
    worker = preparing(data)

    print(f"seconds, medians of {options.repeat}")
    table = Table("source  ", "start ", "wall clock", "processor")
    for source, rows in sources.items():
        for start, (wall, processor) in rows.items():
            table.row(source, start, f"{wall:.2f}", f"{processor:.2f}")
    share = worker["prepare_ms"] / (worker["prepare_ms"] + worker["compute_ms"])
    print(f"\na microbatch of {MICROBATCH}: prepared in {worker['prepare_ms']:.3f} ms, ", end="")
    print(f"computed in {worker['compute_ms']:.2f} ms: {share:.1%} of a worker's time, most of it while it would wait")
    print(f"an epoch of {5 * len(data):,} samples: drawn up in {worker['epoch_ms']:.0f} ms")

    first, second = sources["csv"]["first"][0] / sources["loadtxt"]["alone"][0], sources["csv"]["second"][0]
    report.check("CSV, first start over numpy.loadtxt", first, "at most", MOST_FIRST)
    report.check("CSV, second start", second, "at most", MOST_SECOND, "s")
    summary = {"first_over_loadtxt": first, "second_s": second, "prepare_share": share, **worker, **of_folders}
    return report.end({**summary, "seconds_wall_cpu": sources, "repeat": options.repeat}, options.json)


if __name__ == "__main__":
    sys.exit(main())
