"""Tiny runs with real files: 40 images of 8 x 8 in 3 classes, and a network of 300 parameters."""

from pathlib import Path
from typing import Any

import numpy as np

from cnnpar.config.resolve import resolve
from cnnpar.config.sections import Config
from cnnpar.report.progress import Progress
from cnnpar.run.prepare import prepare
from cnnpar.run.resume import Resume
from cnnpar.run.stop import StopSignal
from cnnpar.run.summary import Summary
from cnnpar.run.train import train_run
from cnnpar.storage.checkpoint import read
from cnnpar.storage.rundir import Place

ROOT = Path(__file__).resolve().parents[2]

LAYERS: list[dict[str, Any]] = [
    {"type": "conv2d", "channels": 2, "kernel": 3},
    {"type": "relu"},
    {"type": "maxpool2d", "size": 4},
    {"type": "flatten"},
    {"type": "dropout", "rate": 0.3},
    {"type": "dense"},
]


def write_csv(path: Path, samples: int = 40, seed: int = 0) -> Path:
    """Write rows of a label and an 8 x 8 image with one bright row, whose place is the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % 3
    images = rng.integers(0, 60, (samples, 8, 8))
    images[np.arange(samples), 1 + 3 * labels - labels // 2] += 190
    np.savetxt(path, np.column_stack([labels, images.reshape(samples, 64)]), "%d", delimiter=",")
    return path


def settings(csv: Path, /, **changes: dict[str, Any]) -> Config:
    """Return settings of a run of 3 epochs of 5 steps with dropout and random shifts; `changes` by section."""
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
    """Train in this process, with real files."""
    resumed = Resume(resume, read(resume)) if resume else None
    with StopSignal() as stop:
        return train_run(
            prepare(wanted, Place(directory, to_path, "tiny"), resumed), progress or Progress("quiet"), stop
        )


class Lines(Progress):
    """Keep the lines that a run begins with."""

    def __init__(self) -> None:
        super().__init__("quiet")
        self.lines: list[str] = []

    def start(self, lines: Any, *rest: Any) -> None:
        self.lines += lines
