"""Runs small enough for tests: 40 images of 8 x 8 in 3 classes, a network of 300 parameters, real commands."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cnnpar.checkpoint import load
from cnnpar.config import Config
from cnnpar.console import StopSignal
from cnnpar.report.progress import Progress
from cnnpar.resume import Resume
from cnnpar.run import train_run
from cnnpar.rundir import Place
from cnnpar.settings import resolve
from cnnpar.summary import Summary
from tests.conftest import HANGING

ROOT = Path(__file__).resolve().parents[1]
ENTRY = {"cnnpar": "main", "cnnpar-train": "main_train", "cnnpar-test": "main_test"}

LAYERS: list[dict[str, Any]] = [
    {"type": "conv2d", "channels": 2, "kernel": 3},
    {"type": "relu"},
    {"type": "maxpool2d", "size": 4},
    {"type": "flatten"},
    {"type": "dropout", "rate": 0.3},
    {"type": "dense"},
]


def write_csv(path: Path, samples: int = 40, seed: int = 0) -> Path:
    """Images of a bright row each, whose place is the class; label first."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % 3
    images = rng.integers(0, 60, (samples, 8, 8))
    images[np.arange(samples), 1 + 3 * labels - labels // 2] += 190
    np.savetxt(path, np.column_stack([labels, images.reshape(samples, 64)]), "%d", delimiter=",")
    return path


def settings(csv: Path, /, **changes: dict[str, Any]) -> Config:
    """A run of 3 epochs of 5 steps with dropout and random shifts; `changes` by section."""
    tables: dict[str, dict[str, Any]] = {
        "data": {"train": str(csv)},
        "augment": {"shift": 1},
        "model": {"layers": LAYERS},
        "train": {"epochs": 3, "batch_size": 8, "microbatch": 4, "ema_decay": 0.5},
        "engine": {"workers": 0},
        "report": {"every_steps": 1},
    }
    for section, table in changes.items():
        tables[section] = {**tables.get(section, {}), **table}
    return resolve(tables)


def train(
    wanted: Config,
    directory: Path | None,
    resume: Path | None = None,
    progress: Progress | None = None,
    to_path: Path | None = None,
) -> Summary:
    """A run in this process, with real files."""
    resumed = Resume(resume, load(resume)) if resume else None
    with StopSignal() as stop:
        return train_run(wanted, Place(directory, to_path, "tiny"), resumed, progress or Progress("quiet"), stop)


class Lines(Progress):
    """Keeps the lines that a run begins with."""

    def __init__(self) -> None:
        super().__init__("quiet")
        self.lines: list[str] = []

    def start(self, lines: Any, *rest: Any) -> None:
        self.lines += lines


def start(program: str, *arguments: object, cwd: Path, **popen: Any) -> "subprocess.Popen[str]":
    """One of our commands as a process of its own."""
    code = f"import sys; from cnnpar import cli; sys.argv[0] = {program!r}; cli.{ENTRY[program]}()"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "error,ignore::ResourceWarning",
        "COLUMNS": "80",
    }
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}
    line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(line, cwd=cwd, env=environment, text=True, **streams)


def command(program: str, *arguments: object, cwd: Path, **popen: Any) -> "subprocess.CompletedProcess[str]":
    """Such a process, at its end."""
    with start(program, *arguments, cwd=cwd, **popen) as process:
        out, err = process.communicate(timeout=HANGING)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)
