"""A small model of the digits, files of samples that it can predict, and what `cnnpar predict` says of them."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cnnpar
from cnnpar.config.data import Data
from cnnpar.data.load import load_splits
from tests.helpers.commands import call

PIXELS = [f"pixel{number}" for number in range(64)]


def digits(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the first test samples of the digits: images (count, 8, 8, 1) and labels (count,)."""
    test = load_splits(Data()).test
    assert test is not None
    return test.images[:count].astype(np.uint8), test.labels[:count]


def train_on_digits(folder: Path) -> None:
    """Train a dense layer on the digits for two epochs, into a folder."""
    model = {"layers": [{"type": "flatten"}, {"type": "dense"}]}
    cnnpar.train({"model": model, "train": {"epochs": 2}, "engine": {"workers": 0}}, run_dir=folder)


def write_csv(path: Path, images: NDArray[Any], *before: tuple[str, Sequence[object]]) -> Path:
    """Write a CSV with a header: some columns, and the pixels behind them."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(name for name, _ in before), *PIXELS])
        rows = images.reshape(len(images), -1).tolist()
        writer.writerows([*cells, *row] for *cells, row in zip(*(column for _, column in before), rows, strict=True))
    return path


def answers(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    """Return what `cnnpar predict --json` says of the samples; nothing may fail."""
    assert call("cnnpar", "predict", *arguments, "--json") == 0
    out, err = capsys.readouterr()
    assert err in {"", *(f"{argument}: the model was trained on these\n" for argument in arguments)}
    found: list[dict[str, Any]] = json.loads(out)["predictions"]
    return found


def probabilities(found: list[dict[str, Any]]) -> list[list[float]]:
    """Return the probabilities of samples, (N, classes)."""
    return [list(one["probabilities"].values()) for one in found]
