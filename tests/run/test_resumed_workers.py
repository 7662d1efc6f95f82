"""A checkpoint does not choose how many processes start, nor which host is connected to."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

import cnnpar
from cnnpar.config.resolve import to_toml
from cnnpar.config.sections import Engine
from cnnpar.errors import InputError
from cnnpar.run.resume import check_workers, settings_of
from cnnpar.run.summary import options_to_go_on
from cnnpar.storage.checkpoint import encode, read
from tests.helpers.commands import call
from tests.helpers.tiny_runs import settings, train, write_csv

MODEL = Path("run/model.json")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    wanted = settings(write_csv(Path("train.csv")))
    Path("tiny.toml").write_text(to_toml(wanted))
    train(wanted, Path("run"))


def with_engine(**keys: Any) -> None:
    """Write other settings of the engine into the checkpoint, as anybody could."""
    payload = read(MODEL)
    engine = msgspec.structs.replace(payload.config.engine, **keys)
    config = msgspec.structs.replace(payload.config, engine=engine)
    MODEL.write_bytes(encode(msgspec.structs.replace(payload, config=config)))


@pytest.mark.parametrize("workers", [4096, "2:4096"])
@pytest.mark.parametrize("address", ["", "203.0.113.1:6379"])
def test_more_workers_than_cores_need_a_word(
    capsys: pytest.CaptureFixture[str], workers: int | str, address: str
) -> None:
    with_engine(workers=workers, address=address)
    before = MODEL.read_bytes()
    for options in (["--resume", "run"], ["--resume", "auto", "--run-dir", "run"], ["--resume", "run", "--epochs", 9]):
        assert call("cnnpar-train", *options) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert err.startswith(f"cnnpar-train: error: run/model.json: its run had {workers} workers, and this machine ")
        assert err.endswith("; say how many there shall be, with --workers N\n")
    with pytest.raises(InputError, match=f"its run had {workers} workers"):
        cnnpar.train(resume="run")
    assert MODEL.read_bytes() == before
    words: tuple[list[Any], ...] = (["--workers", 0], ["--set", "engine.workers=0"], ["--config", "tiny.toml"])
    for given in words:
        assert call("cnnpar-train", "--resume", "run", *given, "--quiet") == 0


def test_workers_of_a_cluster_or_within_the_cores_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in (Engine(), Engine(workers=0), Engine(workers="1:2"), Engine(workers=4096, address="auto")):
        check_workers(engine, MODEL)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    check_workers(Engine(workers=4096), MODEL)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with pytest.raises(InputError, match="--workers N"):
        check_workers(Engine(workers=4096), MODEL)


def test_the_command_that_goes_on_has_that_word() -> None:
    assert options_to_go_on("m.json", "run", None, Engine()) == "--resume m.json"
    assert options_to_go_on("m.json", "run", None, Engine(workers=4096)) == "--resume m.json --workers 4096"
    attached = Engine(workers=4096, address="auto")
    assert options_to_go_on("m.json", "run", None, attached) == "--resume m.json --address auto"


def test_the_address_of_a_checkpoint_is_not_taken() -> None:
    with_engine(address="203.0.113.1:6379")
    assert settings_of(read(MODEL)).engine.address == ""
    assert cnnpar.train(resume="run").summary.epochs == 3
