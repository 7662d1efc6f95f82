"""A run is prepared as one frozen value, and a resume pays for its checkpoint once."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cnnpar.config.resolve import resolve
from cnnpar.errors import InputError
from cnnpar.nn.network import Network
from cnnpar.parallel.work import Kind
from cnnpar.run import prepare as prepare_module
from cnnpar.run.prepare import load_data, prepare
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


def test_pictures_too_large_for_the_network_are_not_read() -> None:
    config = resolve({"data": {"train": "absent", "size": [3000, 3000], "channels": 3}})
    with pytest.raises(InputError, match=r"^the output of layer 1 \(conv1\) is \(3000, 3000, 16\): more than"):
        load_data(config)


def test_parameters_that_do_not_fit_into_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_module, "available_memory", lambda: 2**30)
    config = resolve({"data": {"train": "absent", "size": [1500, 1500], "channels": 3}})
    what = r"288,009,312 parameters, their gradient and momentum take 3.5 GB, and 1.1 are free; smaller images"
    with pytest.raises(InputError, match=what):
        load_data(config)


@pytest.mark.parametrize(
    "model",
    [
        {"layers": [{"type": "flatten"}, {"type": "dense", "units": 7}]},
        {"layers": [{"type": "flatten"}, {"type": "dense", "units": 7}, {"type": "softmax"}]},
        {"layers": [{"type": "flatten"}, {"type": "dense"}]},
    ],
)
def test_unknown_classes_are_no_reason_to_refuse(model: dict[str, object]) -> None:
    config = resolve({"data": {"train": "absent", "size": [8, 8], "channels": 1}, "model": model})
    with pytest.raises(InputError, match="are for folders of pictures"):
        load_data(config)
