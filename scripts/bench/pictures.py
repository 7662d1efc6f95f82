"""Parts of `scripts.bench.data`: folders of small JPEGs against Pillow alone, and of photos of 12 megapixels."""

import gc
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from statistics import median
from threading import Event
from typing import NamedTuple

import numpy as np
from PIL import Image

from cnnpar.config.data import Data
from cnnpar.data.load import load_splits
from cnnpar.machine import usable_cores
from scripts.fuzz.data import memory

SIDE, CLASSES, DISTINCT = 32, 10, 500  # of the JPEGs
PHOTO, PHOTOS_DISTINCT, TO = (4000, 3000), 6, (128, 128)  # width, height; photos that differ; height, width
MEGABYTE = 1e6


class Jpegs(NamedTuple):
    """Seconds, medians, for a folder of small JPEGs."""

    pillow: float  # processes that only decode, one a core, without their starts
    off: float  # start without a cache
    first: float  # start with an empty cache
    second: float  # start with a full one


class Photos(NamedTuple):
    """What a folder of photos costs."""

    seconds: float
    own_mb: float  # most memory of this process, beside the result and what it had before
    process_mb: float  # most memory of one of the others


def write_jpegs(folder: Path, count: int) -> None:
    """Write JPEGs of 32 x 32 in ten class folders; each is a file of its own."""
    rng = np.random.default_rng(0)
    contents = []
    for number in range(DISTINCT):
        image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
        path = folder / f"{number}.jpg"
        image.save(path, quality=90)
        contents.append(path.read_bytes())
        path.unlink()
    for number in range(count):
        path = folder / f"class{number % CLASSES}" / f"{number:06}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(contents[number % DISTINCT])


def write_photos(folder: Path, count: int) -> float:
    """Write photos in two class folders, of which few differ: the others are links; return a file's megabytes."""
    rng = np.random.default_rng(0)
    width, height = PHOTO
    first: list[Path] = []
    for number in range(count):
        path = folder / f"class{number % 2}" / f"{number:06}.jpg"
        path.parent.mkdir(exist_ok=True)
        if number < PHOTOS_DISTINCT:
            smooth = Image.fromarray(rng.integers(0, 256, (height // 16, width // 16, 3), np.uint8)).resize(PHOTO)
            grain = np.asarray(smooth) + rng.normal(0, 4, (height, width, 1)).astype(np.float32)
            Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(path, quality=90)
            first.append(path)
        else:
            path.hardlink_to(first[number % PHOTOS_DISTINCT])
    return sum(path.stat().st_size for path in first) / len(first) / MEGABYTE


def seconds(action: Callable[[], object]) -> float:
    """Measure an action."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def decode_alone(paths: list[Path]) -> None:
    """Decode with Pillow, and nothing else."""
    images = np.empty((len(paths), SIDE, SIDE, 3), np.uint8)
    for index, path in enumerate(paths):
        with Image.open(path) as picture:
            images[index] = np.asarray(picture)


def decode_on_all_cores(folder: Path) -> float:
    """Let a process for each core decode its share with Pillow alone; return the seconds.

    Those are of shares dealt so that all would have ended together: other work may slow one core down.
    """
    code = (
        "import sys; from pathlib import Path; from scripts.bench.pictures import decode_alone, seconds;"
        "paths = sorted(Path(sys.argv[1]).rglob('*.jpg'))[int(sys.argv[2]) :: int(sys.argv[3])];"
        "print(seconds(lambda: decode_alone(paths)))"
    )
    cores = usable_cores()
    processes = [
        subprocess.Popen([sys.executable, "-c", code, folder, str(core), str(cores)], stdout=subprocess.PIPE, text=True)
        for core in range(cores)
    ]
    return cores / sum(1 / float(process.communicate()[0]) for process in processes)


def measure_jpegs(folder: Path, cache: Path, repeat: int) -> Jpegs:
    """Let Pillow alone and the starts take turns."""
    rounds = []
    for _ in range(repeat):
        shutil.rmtree(cache, ignore_errors=True)
        took = [decode_on_all_cores(folder)]
        for place in ("off", str(cache), str(cache)):
            os.environ["CNNPAR_CACHE"] = place
            took.append(seconds(lambda: load_splits(Data(train=str(folder)))))
        rounds.append(took)
    return Jpegs(*map(median, zip(*rounds, strict=True)))


def measure_photos(folder: Path) -> Photos:
    """Scale the photos down, without a cache."""
    os.environ["CNNPAR_CACHE"] = "off"
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the most memory so far is what there is now
    before, size = memory("VmRSS"), 0

    def load() -> None:
        nonlocal size
        splits = load_splits(Data(train=str(folder), size=TO, fit="crop", channels=3))
        size = sum(part.images.nbytes for part in (splits.train, splits.validation) if part is not None)

    with ThreadPoolExecutor(1) as watcher:
        ended = Event()
        others = watcher.submit(most_memory_of_children, ended)
        took = seconds(load)
        ended.set()
    return Photos(took, (memory("VmHWM") - before - size) / MEGABYTE, others.result() / MEGABYTE)


def most_memory_of_children(ended: Event) -> int:
    """Return the most memory that one of this process's children has had, in bytes, until an event."""
    most = 0
    while not ended.wait(0.02):
        for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            with suppress(OSError, StopIteration):  # it has ended
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                most = max(most, 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]))
    return most
