"""`cnnpar inspect`: what it prints of runs and of settings."""

import json
from pathlib import Path
from typing import Any

import pytest

from cnnpar.config.resolve import resolve
from cnnpar.config.sections import Config
from cnnpar.report.inspection import describe, outline, outlined
from cnnpar.storage.checkpoint import read
from cnnpar.storage.packing import unpack
from tests.helpers.checkpoints import NETWORK, made_state, packed
from tests.helpers.commands import call
from tests.helpers.tiny_runs import settings, train, write_csv


def test_inspect_shows_a_run_and_its_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train(settings(write_csv(Path("train.csv"))), Path("run"))
    assert call("cnnpar", "inspect", "run") == 0
    text = capsys.readouterr().out
    network, state = unpack(read("run/model.json"), "")
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    for words in ("epoch 3 of 3, step 15, 108 samples", state.digest, f"{network.layout.size}", "8 x 8 x 2"):
        assert words in text
    rows = {line.split()[0]: line.split()[1:] for line in text.partition("\n\n")[2].splitlines()}
    assert rows["conv1"] == ["conv2d", "8", "x", "8", "x", "2", "20", "0.00"]
    assert rows["dense1"] == ["dense", "3", "27", "0.00"]
    assert rows["all"] == [str(network.layout.size), "0.00"]


def test_inspect_shows_skipped_steps_if_there_are_any() -> None:
    state = made_state()
    assert "skipped" not in describe(packed(state), NETWORK, state)
    state.skipped = 1200
    assert "1,200 steps, whose loss or gradient was not finite" in describe(packed(state), NETWORK, state)


def test_an_unfinished_first_epoch_can_be_inspected() -> None:
    state = made_state()
    assert "(epoch 1)" in describe(packed(state), NETWORK, state)
    assert "[bold]ä" in describe(packed(state), NETWORK, state)  # a class name, not markup
    state.history.clear()
    state.epoch = 0
    assert "none is finished" in describe(packed(state), NETWORK, state)


def test_inspect_of_settings_shows_their_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[model]\npreset = "resnet20"\n[data]\ntrain = "is not there"\n')
    images = ["--shape", "32,32,3", "--classes", "10"]
    assert call("cnnpar", "inspect", file, *images) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    lines = [line.split() for line in text.splitlines()]
    assert lines[1] == ["input", "32", "x", "32", "x", "3"]
    assert lines[-1] == ["all", "272,474", "81.63"]
    assert lines.count(["shortcut"]) == 2
    assert "\n  conv2         conv2d           32 x 32 x 16       2,304   4.72\n" in text

    assert call("cnnpar", "inspect", file, *images, "--json", "--set", "model.preset=resnet8") == 0
    expected = {"image_shape": [32, 32, 3], "classes": 10, "parameters": 78042, "mflop": 25.003264}
    facts = json.loads(capsys.readouterr().out)
    layers = facts.pop("layers")
    assert facts == expected
    assert sum(layer["parameters"] for layer in layers if "." not in layer["path"]) == 78042
    assert {"path": "residual2.shortcut.conv1", "type": "conv2d", "output": [16, 16, 32]}.items() <= layers[
        [layer["path"] for layer in layers].index("residual2.shortcut.conv1")
    ].items()
    assert call("cnnpar", "inspect", file) == 2
    assert "is not there: no such file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [file]


def test_settings_are_inspected_for_the_images_of_their_data() -> None:
    assert " 13,706 " in outline(outlined(Config(), None, None))


def test_long_names_leave_the_outline_within_80_columns() -> None:
    layers: list[dict[str, Any]] = [{"type": "globalavgpool2d"}, {"type": "dense", "units": 3072}]
    for depth in range(3):
        layers = [{"type": "residual", "name": "n" * (60 + depth), "layers": layers, "shortcut": layers}]
    text = outline(outlined(resolve({"model": {"layers": [*layers, {"type": "dense"}]}}), "64,64,99", 10**5))
    assert max(map(len, text.splitlines())) <= 80
    assert text.count(" dense ") == 9
    assert text.splitlines()[-1].split()[0] == "all"
