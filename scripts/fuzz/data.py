"""Read damaged data files, settings and metrics: each must give what is promised, or an error of one or two lines.

    python -m scripts.fuzz.data [--cases 100000] [--first 0] [--seed 0] [--failures DIR] [--json]

Cases are CSV and IDX files, plain and gzipped, .npz and .mat files, folders of pictures, TOML settings, and
metrics.jsonl of runs that are resumed (scripts/fuzz/damaged.py). `--seed S --first N --cases 1` repeats a case.

A failure is any error but an InputError of at most two printable lines, a warning, data that break a promise (types,
shapes, labels in range, names that JSON can hold; settings that are the same when written and read again; a metrics
file cut at a line's end), more memory than the data themselves and 100 MB, and the end or hanging of the reader's
process. Its files are kept in DIR, and its reason printed. Aims: no failure; the slowest case takes less than 5 s of
CPU time.
"""

import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import tomllib
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from cnnpar.config.data import Data
from cnnpar.config.resolve import read_toml, resolve, to_tables, to_toml
from cnnpar.data.dataset import PIXEL_TYPES, Dataset
from cnnpar.data.load import load_splits
from cnnpar.errors import InputError
from cnnpar.report.metrics import MetricsLog
from cnnpar.text import harmless, is_plain
from scripts.fuzz import damaged
from scripts.fuzz.frame import PATIENCE, in_another_process
from scripts.fuzz.noise import Case
from scripts.harness import Report, Table, make_parser

MOST_SECONDS = 5.0  # of CPU time
MOST_MEMORY = 100e6  # bytes beside the data
KINDS = tuple(damaged.MAKERS)
COLUMNS = ("cases", "accepted", "refused", "failures", "slowest, s", "beside the data, MB")
ONE_ROUND_IN_TEN = "other pictures"  # each case of theirs starts processes; in the other rounds it is one more CSV file
CASES, ACCEPTED, REFUSED, FAILURES, SLOWEST, MEMORY = range(len(COLUMNS))


def kind_of(number: int) -> str:
    """Return the kind of a case by its number: they take turns."""
    turn, place = divmod(number, len(KINDS))
    return "CSV" if KINDS[place] == ONE_ROUND_IN_TEN and turn % 10 else KINDS[place]


class BrokenError(Exception):
    """A promise that is not kept."""


def require(holds: bool, promise: str) -> None:
    """Raise BrokenError unless a promise is kept."""
    if not holds:
        raise BrokenError(promise)


def read_data(case: Case) -> int:
    """Load data, and check them; return the bytes that they take. Raises InputError."""
    splits = load_splits(Data(train=str(case.source), shape=case.shape, validation=case.validation))
    parts = [part for part in (splits.train, splits.validation) if part is not None]
    for part in parts:
        check(part)
        require(part.image_shape == splits.train.image_shape, "all images have one shape")
    labels = np.concatenate([part.labels for part in parts])
    require(bool((np.unique(labels) == np.arange(labels.max() + 1)).all()), "labels are 0 to K-1 without gaps")
    return sum(part.images.nbytes + part.labels.nbytes for part in parts)


def check(data: Dataset) -> None:
    """Raise BrokenError unless arrays and names are what `Dataset` promises."""
    known = data.images.dtype.name in PIXEL_TYPES
    require(known and data.images.ndim == 4 and data.images.size > 0, "images are NHWC of a type of pixels")
    require(bool(np.isfinite(data.images).all()), "pixels are finite")
    require(data.labels.dtype == np.int64 and data.labels.shape == (len(data.images),), "labels are int64 (N,)")
    require(data.labels.min() >= 0 and data.labels.max() < len(data.class_names), "labels name classes")
    require(all(map(is_plain, data.class_names)), "class names are plain text")


def read_settings(case: Case) -> int:
    """Read settings, and compare them with what is read of them when written. Raises InputError."""
    config = resolve(read_toml(case.source), source=str(case.source))
    again = resolve(tomllib.loads(to_toml(config)))
    # As tables: layers may still hold a date here, which is written as text, and is no value of any layer's.
    require(to_tables(again) == to_tables(config), "settings written and read again are the same")
    return 0


def read_metrics(case: Case) -> int:
    """Go on with a metrics file after step 10 of epoch 2, and check what is left. Raises InputError for a warning."""
    before = case.source.read_bytes()
    said: list[str] = []
    log = MetricsLog(case.source, 10, said.append, 2)
    kept = case.source.read_bytes()
    require(before.startswith(kept), "what is kept is the beginning")
    require(not kept or kept.endswith(b"\n"), "what is kept ends with a line's end")
    log.write({"step": 11})
    if said:
        raise InputError(said[0])
    require(case.source.read_bytes() == kept + b'{"step":11}\n', "the next record follows")
    return 0


READERS: dict[str, Callable[[Case], int]] = {"TOML": read_settings, "metrics": read_metrics}


def memory(name: str) -> int:
    """Return a number of bytes of this process as the system counts them: VmRSS (now), VmHWM (the most so far)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


class Reader:
    """Reads cases, and counts what comes of each, in memory that outlives the process."""

    def __init__(self, seed: int, failures: Path) -> None:
        self._seed, self._failures = seed, failures
        self._memory = mmap.mmap(-1, 8 * (1 + len(KINDS) * len(COLUMNS)))
        numbers = np.frombuffer(self._memory, np.float64)
        self._number, self.table = numbers[:1], numbers[1:].reshape(len(KINDS), len(COLUMNS))  # one row a kind

    @property
    def number(self) -> int:
        """The case that is read now."""
        return int(self._number[0])

    def read_all(self, first: int, last: int, folder: Path) -> None:
        """Read the cases from `first` to before `last`."""
        os.environ["CNNPAR_CACHE"] = "off"
        warnings.simplefilter("error")
        for number in range(first, last):
            self._number[0] = number
            signal.alarm(PATIENCE)
            self.read(number, folder)
        signal.alarm(0)
        self._number[0] = last

    def read(self, number: int, folder: Path) -> None:
        """Make and read a case, and keep its files if it is a failure."""
        kind = kind_of(number)
        case = damaged.make(kind, random.Random(f"{self._seed} {number}"), folder)
        row = self.table[KINDS.index(kind)]
        row[CASES] += 1
        Path("/proc/self/clear_refs").write_text("5")  # the most so far is what there is now
        before, began = memory("VmRSS"), time.process_time()
        size, reason, outcome = 0, "", ACCEPTED
        try:
            size = READERS.get(kind, read_data)(case)
        except InputError as error:
            outcome, message = REFUSED, str(error)
            if message.count("\n") > 1 or harmless(message) != message or len(message) > 1000:
                reason = f"an error that is no line or two: {message!r}"
        except BaseException as error:  # any other error is a failure
            reason = f"{type(error).__name__}: {error}"
        seconds, most = time.process_time() - began, memory("VmHWM") - before - size
        row[SLOWEST], row[MEMORY] = max(row[SLOWEST], seconds), max(row[MEMORY], most / 1e6)
        if not reason and seconds > MOST_SECONDS:
            reason = f"takes {seconds:.1f} s of CPU time"
        if not reason and most > MOST_MEMORY:
            reason = f"takes {most / 1e6:.0f} MB of memory beside {size / 1e6:.0f} MB of data"
        row[FAILURES if reason else outcome] += 1
        if reason:
            self.keep(number, folder, reason)

    def keep(self, number: int, folder: Path, reason: str) -> None:
        """Keep the files of a case, and print the reason."""
        place = self._failures / str(number)
        shutil.copytree(folder, place, dirs_exist_ok=True)
        print(f"{place} ({kind_of(number)}): {' '.join(reason.split())[:500]}", file=sys.stderr, flush=True)


def read_in_other_processes(reader: Reader, first: int, last: int) -> None:
    """Read cases, and go on in a new process where one ends."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "case"
        while first < last:
            code = in_another_process(partial(reader.read_all, first, last, folder))
            if code:
                reader.table[KINDS.index(kind_of(reader.number)), FAILURES] += 1
                reader.keep(reader.number, folder, f"the reader's process ended with {code}")
            first = reader.number + 1


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--seed", type=int, default=0, help="decides, with a case's number, what it is")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"), help="folder for files that show one")
    options = parser.parse_args()
    report = Report()
    reader = Reader(options.seed, options.failures)
    read_in_other_processes(reader, options.first, options.first + options.cases)
    table = Table("files       ", *COLUMNS)
    everything = [*reader.table[:, :SLOWEST].sum(axis=0).tolist(), *reader.table[:, SLOWEST:].max(axis=0).tolist()]
    rows = dict(zip((*KINDS, "**all**"), [*reader.table.tolist(), everything], strict=True))
    for kind, numbers in rows.items():
        table.row(
            kind,
            *(f"{number:,.0f}" for number in numbers[:SLOWEST]),
            f"{numbers[SLOWEST]:.2f}",
            f"{numbers[MEMORY]:.0f}",
        )
    report.check("failures", everything[FAILURES], "at most", 0)
    report.check("slowest case", everything[SLOWEST], "below", MOST_SECONDS, "s")
    report.check("memory beside the data", everything[MEMORY], "at most", MOST_MEMORY / 1e6, "MB")
    named = {kind: dict(zip(COLUMNS, numbers, strict=True)) for kind, numbers in rows.items()}
    return report.end({"files": named, "seed": options.seed}, options.json)


if __name__ == "__main__":
    sys.exit(main())
