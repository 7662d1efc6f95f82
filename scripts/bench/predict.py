"""Measure how many pictures a second `cnnpar predict` answers, from the start of the command to its end.

    python -m scripts.bench.predict [--json] [--pictures 20000] [--repeat 3]

A network of the digits is trained for an epoch; the embedded digits are written as PNG files of 8 x 8 pixels in one
folder, as often as needed, each a file of its own. The command reads them and writes a CSV. Medians are printed, and
beside them the processor time of all its processes, which a busy machine disturbs less; then the most memory of the
command itself, for these pictures and for a quarter of them: it keeps no pixels, but the names of the files. Last, the
same samples as a CSV and as an .npy file.

Aims, for two cores: at least 5,000 pictures a second; at most 500 bytes of memory for each further picture.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnpar.config.data import Data
from cnnpar.data.load import load_splits
from scripts.harness import Report, Table, make_parser

LEAST_RATE = 5000.0  # pictures a second
MOST_BYTES = 500.0  # of memory for each further picture
COMMAND = [sys.executable, "-m", "cnnpar"]


class Cost(NamedTuple):
    """What one command took."""

    seconds: float
    processor: float  # seconds of all its processes
    memory: float  # bytes, the most that the command itself had


def write_samples(folder: Path, count: int) -> None:
    """Write samples as pictures, a quarter of them in a folder of their own beside the rest, and as tables."""
    splits = load_splits(Data())
    images: NDArray[np.uint8] = np.resize(splits.train.images, (count, 8, 8)).astype(np.uint8)
    for number, image in enumerate(images):
        path = folder / "pictures" / ("quarter" if number < count // 4 else "rest") / f"{number:07}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    np.save(folder / "samples.npy", images)
    np.savetxt(folder / "samples.csv", images.reshape(count, -1), "%d", ",")


def predict(folder: Path, samples: str) -> Cost:
    """Predict samples with the model in a folder."""
    out = folder / "out.csv"
    out.unlink(missing_ok=True)
    began = time.perf_counter()
    command = [*COMMAND, "predict", str(folder / "run"), str(folder / samples), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{samples}: the command failed")
    return Cost(time.perf_counter() - began, used.ru_utime + used.ru_stime, 1024.0 * used.ru_maxrss)


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--pictures", type=int, default=20_000, help="pictures in the folder")
    parser.add_argument("--repeat", type=int, default=3, help="times that each command is started")
    options = parser.parse_args()

    report = Report()
    count = options.pictures
    kinds = {
        "pictures": ("PNG files of 8 x 8", count),
        "pictures/quarter": ("a quarter of them", count // 4),
        "samples.csv": ("CSV", count),
        "samples.npy": (".npy", count),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        training = ["train", "--workers", "0", "--epochs", "1", "--run-dir", str(folder / "run"), "--quiet"]
        subprocess.run([*COMMAND, *training], check=True)
        write_samples(folder, count)
        costs: dict[str, list[Cost]] = {kind: [] for kind in kinds}
        for _ in range(options.repeat):
            for kind, so_far in costs.items():
                so_far.append(predict(folder, kind))

    print(f"medians of {options.repeat}, with the command's start")
    table = Table(f"{'samples':<20}", "  number", "seconds", "processor", "a second", "memory, MB")
    rates, memory = {}, {}
    for kind, (what, number) in kinds.items():
        seconds, processor, most = (median(values) for values in zip(*costs[kind], strict=True))
        rates[kind], memory[kind] = number / seconds, most
        cells = (f"{seconds:.2f}", f"{processor:.2f}", f"{rates[kind]:,.0f}", f"{most / 1e6:.0f}")
        table.row(what, f"{number:,}", *cells)
    each = max(0.0, memory["pictures"] - memory["pictures/quarter"]) / (count - count // 4)
    report.check("pictures a second", rates["pictures"], "at least", LEAST_RATE)
    report.check("memory for each further picture", each, "at most", MOST_BYTES, "bytes")
    return report.end({"pictures": count, "rates": rates, "memory_bytes": memory}, options.json)


if __name__ == "__main__":
    sys.exit(main())
