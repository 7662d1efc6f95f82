"""A run is prepared as one frozen value, and a resume pays for its checkpoint once."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cnnpar.nn.network import Network
from cnnpar.parallel.work import Kind
from cnnpar.run.prepare import prepare
from cnnpar.storage import checkpoint
from cnnpar.storage.rundir import Place
from tests.helpers.tiny_runs import settings, train, write_csv


def test_a_prepared_run_is_frozen_and_has_written_nothing(tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "train.csv")
    run = prepare(settings(csv), Place(tmp_path / "run"), None)
    assert set(run.data) == set(run.work.samples) >= {Kind.TRAIN}
    assert run.origin is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.network = run.network  # type: ignore[misc]
    assert list(tmp_path.iterdir()) == [csv]


def test_a_resume_decodes_and_builds_its_network_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csv = write_csv(tmp_path / "train.csv")
    train(settings(csv), tmp_path / "run")
    calls: list[str] = []

    def counted(name: str, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            calls.append(name)
            return function(*arguments)

        return call

    monkeypatch.setattr(checkpoint, "decode", counted("decode", checkpoint.decode))
    monkeypatch.setattr(Network, "__init__", counted("build", Network.__init__))
    done = train(settings(csv, train={"epochs": 9}), None, tmp_path / "run" / "model.json")
    assert done.epochs == 9
    assert sorted(calls) == ["build", "decode"]
