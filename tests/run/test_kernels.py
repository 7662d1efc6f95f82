"""`cnnpar kernels`: each layer by all kernels, of settings and of checkpoints, and errors in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from cnnpar.cli import commands, console
from cnnpar.config.resolve import to_toml
from cnnpar.config.sections import Config
from cnnpar.report.kernels import Comparison, LayerKernels, as_text
from cnnpar.run.kernels import KERNELS, compare
from cnnpar.run.resume import Resume
from cnnpar.storage.checkpoint import read
from tests.helpers.tiny_runs import settings, train, write_csv

BLOCK: list[dict[str, Any]] = [
    {"type": "conv2d", "channels": 4, "kernel": 5},
    {"type": "batchnorm2d"},
    {"type": "relu"},
    {
        "type": "residual",
        "layers": [{"type": "conv2d", "channels": 4}, {"type": "relu"}],
        "shortcut": [{"type": "avgpool2d", "size": 1}],
    },
    {"type": "maxpool2d"},
    {"type": "dropout"},
    {"type": "flatten"},
    {"type": "dense"},
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_csv(Path("train.csv"))
    return tmp_path


def wanted(**changes: dict[str, Any]) -> Config:
    return settings(Path("train.csv"), **{"model": {"layers": BLOCK}, **changes})


def call(*arguments: object) -> int:
    return console.run(commands.app, ["kernels", *map(str, arguments)])


def check(found: Comparison) -> None:
    """Check that kernels agree within what rounding leaves, and that everything was timed."""
    for row in found.layers:
        assert list(row.differences) == list(row.milliseconds) == list(KERNELS)
        assert max(row.differences.values()) < 1e-5
        assert row.differences["numpy"] or row.type in ("relu", "maxpool2d", "avgpool2d")
    assert min(found.whole_milliseconds.values()) > 0


def test_each_layer_is_there_once_with_those_in_blocks(here: Path) -> None:
    found = compare(wanted(augment={"mixup": 0.5}), None, 1)
    names = [
        "conv1",
        "relu1",
        "residual1.conv1",
        "residual1.relu1",
        "residual1.shortcut.avgpool1",
        "maxpool1",
        "dense1",
    ]
    assert [row.layer for row in found.layers] == names
    assert [row.way for row in found.layers] == ["banded", "", "banded", "", "", "", ""]
    assert found.same == ["batchnorm1", "dropout1", "flatten1"]
    assert found.samples == 4
    check(found)


def test_a_checkpoint_is_compared_with_its_own_weights(here: Path) -> None:
    train(wanted(train={"epochs": 1}), here / "run")
    resumed = Resume(here / "run" / "model.json", read(here / "run" / "model.json"))
    check(compare(wanted(), resumed, 2))
    weights = compare(wanted(), resumed, 1).layers[0].differences
    assert weights == compare(wanted(), resumed, 1).layers[0].differences
    assert weights != compare(wanted(), None, 1).layers[0].differences


def test_command_takes_settings_and_checkpoints(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("tiny.toml").write_text(to_toml(wanted()))
    assert call("tiny.toml", "--repeats", 1, "--json") == 0
    row = json.loads(capsys.readouterr().out)["layers"][0]
    assert row["layer"] == "conv1"
    assert row["differences"].keys() == {"fast", "numpy", "scipy"}
    train(wanted(train={"epochs": 1}), here / "run")
    (here / "run" / "model.json").rename(here / "odd")
    assert call("odd", "--repeats", 1) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "The same for all: batchnorm1, dropout1, flatten1."
    (here / "odd").rename(here / "run" / "model.json")
    assert call("run", "train.csv", "--repeats", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "way", "fast", "ms", "numpy", "ms", "scipy", "ms", "fast", "numpy", "scipy"]
    assert lines[-1] == "The same for all: batchnorm1, dropout1, flatten1."


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("run --set train.epochs=2", "model.json: a checkpoint has settings of its own; --config and --set are for"),
        ("run tiny.toml", "tiny.toml: run/model.json has settings of its own; give one of them"),
        ("run digits", "run/model.json: these data are of other images or classes than its run's"),
        ("gone.json", "gone.json: cannot read the checkpoint: No such file or directory"),
        ("tiny.toml --repeats 0", 'Invalid value "0" for --repeats. Must be >= 1.'),
        ("--set model.kernels=numby", "unknown value 'numby' (did you mean numpy?); allowed: fast, numpy, scipy"),
    ],
)
def test_wrong_uses_are_errors_of_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], line: str, expected: str
) -> None:
    Path("tiny.toml").write_text(to_toml(wanted()))
    train(wanted(train={"epochs": 1}), here / "run")
    capsys.readouterr()
    assert call(*line.split()) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") <= 2


def test_table_fits_80_columns_with_long_names_and_times() -> None:
    slow = dict.fromkeys(KERNELS, 123456.0)
    name = ".".join(["block" * 12] * 3)
    row = LayerKernels(name, "conv2d", "depthwise", slow, dict.fromkeys(KERNELS, 1.234e-7))
    text = as_text(Comparison(16, 5, [row], [name] * 20, slow))
    assert max(map(len, text.splitlines())) <= 80
    assert "123,456" in text
    assert "1e-07" in text
