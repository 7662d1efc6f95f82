"""`model.init_from`: the arrays taken from a checkpoint, the lines that say so, and resumes of such runs."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnpar
from cnnpar.config.resolve import resolve, to_tables
from cnnpar.config.sections import Config, Model
from cnnpar.errors import InputError
from cnnpar.nn.network import Network
from cnnpar.run.transfer import transfer
from cnnpar.storage.checkpoint import read
from cnnpar.storage.packing import unpack
from cnnpar.training.state import first_state
from tests.helpers.checkpoints import file_of
from tests.helpers.commands import call
from tests.helpers.observers import Stopping
from tests.helpers.run_files import assert_same_run
from tests.helpers.tiny_runs import LAYERS, Lines, settings, train, write_csv

NORMALISED: list[dict[str, Any]] = [LAYERS[0], {"type": "batchnorm2d"}, *LAYERS[1:]]
WIDER: list[dict[str, Any]] = [*NORMALISED[:-1], {"type": "dense", "units": 5}, {"type": "relu"}, {"type": "dense"}]


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "train.csv")


@pytest.fixture
def source(tmp_path: Path, csv: Path) -> Path:
    """Return the checkpoint of a finished run with an EMA."""
    return Path(train(settings(csv, model={"layers": NORMALISED}), tmp_path / "source").checkpoint)


def begun(source: Path, csv: Path, layers: list[dict[str, Any]] = NORMALISED, **changes: Any) -> Config:
    return settings(csv, model={"layers": layers, "init_from": str(source)}, **changes)


def begun_with(source: Path) -> Model:
    return resolve({"model": {"init_from": str(source)}}).model


def test_arrays_of_same_name_and_shape_take_the_ema_weights(source: Path) -> None:
    wanted = resolve({"model": {"layers": WIDER}, "train": {"ema_decay": 0.5}})
    network = Network.from_tables(WIDER, (8, 8, 1), 3)
    state, fresh = first_state(wanted, network), first_state(wanted, network)
    found = transfer(begun_with(source), network, state)
    other, trained = unpack(read(source), "")
    assert trained.ema is not None
    theirs, here, before = (
        layout.views(vector)
        for layout, vector in (
            (other.layout, trained.ema),
            (network.layout, state.parameters),
            (network.layout, fresh.parameters),
        )
    )
    same = ["conv1.weight", "conv1.bias", "batchnorm1.scale", "batchnorm1.shift", "batchnorm1.mean"]
    assert found.taken == [*same, "batchnorm1.variance"]
    for name, values in here.items():
        assert values.tobytes() == (theirs if name in found.taken else before)[name].tobytes(), name
    assert theirs["batchnorm1.mean"].any()
    assert (found.only_here, found.only_there) == (["dense2.weight", "dense2.bias"], [])
    assert found.reshaped == ["dense1.weight", "dense1.bias"]
    assert found.lines() == [
        f"begins with 6 of 10 arrays from {source}",
        "  only in the network: 2 (dense2)",
        "  of another shape: 2 (dense1)",
    ]
    assert state.ema is not None
    assert state.ema.tobytes() == state.parameters.tobytes()
    assert state.initial_sha256 == trained.digest
    assert not any(vector.any() for vector in state.optimizer.values())
    assert (state.epoch, state.step, state.history) == (0, 0, [])


def told(source: Path, layers: list[dict[str, Any]], *freeze: str) -> list[str]:
    network = Network.from_tables(layers, (16, 16, 1), 3, freeze=freeze)
    return transfer(begun_with(source), network, first_state(resolve({}), network)).lines()


def test_a_long_list_of_names_is_cut(source: Path) -> None:
    layers = [{"type": "conv2d", "channels": 2, "kernel": 3, "name": f"c{n}"} for n in range(52)]
    (line,) = (line for line in told(source, [*layers, *NORMALISED]) if "only in the network" in line)
    assert line.startswith("  only in the network: 106 (c0, c1, ")
    assert line.endswith(", c49, and 3 more)")  # c50, c51 and conv53


def test_frozen_arrays_left_random_get_the_shortest_names(source: Path) -> None:
    block = {"type": "residual", "layers": [{"type": "conv2d", "channels": 2}, {"type": "batchnorm2d"}]}
    widened = {**NORMALISED[0], "channels": 2, "bias": False, "name": "wide"}
    layers = [widened, *NORMALISED[1:2], block, *NORMALISED[2:]]
    assert told(source, layers, "residual1.batchnorm1", "wide", "dense1.weight")[1:] == [
        "  only in the checkpoint: 2 (conv1)",
        "  only in the network: 7 (wide, residual1)",
        "  of another shape: 1 (dense1.weight)",
        "  frozen all the same, as drawn at random: 6 (wide, residual1.batchnorm1, dense1.weight)",
    ]


def test_transferred_run_begins_as_good_as_its_source(tmp_path: Path, csv: Path, source: Path) -> None:
    told = Lines()
    one_step: dict[str, Any] = {"optimizer": {"learning_rate": 1e-9}, "train": {"epochs": 1}}
    summary = train(begun(source, csv, **one_step), tmp_path / "run", progress=told)
    assert told.lines[-1] == f"begins with 8 of 8 arrays from {source}"
    before = read(source).history[-1]
    after = read(summary.checkpoint).history[-1]
    assert after.validation_accuracy == before.validation_accuracy
    assert abs((after.validation_loss or 0) - (before.validation_loss or 0)) < 0.01  # only batchnorm1.mean has moved
    assert read(summary.checkpoint).state.initial_sha256 == read(source).state.weights_sha256


def test_resume_does_not_need_the_checkpoint_of_init_from(tmp_path: Path, csv: Path, source: Path) -> None:
    wanted = begun(source, csv)
    whole = train(wanted, tmp_path / "whole")
    assert whole.weights_sha256 != train(settings(csv, model={"layers": NORMALISED}), tmp_path / "other").weights_sha256
    model = tmp_path / "cut" / "model.json"
    train(wanted, tmp_path / "cut", progress=Stopping(2))
    source.unlink()
    train(wanted, None, model, Stopping(9))
    train(wanted, None, model)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_resume_compares_init_from_by_its_weights(tmp_path: Path, csv: Path, source: Path) -> None:
    train(begun(source, csv), tmp_path / "run", progress=Stopping(7))
    model = tmp_path / "run" / "model.json"
    plain = settings(csv, model={"layers": NORMALISED})
    train(plain, tmp_path / "short", progress=Stopping(7))
    for other in (plain, begun(tmp_path / "short", csv)):
        with pytest.raises(InputError, match=r"cannot resume: model\.init_from was .* and is now"):
            train(other, None, model)
    moved = Path(shutil.copy(source, tmp_path / "moved.json"))
    source.unlink()
    assert train(begun(moved, csv), None, model).steps == 15
    with pytest.raises(InputError, match=r"model\.init_from was not set and is now"):
        train(begun(moved, csv), None, tmp_path / "short" / "model.json")


def test_init_from_of_a_script_may_be_a_run_directory(
    tmp_path: Path, csv: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(begun(source, csv), tmp_path / "expected").weights_sha256
    monkeypatch.chdir(tmp_path)
    tables = to_tables(begun(Path("source"), csv))
    result = cnnpar.train(tables, run_dir="run")
    assert result.weights_sha256 == expected
    assert result.model.config.model.init_from == str(source.parent)
    again = cnnpar.train(resume="run")
    assert again.weights_sha256 == expected


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_a_file_of_weights_begins_a_run_as_its_checkpoint_does(
    tmp_path: Path, csv: Path, source: Path, ending: str
) -> None:
    if ending == "safetensors":
        pytest.importorskip("safetensors")
    expected = train(begun(source, csv), tmp_path / "expected").weights_sha256
    for layout in ("hwio", "torch", "keras"):
        file = tmp_path / f"{layout}.{ending}"
        cnnpar.load(source).export(file, layout)
        summary = train(begun(file, csv), tmp_path / layout)
        assert summary.weights_sha256 == expected
        digest = read(summary.checkpoint).state.initial_sha256
        assert digest == hashlib.sha256(file.read_bytes()).hexdigest()
        again = begun(Path(shutil.copy(file, tmp_path / f"moved.{ending}")), csv)
        assert train(again, None, tmp_path / layout / "model.json").weights_sha256 == expected


def test_a_file_of_torch_begins_other_networks_with_what_fits(tmp_path: Path, source: Path) -> None:
    cnnpar.load(source).export(tmp_path / "a.npz", "torch")
    with np.load(tmp_path / "a.npz") as archive:
        arrays: dict[str, Any] = {name: archive[name] for name in archive.files if name != "cnnpar"}
    file = tmp_path / "silent.npz"
    arrays |= {"fc.weight": np.zeros(3), "batchnorm1.num_batches_tracked": np.array(7)}
    np.savez(file, **arrays)
    network = Network.from_tables(WIDER, (8, 8, 1), 3)
    state = first_state(resolve({}), network)
    with pytest.raises(InputError, match=r"silent\.npz: does not say its layout.*model\.init_layout does"):
        transfer(begun_with(file), network, state)
    wanted = resolve({"model": {"init_from": str(file), "init_layout": "torch"}}).model
    assert transfer(wanted, network, state).lines() == [
        f"begins with 6 of 10 arrays from {file}",
        "  only in the checkpoint: 1 (fc)",
        "  only in the network: 2 (dense2)",
        "  of another shape: 2 (dense1)",
    ]
    theirs = cnnpar.load(source).parameters()["conv1.weight"]
    assert network.layout.views(state.parameters)["conv1.weight"].tobytes() == theirs.tobytes()


def test_unreadable_or_unrelated_init_from_is_refused(tmp_path: Path, csv: Path, source: Path) -> None:
    other = [{**layer, "name": f"other{number}"} for number, layer in enumerate(LAYERS)]
    with pytest.raises(InputError, match=r"none of its arrays has name and shape of one of .* 4 \(other0, other5\)"):
        train(begun(source, csv, other), tmp_path / "run")
    for path in (tmp_path / "absent.json", csv):
        with pytest.raises(InputError, match=str(path)):
            train(begun(path, csv), tmp_path / "run")
    with pytest.raises(InputError, match=r"model\.init_from: expected a path without zero bytes"):
        resolve({"model": {"init_from": "a\0b"}})
    assert not (tmp_path / "run").exists()


def test_inspect_shows_the_digest_of_the_initial_weights(
    tmp_path: Path, csv: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(begun(source, csv, train={"epochs": 1}), tmp_path / "run")
    digest = read(source).state.weights_sha256
    assert call("cnnpar", "inspect", tmp_path / "run", "--json") == 0
    assert f'"initial_sha256":"{digest}"' in capsys.readouterr().out
    assert call("cnnpar", "inspect", tmp_path / "run") == 0
    assert f"began with      {digest}" in capsys.readouterr().out
    assert call("cnnpar", "inspect", source) == 0
    assert "began with" not in capsys.readouterr().out


def test_checkpoint_without_initial_sha256_began_at_random(source: Path) -> None:
    tree = json.loads(source.read_bytes())["payload"]
    del tree["state"]["initial_sha256"], tree["config"]["model"]["init_from"]
    source.write_bytes(file_of(tree))
    assert unpack(read(source), "")[1].initial_sha256 == ""
    tree["state"]["initial_sha256"] = "0" * 64
    source.write_bytes(file_of(tree))
    with pytest.raises(InputError, match=r"state\.initial_sha256: '0+\.\.\. does not fit"):
        unpack(read(source), "")
    assert np.isfinite(read(source).parameters[0].vector()).all()
