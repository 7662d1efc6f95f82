"""Measure how long a command takes to begin: help, a run in this process, and the first step of a run on Ray.

    python -m scripts.bench.start [--json] [--repeat 5] [--workers 2] [--busy N]

Printed: medians of wall-clock time, and beside them the processor time of the command's processes, which a busy machine
disturbs less. The run on Ray is compared with a process that only imports ray and starts it with the same settings; the
two take turns. The first step counts as done when its line is in metrics.jsonl.

Below, where the time of imports goes, by `-X importtime`: each package's own modules, without what they import in turn.
Tracing makes all of them slower.

Aims: `cnnpar --help` at most 0.16 s; a run of one epoch in this process at most 0.8 s; the first step on Ray at most
1.5 s later than Ray alone. Modules come from their bytecode, as users have it: the first round, which is not measured,
writes it, even where the environment has PYTHONDONTWRITEBYTECODE.

With `--busy N`, ten runs on Ray start beside N processes that compute without end. Aim: all of them train.
"""

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

from cnnpar.config.sections import Engine
from cnnpar.parallel.on_ray.environment import ray_environment
from scripts.harness import Report, Table, make_parser

AIMS = {  # seconds at most, and what is measured
    "help_s": (0.16, "cnnpar --help"),
    "in_process_s": (0.8, "cnnpar train --workers 0 --epochs 1"),
    "start_over_ray_s": (1.5, "first step on Ray, over Ray alone"),
}
CNNPAR = [sys.executable, "-m", "cnnpar"]
BUSY_STARTS = 10
LISTED = 12  # packages of each table
POLL = 0.002  # seconds
LONGEST = 120.0  # seconds that anything may take
# As cnnpar starts Ray; this script has set the same environment.
RAY_ALONE = """
import os, ray
ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, object_store_memory=256 << 20,
         logging_level="error", log_to_driver=False)
print(flush=True)
ray.shutdown()
"""


def whole(*command: str) -> tuple[float, float]:
    """Measure seconds from a command's start to its end, and processor seconds of its processes.

    Its output is read until it ends: Python, told to wait for some time, looks for the end every 50 ms only.
    """
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=LONGEST)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ray_alone() -> float:
    """Measure seconds from a command that only starts Ray until Ray is there."""
    with subprocess.Popen([sys.executable, "-c", RAY_ALONE], stdout=subprocess.PIPE) as process:
        began = time.perf_counter()
        assert process.stdout is not None
        process.stdout.readline()
        return time.perf_counter() - began


def first_step(folder: Path, workers: int) -> float:
    """Measure seconds from the command to the first optimizer step of a run on Ray."""
    metrics = folder / "metrics.jsonl"
    with subprocess.Popen([*training(folder, workers), "--set", "report.every_steps=1"]) as process:
        began = time.perf_counter()
        while not metrics.exists() or not metrics.stat().st_size:
            if process.poll() is not None:
                raise SystemExit("the run ended before its first step")
            time.sleep(POLL)
        return time.perf_counter() - began


def busy_starts(folder: Path, busy: int, starts: int) -> tuple[int, float]:
    """Start runs on Ray beside so many processes that compute; return the number that trained, and median seconds."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        done, seconds = 0, []
        for number in range(starts):
            began = time.perf_counter()
            done += subprocess.run(training(folder / str(number), 2), check=False).returncode == 0
            seconds.append(time.perf_counter() - began)
        return done, median(seconds)
    finally:
        for other in others:
            other.kill()
            other.wait()


def training(folder: Path, workers: int) -> list[str]:
    """Make the command of one epoch on the digits."""
    return [*CNNPAR, "train", "--workers", str(workers), "--epochs", "1", "--run-dir", str(folder), "--quiet"]


def imports(command: list[str]) -> dict[str, float]:
    """Measure milliseconds that each package's own modules take to be imported, the slowest first."""
    done = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]], capture_output=True, text=True, check=True, timeout=LONGEST
    )
    own: Counter[str] = Counter()
    standard = {*sys.stdlib_module_names, "sitecustomize"}
    for microseconds, module in re.findall(r"^import time: +(\d+) \| +\d+ \| +(\S+)$", done.stderr, re.MULTILINE):
        package = module.partition(".")[0]
        own["standard library" if package in standard else package] += int(microseconds)
    return {package: total / 1e3 for package, total in own.most_common()}


def print_imports(what: str, packages: dict[str, float]) -> None:
    """Print the slowest packages, and the rest as one."""
    total = sum(packages.values())
    rows = list(packages.items())[:LISTED]
    rows.append(("the rest", total - sum(own for _, own in rows)))
    print(f"\nimports of {what}: {total:.0f} ms")
    table = Table(f"{'package':<20}", "     ms", " share")
    for package, milliseconds in rows:
        table.row(package, f"{milliseconds:.1f}", f"{milliseconds / total:.1%}")


def measure(folder: Path, repeat: int, workers: int) -> dict[str, list[float]]:
    """Start all commands; seconds of each start. The first round of each only fills the caches of the disk.

    Those without Ray come first: after Ray, whose processes are still ending, they take a third longer.
    """
    names = ("help", "help_cpu", "in_process", "in_process_cpu", "ray_alone", "first_step")
    times: dict[str, list[float]] = {name: [] for name in names}

    def keep(number: int, **seconds: float) -> None:
        for name, took in seconds.items() if number else ():
            times[name].append(took)

    for number in range(repeat + 1):
        shown, alone = whole(*CNNPAR, "--help"), whole(*training(folder / f"alone-{number}", 0))
        keep(number, help=shown[0], help_cpu=shown[1], in_process=alone[0], in_process_cpu=alone[1])
    for number in range(repeat + 1):
        keep(number, ray_alone=ray_alone(), first_step=first_step(folder / f"ray-{number}", workers))
    return times


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="times that each command is started")
    parser.add_argument("--workers", type=int, default=2, help="of the run on Ray")
    parser.add_argument("--busy", type=int, default=0, help="only starts beside so many processes that compute")
    options = parser.parse_args()

    report = Report()
    if options.busy:
        with tempfile.TemporaryDirectory() as name:
            done, seconds = busy_starts(Path(name), options.busy, BUSY_STARTS)
        print(f"beside {options.busy} busy processes {done} of {BUSY_STARTS} runs trained, in {seconds:.1f} s (median)")
        report.check(f"runs of {BUSY_STARTS} that trained", done, "at least", BUSY_STARTS)
        return report.end({"busy": options.busy, "trained": done, "seconds": seconds}, options.json)
    os.environ.update(ray_environment(Engine()))  # for this script's children
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as name:
        times = measure(Path(name), options.repeat, options.workers)
        imported = {
            "--help": imports([*CNNPAR, "--help"]),
            "a run in this process": imports(training(Path(name) / "imports", 0)),
            f"a run of {options.workers} workers": imports(training(Path(name) / "imports-ray", options.workers)),
        }
    results: dict[str, Any] = {f"{name}_s": median(seconds) for name, seconds in times.items()}
    over = [first - ray for first, ray in zip(times["first_step"], times["ray_alone"], strict=True)]
    results["start_over_ray_s"] = median(over)

    print(f"seconds, medians of {options.repeat}")
    table = Table(f"{'command':<36}", "wall clock", "processor")
    for name in ("help", "in_process"):
        table.row(AIMS[f"{name}_s"][1], f"{results[f'{name}_s']:.2f}", f"{results[f'{name}_cpu_s']:.2f}")
    table.row("Ray alone", f"{results['ray_alone_s']:.2f}", "")
    table.row(f"first step of {options.workers} workers", f"{results['first_step_s']:.2f}", "")
    table.row("  over Ray alone", f"{results['start_over_ray_s']:.2f}", "")
    for what, packages in imported.items():
        print_imports(what, packages)
    for name, (most, what) in AIMS.items():
        report.check(what, results[name], "at most", most, "s")
    slowest = {what: dict(list(packages.items())[:LISTED]) for what, packages in imported.items()}
    return report.end({**results, "repeat": options.repeat, "imports_ms": slowest}, options.json)


if __name__ == "__main__":
    sys.exit(main())
