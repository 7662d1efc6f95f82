"""What `cnnpar inspect` shows to people."""

from pathlib import Path

import pytest

from cnnpar.checkpoint import load, unpack
from cnnpar.report.inspection import describe
from tests.test_checkpoint import NETWORK, made_state, packed
from tests.test_cli import call
from tests.tiny import settings, train, write_csv


def test_inspect_shows_people_the_run_and_its_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cnnpar.recorder.draw_accuracy", lambda *_: None)
    train(settings(write_csv(Path("train.csv"))), Path("run"))
    assert call("cnnpar", "inspect", "run") == 0
    text = capsys.readouterr().out
    network, state = unpack(load("run/model.json"), "")
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    for words in ("epoch 3 of 3, step 15, 108 samples", state.digest, f"{network.layout.size}", "8 x 8 x 2"):
        assert words in text
    rows = {line.split()[0]: line.split()[1:] for line in text.partition("\n\n")[2].splitlines()}
    assert rows["conv1"] == ["conv2d", "8", "x", "8", "x", "2", "20", "0.00"]
    assert rows["dense1"] == ["dense", "3", "27", "0.00"]
    assert rows["all"] == [str(network.layout.size), "0.00"]


def test_inspecting_tells_of_skipped_steps_where_there_are_any() -> None:
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
