"""Read forged and damaged checkpoints: each must be refused, or be as good as a genuine one.

    python -m scripts.fuzz.checkpoint [--runs 100000] [--seed 0] [--failures DIR] [--json]

After `pip install '.[fuzz]'` (atheris, which is libFuzzer) the mutations are guided by the code of cnnpar that they
reach; without it the same mutations are drawn blindly. Most change the JSON tree and make all digests right again, as
an attacker would (scripts/fuzz/forged.py), the others change bytes. A run is repeated by its seed.

A failure is a file that is refused otherwise than by an InputError of one line, or accepted and not the same when saved
again, or that costs more than a second of CPU time or more memory than 1 MiB and 32 times its size, or at which the
reader's process ends or hangs. It is kept in DIR, and its reason printed. Aim: no failure.
"""

import contextlib
import hashlib
import importlib.util
import io
import mmap
import random
import signal
import struct
import sys
import tempfile
import time
import tracemalloc
from contextlib import nullcontext
from pathlib import Path
from typing import Any

atheris: Any = importlib.import_module("atheris") if importlib.util.find_spec("atheris") else None
with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(["cnnpar"]) if atheris else nullcontext():
    from scripts.fuzz import forged
    from scripts.fuzz.frame import PATIENCE, in_another_process
    from scripts.harness import Report, Table, make_parser

MOST_SECONDS = 1.0  # of CPU time
LONGEST = 1 << 18  # bytes of a mutation
NUMBERS = struct.Struct("<qqqddq")  # mutations, accepted, failures, slowest, largest, bytes of the file under way


def allowed(size: int) -> int:
    """Return the bytes of memory that reading a file of `size` bytes may take."""
    return (1 << 20) + 32 * size


class Record:
    """The counts of the fuzzing process and the file that it reads now, in memory that outlives it."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, NUMBERS.size + LONGEST)
        self.runs = self.accepted = self.failures = 0
        self.slowest = self.largest = 0.0  # CPU seconds; bytes

    def write(self, under_way: bytes = b"") -> None:
        """Keep the counts, and the file that is read now."""
        numbers = (self.runs, self.accepted, self.failures, self.slowest, self.largest, len(under_way))
        NUMBERS.pack_into(self._memory, 0, *numbers)
        self._memory[NUMBERS.size : NUMBERS.size + len(under_way)] = under_way

    def read(self) -> bytes:
        """Take the counts from the other process; the file that it was reading when it ended, or nothing."""
        numbers = NUMBERS.unpack_from(self._memory)
        self.runs, self.accepted, self.failures, self.slowest, self.largest, length = numbers
        return self._memory[NUMBERS.size : NUMBERS.size + length]


class Target:
    """The target of the fuzzer: reads files, and checks what comes of each."""

    def __init__(self, record: Record, folder: Path) -> None:
        self._record = record
        self._folder = folder

    def __call__(self, content: bytes) -> None:
        """Read a file, count it, and keep it if it is a failure."""
        record = self._record
        record.runs += 1
        record.write(content)
        reason, began = "", time.process_time()
        try:
            payload = forged.read(content)
            seconds = time.process_time() - began
            peak = peak_memory(content)
            record.slowest, record.largest = max(record.slowest, seconds), max(record.largest, peak)
            if seconds > MOST_SECONDS:
                reason = f"takes {seconds:.1f} s of CPU time"
            elif peak > allowed(len(content)):
                reason = f"takes {peak / 1e6:.1f} MB of memory for {len(content):,} bytes"
            elif payload is not None:
                forged.check(content, payload)
                record.accepted += 1
        except Exception as error:  # any error but a refusal is a failure
            reason = f"{type(error).__name__}: {error}"
        if reason:
            record.failures += 1
            keep(self._folder, content, reason)
        record.write()


def peak_memory(content: bytes) -> int:
    """Measure the bytes of memory that reading a file takes at most, by reading it once more."""
    tracemalloc.start()
    try:
        forged.read(content)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def keep(folder: Path, content: bytes, reason: str) -> None:
    """Keep a file that is a failure, and print the reason."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(content).hexdigest()[:16]}.json"
    path.write_bytes(content)
    print(f"{path}: {' '.join(reason.split())[:500]}", file=sys.stderr, flush=True)


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Forge a file or, one time in ten, change its bytes."""
    if chance.random() < 0.5:  # most files that have led to new code are refused early
        content = chance.choice(forged.genuine())
    forgery = forged.forge(chance, content) if chance.random() < 0.9 else forged.damaged(chance, content)
    return forgery if len(forgery) <= LONGEST else content


def fuzz(target: Target, runs: int, seed: int, corpus: Path) -> None:
    """Read so many mutations: of files that led to new code or, without atheris, of genuine ones."""
    if not atheris:
        for number in range(runs):
            signal.alarm(PATIENCE)
            chance = random.Random(f"{seed} {number}")
            target(mutated(chance.choice(forged.genuine()), chance))
        return

    def mutator(content: bytes, longest: int, number: int) -> bytes:
        chance = random.Random(number)
        return mutated(content, chance) if chance.random() < 0.95 else bytes(atheris.Mutate(content, longest))

    for number, content in enumerate(forged.genuine()):
        (corpus / str(number)).write_bytes(content)
    options = {
        "runs": runs,
        "seed": seed + 1,
        "timeout": PATIENCE,
        "max_len": LONGEST,
        "rss_limit_mb": 0,
        "verbosity": 0,
    }
    arguments = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], target, custom_mutator=mutator)
    atheris.Fuzz()  # ends the process


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--runs", type=int, default=100_000, help="mutations")
    parser.add_argument("--seed", type=int, default=0, help="decides which")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"), help="folder for files that show one")
    options = parser.parse_args()
    report = Report()
    if not atheris:
        print("atheris is not installed, so mutations are drawn blindly: `pip install '.[fuzz]'`", flush=True)
    record = Record()
    with tempfile.TemporaryDirectory() as corpus:
        target = Target(record, options.failures)
        code = in_another_process(lambda: fuzz(target, options.runs, options.seed, Path(corpus)))
    under_way = record.read()
    if code and not under_way:
        sys.exit(f"after {record.runs:,} mutations, between two files, the fuzzer itself ended with {code}")
    if code:
        record.failures += 1
        keep(options.failures, under_way, f"the reader's process ended with {code}")
    result = {
        "mutations": record.runs,
        "accepted": record.accepted,
        "refused": record.runs - record.accepted - record.failures,
        "slowest_ms": round(1000 * record.slowest, 1),
        "peak_mb": round(record.largest / 1e6, 2),
        "failures": record.failures,
    }
    table = Table("mutations", "accepted as equal", "refused", "slowest load, ms", "peak memory, MB", "failures")
    table.row(*(f"{number:,}" for number in result.values()))
    report.check("failures", record.failures, "at most", 0)
    return report.end({**result, "seed": options.seed, "guided": bool(atheris)}, options.json)


if __name__ == "__main__":
    sys.exit(main())
