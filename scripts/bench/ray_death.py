"""What the death of Ray costs a run: the part `ray` of scripts/bench/faults.py."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from scripts.bench.start import ray_alone
from scripts.chaos.processes import descendants
from scripts.harness import Report, Table

PROCESSES = {  # of Ray on the run's machine, by a part of their command lines
    "agent of environments": "ray::RuntimeEnvAgent",
    "agent of the dashboard": "ray::DashboardAgent",
    "raylet": "raylet/raylet",
    "head (GCS)": "gcs/gcs_server",
    "monitor": "autoscaler/_private/monitor.py",
    "log monitor": "_private/log_monitor.py",
    "cnnpar's own control process": "cnnpar.parallel.on_ray.control",
}
EPOCHS = 100_000  # more than the faults last; the run is stopped then
MOST_EXTRA = 3.0  # the aim: seconds beyond Ray's own start
QUIET = 1.0  # seconds of undisturbed steps before each fault
PATIENCE = 150.0  # seconds for a step
LOOK = 0.005  # seconds


class Training:
    """A real training of the digits with two workers on a Ray of its own, followed by its metrics."""

    def __init__(self, folder: Path, transport: str) -> None:
        """Start it."""
        self._metrics = folder / "run" / "metrics.jsonl"
        command = [
            sys.executable,
            "-m",
            "cnnpar",
            "train",
            "--epochs",
            str(EPOCHS),
            "--transport",
            transport,
            "--quiet",
        ]
        command += ["--workers", "2", "--run-dir", str(folder / "run"), "--set", "report.every_steps=1"]
        self._process = subprocess.Popen(command)

    def size(self) -> int:
        """Return the size of its metrics, which grow with each step, in bytes."""
        return self._metrics.stat().st_size if self._metrics.exists() else 0

    def next_step(self, since: float) -> float:
        """Return the seconds from `since` until another step is finished. Raises RuntimeError when there is none."""
        before = self.size()
        while self.size() == before:
            if self._process.poll() is not None or time.monotonic() - since > PATIENCE:
                raise RuntimeError("the run has ended, or hangs")
            time.sleep(LOOK)
        return time.monotonic() - since

    def longest_gap(self, seconds: float) -> float:
        """Return the longest time without a finished step that begins within so many seconds."""
        began = last = time.monotonic()
        longest = 0.0
        while last - began < seconds:
            longest = max(longest, self.next_step(last))
            last = time.monotonic()
        return longest

    def kill(self, part: str) -> bool:
        """Kill the process of its Ray whose command line has this part; tell whether there was one."""
        victim = next((one for one in descendants(self._process.pid) if part in one.title), None)
        if victim is not None:
            victim.send(signal.SIGKILL)
        return victim is not None

    def end(self) -> int:
        """Stop the run, and return the number of steps that were done more than once, or never."""
        self._process.terminate()
        self._process.wait(PATIENCE)
        records = [json.loads(line) for line in self._metrics.read_text().splitlines()]
        steps = [record["step"] for record in records if "train_loss" not in record]
        return sum(later != step + 1 for step, later in pairwise(steps))


def measure_ray(repeats: int, report: Report, transports: Sequence[str] = ("direct", "ray")) -> list[dict[str, Any]]:
    """Measure a row for each of Ray's processes and each transport."""
    own = median(ray_alone() for _ in range(3))
    print(f"Ray's own start: {own:.1f} s")
    table = Table("killed                      ", "transport", "longest time without a step", "   most", "steps lost")
    rows = []
    for transport in transports:
        with TemporaryDirectory() as name:
            training = Training(Path(name), transport)
            training.next_step(time.monotonic())
            gaps: dict[str, list[float]] = {process: [] for process in PROCESSES}
            for _ in range(repeats):
                for process, part in PROCESSES.items():
                    training.longest_gap(QUIET)
                    if training.kill(part):
                        gaps[process].append(training.longest_gap(QUIET))
            lost = training.end()
        for process, seconds in gaps.items():
            row = {"killed": process, "transport": transport, "gap_s": median(seconds), "most_s": max(seconds)}
            rows.append(row | {"lost": lost})
            table.row(process, transport, f"{row['gap_s']:.2f} s", f"{row['most_s']:.2f} s", lost)
            name = f"{process} killed, {transport}: without a step"
            report.check(name, max(seconds), "at most", own + MOST_EXTRA, "s")
        report.check(f"steps lost, {transport}", lost, "at most", 0)
    return rows
