"""The commands: exit codes, messages, JSON, and the files that they leave."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnpar.config.resolve import read_toml, resolve, to_toml
from cnnpar.config.sections import Config
from cnnpar.storage.checkpoint import read
from cnnpar.storage.packing import unpack
from tests.helpers.checkpoints import NETWORK
from tests.helpers.commands import ENTRY, call, command
from tests.helpers.ray_nodes import with_own_ray
from tests.helpers.tiny_runs import ROOT, settings, write_csv

FIELDS = {
    "epochs", "steps", "samples", "train_loss", "validation_accuracy", "test_accuracy", "weights_sha256", "exact",
    "workers", "seconds", "samples_per_second", "run_dir", "checkpoint",
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with data and settings of a tiny run, and work in it."""
    monkeypatch.chdir(tmp_path)
    wanted = settings(write_csv(Path("train.csv")), data={"test": str(write_csv(Path("test.csv"), 12, seed=1))})
    Path("tiny.toml").write_text(to_toml(wanted))
    return tmp_path


def everything() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


BAD: list[tuple[str, str, str]] = [
    ("cnnpar", "fly", "fly"),
    ("cnnpar-train", "--config tiny.toml stray", "stray"),
    ("cnnpar-train", "--epoch 3", "--epoch"),
    ("cnnpar-train", "--config tiny.toml --epochs", "--epochs"),
    ("cnnpar-train", "--config tiny.toml --epochs many", "many"),
    ("cnnpar-train", "--epochs 0", "error: --epochs 0: expected a whole number of at least 1"),
    ("cnnpar-train", "--config tiny.toml --workers -1", "error: --workers -1: expected a number from 0 to 4096, "),
    ("cnnpar-train", "--config tiny.toml --workers 8:2", "error: --workers 8:2: "),
    ("cnnpar-train", "--config tiny.toml --workers 2 --min-workers 3", "--min-workers 3: engine.min_workers is 3"),
    ("cnnpar-train", "--config tiny.toml --max-worker-failures -2", "error: --max-worker-failures -2: "),
    ("cnnpar-train", "--config tiny.toml --augmenter-ratio 2", "expected 1 (the images alone) or 4 (and their four"),
    ("cnnpar-train", "--config tiny.toml --transport mpi", "direct"),
    ("cnnpar-train", "--config tiny.toml --set train.epoch=3", "epochs, batch_size"),
    ("cnnpar-train", "--config tiny.toml --set epochs=3", "section.key=value"),
    ("cnnpar-train", "--config tiny.toml --epochs 2 --set train.epochs=3", "--epochs 2 and --set train.epochs=3: two "),
    ("cnnpar-train", "--config tiny.toml --data digits --set data.name=mnist", "--data digits and --set data.name=mn"),
    ("cnnpar-train", "--config absent.toml", "absent.toml: cannot read"),
    ("cnnpar-train", "--config .", "cannot read"),
    ("cnnpar-train", "--config bad.toml", "bad.toml: not a TOML file"),
    ("cnnpar-train", "--config five.toml --epochs 2", ": train: expected a table"),
    ("cnnpar-train", "--config train.csv", "train.csv: not a TOML file"),
    ("cnnpar-train", "--workers 0 --train-data absent.csv", "absent.csv"),
    ("cnnpar-train", "--workers 0 --train-data test.bin", "test.bin"),
    ("cnnpar-train", "--workers 0 --data cifar", "digits, mnist"),
    ("cnnpar-train", "--workers 0 --data digits --train-data train.csv", "--data"),
    ("cnnpar-train", "--workers 0 --test-data test.csv", "--train-data"),
    ("cnnpar-train", "--config tiny.toml --set model.layers=[]", "model.layers"),
    ("cnnpar-train", "--config tiny.toml --set model.freeze=conv1", """on a command line '["a", "b"]'"""),
    ("cnnpar-train", "--set data.name=cifar", "--set data.name=cifar: data.name is 'cifar'; known are digits, mnist"),
    ("cnnpar-train", "--set schedule.type=cosine --epochs 2 --set schedule.warmup_epochs=5", "warmup_epochs=5: `warm"),
    ("cnnpar-train", "--config tiny.toml --set model.layers=[{type='tpyo'}]", "layer 1"),
    ("cnnpar-train", "--config huge.toml", "units"),
    ("cnnpar-train", "--config tiny.toml --run-dir train.csv", "train.csv: is no folder"),
    ("cnnpar-train", "--config tiny.toml --run-dir train.csv/run", "train.csv: is no folder"),
    ("cnnpar-train", "--config tiny.toml --run-dir /proc/none/run", "/proc/none"),
    ("cnnpar-train", "--config tiny.toml --run-dir full", "full: holds a run already"),
    ("cnnpar-train", "--config tiny.toml --to-path full/model.json", "full/model.json: exists already"),
    ("cnnpar-train", "--config tiny.toml --to-path full", "full: is no file"),
    ("cnnpar-train", "--config tiny.toml --to-path /dev/null", "/dev/null: exists already"),
    ("cnnpar-train", "--config tiny.toml --run-dir " + "x" * 300, "too long"),
    ("cnnpar-train", "--config tiny.toml --resume", "no checkpoint"),
    ("cnnpar-train", "--config tiny.toml --resume absent", "absent"),
    ("cnnpar-train", "--config tiny.toml --resume full", "full/model.json: not a whole checkpoint"),
    ("cnnpar-train", "--config tiny.toml --run-dir \udcff", "not UTF-8"),
    ("cnnpar-test", "", "--from-path"),
    ("cnnpar-test", "--from-path absent.json", "absent.json: cannot read the checkpoint"),
    ("cnnpar-test", "--from-path train.csv", "train.csv: no checkpoint"),
    ("cnnpar-test", "--from-path train.csv --workers 2:8", "2:8"),
    ("cnnpar-test", "--from-path train.csv --workers 5000", "4096"),
    ("cnnpar-test", "--from-path train.csv --data cifar", "digits, mnist"),
    ("cnnpar-test", "--from-path train.csv --data test.csv", "a path goes into --test-data test.csv"),
    ("cnnpar", "inspect", "FILE"),
    ("cnnpar", "inspect .", ".: no run's directory (no model.json in it); did you mean full?"),
    ("cnnpar", "inspect full", "not a whole checkpoint"),
    ("cnnpar", "inspect full --shape 8,8,1 --classes 2", "full: --shape, --classes and --set are for settings"),
    ("cnnpar", "inspect tiny.toml --shape 8,8,1", "--shape and --classes go together"),
    ("cnnpar", "inspect tiny.toml --shape 8,8 --classes 2", "--shape 8,8: expected H,W,C"),
    ("cnnpar", "inspect tiny.toml --shape 2,2,1 --classes 2", "layer 3"),
    ("cnnpar", "inspect tiny.toml --set model.preset=x", "--set model.preset=x: no preset 'x'; there are lenet5, "),
    ("cnnpar", "inspect five.toml", ": train: expected a table"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("program", "arguments", "what"), BAD, ids=[f"{program} {args[:60]}" for program, args, _ in BAD]
)
def test_wrong_input_exits_with_2_and_leaves_no_file(
    here: Path, capsys: pytest.CaptureFixture[str], program: str, arguments: str, what: str
) -> None:
    Path("full").mkdir()
    huge = "[[model.layers]]\ntype = 'flatten'\n[[model.layers]]\ntype = 'dense'\nunits = 9007199254740992\n"
    contents = {"full/model.json": "{", "bad.toml": "= 3", "five.toml": "train = 5", "huge.toml": huge, "test.bin": ""}
    for name, content in contents.items():
        Path(name).write_text(content)
    before = everything()
    assert call(program, *arguments.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{program}: error: ")
    assert what in err
    assert err.count("\n") <= 2
    assert everything() == before


def _with_absolute_paths(tables: dict[str, Any]) -> Config:
    """Return settings with absolute paths of the data, as a run keeps them to be resumed from any folder."""
    places = {key: str(Path(tables["data"][key]).absolute()) for key in ("train", "test")}
    return resolve({**tables, "data": {**tables["data"], **places}})


def test_json_is_the_last_line_with_all_promised_fields(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("cnnpar-train", "--config", "tiny.toml", "--json") == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert out.count("\n") == 1
    assert "epoch 3/3" in err
    assert set(summary) >= FIELDS
    assert (summary["epochs"], summary["steps"], summary["samples"], summary["workers"]) == (3, 15, 108, 0)
    assert 0 <= summary["test_accuracy"] <= 1
    assert 0 <= summary["validation_accuracy"] <= 1
    assert (summary["exact"], summary["run_dir"]) == (True, "runs/tiny-1")
    files = {"model.json", "model.prev.json", "best.json", "metrics.jsonl", "config.toml"}
    assert {path.name for path in Path("runs/tiny-1").iterdir()} >= files - {"model.prev.json"}
    assert {path.name for path in Path("runs/tiny-1").iterdir()} <= files
    assert resolve(read_toml("runs/tiny-1/config.toml")) == _with_absolute_paths(read_toml("tiny.toml"))

    assert call("cnnpar", "inspect", summary["checkpoint"], "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    for name in ("weights_sha256", "exact", "samples"):
        assert facts[name] == summary[name]
    network, _ = unpack(read(summary["checkpoint"]), "")
    assert (facts["epoch"], facts["step"], facts["parameters"]) == (3, 15, network.layout.size)

    assert call("cnnpar-test", "--from-path", "runs/tiny-1", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["accuracy"] == result["correct"] / result["total"] == summary["test_accuracy"]
    assert result["total"] == 12
    assert call("cnnpar-test", "--from-path", "runs/tiny-1", "--test-data", "train.csv") == 0
    assert "of 40" in capsys.readouterr().out


def test_quiet_prints_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("cnnpar-train", "--config", "tiny.toml", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_underscores_and_equal_signs_spell_the_same_options(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--train_data=train.csv", "--augmenter_ratio=4", "--to_path=out/model_a.json", "--batch_size=32"]
    rest = ["--set=train.epochs=1", "--workers=0", "--json", "--set=model.layers=[{type='flatten'},{type='dense'}]"]
    assert call("cnnpar-train", *options, *rest) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["checkpoint"], summary["run_dir"]) == ("out/model_a.json", "runs/train-1")
    saved = read("out/model_a.json").config
    assert (saved.augment.ratio, saved.train.batch_size, saved.data.train) == (4, 32, str(here / "train.csv"))


def test_an_option_and_a_set_may_agree(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = ["--epochs", 1, "--set", "train.epochs=1", "--workers", 0, "--set", "engine.workers=0"]
    assert call("cnnpar-train", "--config", "tiny.toml", *same, "--json") == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 1


def test_train_data_named_like_a_data_set_is_a_path(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("digits").mkdir()
    assert call("cnnpar-train", "--workers", 0, "--train-data", "digits", "--run-dir", "r") == 2
    assert "digits: " in capsys.readouterr().err


def test_cnnpar_test_uses_the_test_part_of_the_runs_npz(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = np.loadtxt("train.csv", dtype=np.uint8, delimiter=",")
    images, labels = table[:, 1:].reshape(-1, 8, 8), table[:, 0]
    parts = {"x_train": images, "y_train": labels, "x_test": images[:9], "y_test": labels[:9]}
    np.savez("own.npz", **parts)  # type: ignore[arg-type]
    arguments = ["--config", "tiny.toml", "--train-data", "own.npz", "--run-dir", "r", "--quiet", "--epochs", 1]
    assert call("cnnpar-train", *arguments) == 0
    assert call("cnnpar-test", "--from-path", "r", "--json") == 0
    assert json.loads(capsys.readouterr().out)["total"] == 9
    assert call("cnnpar-train", *arguments[:2], "--train-data", "train.csv", "--run-dir", "s", *arguments[6:]) == 0
    assert call("cnnpar-test", "--from-path", "s") == 2
    assert "had no test data; give --test-data" in capsys.readouterr().err


def test_a_diverging_run_exits_with_1_and_names_the_layer(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steady = ["--set", "schedule.type=constant", "--set", "optimizer.nesterov=false", "--set", "train.batch_size=36"]
    arguments = ["--config", "tiny.toml", "--run-dir", "r", *steady, "--set", "optimizer.learning_rate=1e20"]
    assert call("cnnpar-train", *arguments, "--set", "data.validation=0.1") == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "step 2" in err
    assert "not finite" in err
    assert "dense1" in err or "conv1" in err
    assert "1e+20" in err
    _, state = unpack(read("r/model.json"), "")
    assert np.isfinite(state.parameters).all()


@pytest.mark.parametrize(
    ("line", "needed"),
    [
        ("cnnpar --help", "lr-find"),
        ("cnnpar train --help", "--resume"),
        ("cnnpar-train --help", "--augmenter-ratio"),
        ("cnnpar lr-find --help", "--picture"),
        ("cnnpar kernels --help", "--repeats"),
        ("cnnpar predict --help", "INPUTS"),
        ("cnnpar export --help", "--layout"),
        ("cnnpar import --help", "--like"),
        ("cnnpar schema --help", "#:schema"),
        ("cnnpar-test --help", "MODEL"),
    ],
)
def test_help_fits_80_columns_and_imports_nothing_heavy(tmp_path: Path, line: str, needed: str) -> None:
    program, *arguments = line.split()
    code = (
        "import sys\nfrom cnnpar.cli import programs\nsys.argv = sys.argv[1:]\n"
        "try:\n    getattr(programs, sys.argv.pop(1))()\n"
        "finally:\n"
        "    heavy = {'numpy', 'scipy', 'matplotlib', 'ray', 'PIL', 'pooch', 'onnx'} & set(sys.modules)\n"
        "    assert not heavy, heavy"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    words = [sys.executable, "-c", code, program, ENTRY[program], *arguments]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert needed in done.stdout
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_every_way_to_say_resume_goes_on_with_the_same_run(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("cnnpar-train", "--config", "tiny.toml", "--epochs", 1, "--quiet") == 0
    run = Path("runs/tiny-1").resolve()
    ways: list[list[object]] = [
        ["--resume"],
        ["--resume", run],
        [f"--resume={run}/model.json"],
        ["--run-dir", run, "--resume"],
        ["--resume", "--to-path", run / "model.json", "--run-dir", run],
    ]
    for epochs, way in enumerate(ways, 2):
        assert call("cnnpar-train", *way, "--epochs", epochs, "--json") == 0
        assert json.loads(capsys.readouterr().out)["epochs"] == read(run / "model.json").state.epoch == epochs
    monkeypatch.chdir(run)  # where the data are not: the settings name them relative to where the run began
    moved = ["--train-data", here / "train.csv", "--test-data", here / "test.csv"]
    assert call("cnnpar-train", "--resume", *moved, "--epochs", 7, "--quiet") == 0
    assert read("model.json").state.epoch == 7
    assert call("cnnpar-train", "--resume", *moved, "--seed", 1) == 2
    assert "train.seed was 0 and is now 1" in capsys.readouterr().err
    assert everything() <= {"model.json", "model.prev.json", "best.json", "metrics.jsonl", "config.toml"}


def test_resume_does_not_connect_to_the_checkpoints_address(here: Path) -> None:
    nobody = ["--workers", 0, "--address", "127.0.0.1:1"]
    assert call("cnnpar-train", "--config", "tiny.toml", "--epochs", 1, "--run-dir", "r", "--quiet", *nobody) == 0
    assert read("r/model.json").config.engine.address == "127.0.0.1:1"
    assert call("cnnpar-train", "--resume", "r", "--epochs", 2, "--quiet") == 0
    assert read("r/model.json").config.engine.address == ""


@pytest.mark.slow
def test_cnnpar_test_ignores_the_checkpoints_address(here: Path) -> None:
    nobody = ["--workers", 0, "--address", "127.0.0.1:1"]
    assert call("cnnpar-train", "--config", "tiny.toml", "--epochs", 1, "--run-dir", "r", "--quiet", *nobody) == 0
    done = with_own_ray(lambda: command("cnnpar-test", "--from-path", "r", "--workers", 1, cwd=here))
    waited = ("testing on ", "starting ")  # what a slow start is told of
    assert done.returncode == 0
    assert not [line for line in done.stderr.splitlines() if not line.startswith(waited)]


def test_a_broken_standard_output_gives_no_traceback(here: Path) -> None:
    assert call("cnnpar-train", "--config", "tiny.toml", "--run-dir", "r", "--quiet") == 0
    reading, writing = os.pipe()
    os.close(reading)
    done = command("cnnpar", "inspect", "r", "--json", cwd=here, stdout=writing)
    assert (done.returncode, done.stderr) == (0, "")
    os.close(writing)
    with Path("/dev/full").open("w") as full:
        for arguments, told in (["inspect", "r"], "cannot write to standard output"), (["--help"], "input or output"):
            done = command("cnnpar", *arguments, cwd=here, stdout=full)
            assert done.returncode == 1
            assert done.stderr == f"cnnpar: error: {told}: No space left on device\n"


def test_a_run_works_with_closed_standard_streams(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in ("stdout", "stderr"):  # as Python leaves them when the caller has closed them
        monkeypatch.setattr(sys, stream, None)
    assert call("cnnpar-train", "--config", "tiny.toml", "--run-dir", "r", "--epochs", 1) == 0
    sys.stdout.close()
    sys.stderr.close()
    assert Path("r/model.json").exists()


@pytest.mark.parametrize(
    ("workers", "words"),
    [
        (0, "in this process"),
        (1, "1 worker, ray transport"),
        (2, "2 workers, ray"),
        ("2:8", "2 to 8 workers, ray"),
        ("3:3", "3 workers, ray"),
    ],
)
def test_the_headline_names_the_workers_and_their_transport(workers: object, words: str) -> None:
    from cnnpar.parallel.work import Kind
    from cnnpar.run.headline import facts

    wanted = resolve({"engine": {"workers": workers, "transport": "ray"}})
    lines = facts(wanted, NETWORK, {Kind.TRAIN: 5}, "2 classes")
    assert f"batches of 64, {words}" in lines[2]
