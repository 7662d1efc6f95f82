"""A checkpoint that an earlier version wrote after step 50 of 84: every later version reads, tests and resumes it."""

from pathlib import Path

import msgspec
import pytest

import cnnpar
from cnnpar.errors import InputError
from cnnpar.fingerprint import fingerprint
from cnnpar.storage.checkpoint import encode, read

FILE = Path(__file__).with_name("older-version.json")
DIGEST = "585d407908d74511742b8236a24e51e6ec2da946af4fbc043d887b8f59fb54a6"


def copied(folder: Path, **changes: object) -> Path:
    path = folder / "model.json"
    path.write_bytes(encode(msgspec.structs.replace(read(FILE), **changes)))
    return path


def test_an_older_checkpoint_predicts() -> None:
    model = cnnpar.load(FILE)
    assert model.weights_sha256 == DIGEST
    assert model.image_shape == (8, 8, 1)
    assert set(model.parameters()) >= {"conv1.weight", "batchnorm1.mean", "residual1.conv1.bias", "dense1.weight"}


def test_an_older_checkpoint_of_other_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"would compute other bits \(.*code: .* instead of .*allow_inexact"):
        cnnpar.train(resume=copied(tmp_path))


def test_an_older_checkpoint_resumes_inexactly(tmp_path: Path) -> None:
    config = msgspec.to_builtins(read(FILE).config)
    config["engine"]["allow_inexact"] = True
    result = cnnpar.train(config, resume=copied(tmp_path))
    assert (result.summary.steps, result.summary.exact) == (84, False)
    assert result.test_accuracy is not None
    assert result.test_accuracy > 0.7


def test_an_older_checkpoint_of_this_fingerprint_resumes(tmp_path: Path) -> None:
    result = cnnpar.train(resume=copied(tmp_path, fingerprint=fingerprint()))
    assert (result.summary.steps, result.summary.exact) == (84, True)
    ids = [read(tmp_path / name).state.run_id for name in ("model.json", "best.json")]
    assert read(FILE).state.run_id == ""
    assert ids == [ids[0]] * 2
    assert len(ids[0]) == 32  # it has one from now on
    again = cnnpar.train(resume=copied(tmp_path, fingerprint=fingerprint()))  # as after a kill between the two files
    assert again.weights_sha256 == result.weights_sha256
    assert read(tmp_path / "model.json").state.run_id == ids[0]
