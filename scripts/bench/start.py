"""How long a command takes to begin: help, a run in this process, and the first optimizer step of a run on Ray.

    python scripts/bench_start.py [--json] [--repeat 5] [--workers 2]

Wall-clock medians, with the processor time of the command's own process beside them, which a busy machine disturbs
less. The run on Ray is compared with a process that only imports ray and starts it with the same settings; the two
take turns. The first step counts as done when its line stands in metrics.jsonl. Below, where the time of imports goes:
`-X importtime`, each package's own share, without what it imports in turn; tracing makes all of them slower.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from cnnpar.config import Engine
from cnnpar.parallel.ray_settings import prepare_ray

TARGETS = {"start_over_ray_s": 1.5, "in_process_s": 1.0, "help_s": 0.3}
CNNPAR = [sys.executable, "-m", "cnnpar"]
LISTED = 12  # packages of each table
POLL = 0.002  # seconds
LONGEST = 120.0  # seconds that anything may take
# As cnnpar.parallel.attach does; what it sets in the environment, this script has set.
RAY_ALONE = """
import os, ray
ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, object_store_memory=256 << 20,
         logging_level="error", log_to_driver=False)
print(flush=True)
ray.shutdown()
"""


def whole(*command: str) -> tuple[float, float]:
    """Seconds from a command's start to its end, and processor seconds of its processes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=LONGEST)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ray_alone() -> float:
    """Seconds from a command that only starts Ray to Ray being there."""
    with subprocess.Popen([sys.executable, "-c", RAY_ALONE], stdout=subprocess.PIPE) as process:
        began = time.perf_counter()
        assert process.stdout is not None
        process.stdout.readline()
        return time.perf_counter() - began


def first_step(folder: Path, workers: int) -> float:
    """Seconds from the command to the first optimizer step of a run on Ray."""
    metrics = folder / "metrics.jsonl"
    with subprocess.Popen([*training(folder, workers), "--set", "report.every_steps=1"]) as process:
        began = time.perf_counter()
        while not metrics.exists() or not metrics.stat().st_size:
            if process.poll() is not None:
                raise SystemExit("the run ended before its first step")
            time.sleep(POLL)
        return time.perf_counter() - began


def training(folder: Path, workers: int) -> list[str]:
    """The command of one epoch on the digits."""
    return [*CNNPAR, "train", "--workers", str(workers), "--epochs", "1", "--run-dir", str(folder), "--quiet"]


def imports(command: list[str]) -> dict[str, float]:
    """Milliseconds that each package's own modules take to be imported, the slowest first."""
    done = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]], capture_output=True, text=True, check=True, timeout=LONGEST
    )
    own: Counter[str] = Counter()
    standard = {*sys.stdlib_module_names, "sitecustomize"}
    for microseconds, module in re.findall(r"^import time: +(\d+) \| +\d+ \| +(\S+)$", done.stderr, re.MULTILINE):
        package = module.partition(".")[0]
        own["standard library" if package in standard else package] += int(microseconds)
    return {package: total / 1e3 for package, total in own.most_common()}


def print_table(what: str, table: dict[str, float]) -> None:
    """The slowest packages, and the rest as one."""
    total = sum(table.values())
    rows = list(table.items())[:LISTED]
    print(f"\nimports of {what}: {total:.0f} ms")
    rows.append(("the rest", total - sum(own for _, own in rows)))
    for package, milliseconds in rows:
        print(f"  {package:<20} {milliseconds:7.1f} ms {milliseconds / total:6.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print all numbers as one object, on the last line")
    parser.add_argument("--repeat", type=int, default=5, help="times that each command is started")
    parser.add_argument("--workers", type=int, default=2, help="of the run on Ray")
    options = parser.parse_args()
    prepare_ray(Engine())  # for this script's children
    load = os.getloadavg()[0]

    times: dict[str, list[float]] = {
        name: [] for name in ("help", "help_cpu", "in_process", "in_process_cpu", "ray_alone", "first_step")
    }
    with tempfile.TemporaryDirectory() as name:
        for number in range(options.repeat + 1):
            folder = Path(name) / str(number)
            shown, alone = whole(*CNNPAR, "--help"), whole(*training(folder / "alone", 0))
            ray, first = ray_alone(), first_step(folder / "ray", options.workers)
            for seconds, all_seconds in zip((*shown, *alone, ray, first), times.values(), strict=True):
                if number:  # the first round fills the caches of the disk
                    all_seconds.append(seconds)
        tables = {
            "--help": imports([*CNNPAR, "--help"]),
            "a run in this process": imports(training(Path(name) / "imports", 0)),
            f"a run of {options.workers} workers": imports(training(Path(name) / "imports-ray", options.workers)),
        }
    result: dict[str, Any] = {f"{name}_s": median(seconds) for name, seconds in times.items()}
    over = [first - ray for first, ray in zip(times["first_step"], times["ray_alone"], strict=True)]
    result["start_over_ray_s"] = median(over)

    print(f"{len(os.sched_getaffinity(0))} cores, load {load:.1f}; medians of {options.repeat}, seconds\n")
    rows = {
        "cnnpar --help": ("help_s", "help_cpu_s"),
        "cnnpar train --workers 0 --epochs 1": ("in_process_s", "in_process_cpu_s"),
        "ray alone": ("ray_alone_s", None),
        f"first step of {options.workers} workers": ("first_step_s", None),
        "  over ray alone": ("start_over_ray_s", None),
    }
    print(f"{'':<36} {'wall':>6} {'cpu':>6}")
    for what, (wall, cpu) in rows.items():
        line = f"{what:<36} {result[wall]:6.2f} {f'{result[cpu]:.2f}' if cpu else '':>6}"
        if wall in TARGETS:
            line += f"  target {TARGETS[wall]:g}: {'met' if result[wall] <= TARGETS[wall] else 'MISSED'}"
        print(line.rstrip())
    for what, table in tables.items():
        print_table(what, table)
    if options.json:
        imported = {what: dict(list(table.items())[:LISTED]) for what, table in tables.items()}
        print(json.dumps({**result, "repeat": options.repeat, "load_before": load, "imports_ms": imported}))


if __name__ == "__main__":
    main()
