"""Words without an option's name, options that name settings, paths as a shell writes them, and `--dry-run`."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from cnnpar.config.resolve import to_toml
from cnnpar.config.sections import Config
from cnnpar.storage.checkpoint import read
from tests.helpers.commands import call
from tests.helpers.data_files import write_picture
from tests.helpers.tiny_runs import settings, write_csv

QUICK = ("--epochs", 1, "--workers", 0, "--quiet", "--run-dir", "r")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with data and settings of a tiny run, and work in it."""
    monkeypatch.chdir(tmp_path)
    write_csv(Path("test.csv"), 12, seed=1)
    Path("tiny.toml").write_text(to_toml(settings(write_csv(Path("train.csv")))))
    return tmp_path


def trained(*arguments: object) -> Config:
    """Train with these arguments, and return the settings of the checkpoint."""
    assert call("cnnpar-train", *arguments, *QUICK) == 0
    return read("r/model.json").config


def test_words_are_settings_training_and_test_data(here: Path) -> None:
    saved = trained("tiny.toml", "train.csv", "test.csv")
    assert (saved.data.train, saved.data.test) == (str(here / "train.csv"), str(here / "test.csv"))
    assert saved.train.batch_size == 8


def test_a_word_names_a_known_data_set(here: Path) -> None:
    assert trained("digits").data.name == "digits"


def test_words_may_stand_behind_options(here: Path) -> None:
    assert trained("--seed", 5, "train.csv").data.train == str(here / "train.csv")


def test_cnnpar_test_takes_model_and_data_as_words(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained("tiny.toml", "train.csv", "test.csv")
    for words, total in (["r"], 12), (["r/model.json", "train.csv"], 40), (["--by-class", "r", "test.csv"], 12):
        assert call("cnnpar-test", *words, "--json") == 0
        assert json.loads(capsys.readouterr().out)["total"] == total


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("cnnpar-train train.csv --train-data train.csv", "train.csv and --train-data: two ways"),
        ("cnnpar-train tiny.toml --config tiny.toml", "tiny.toml and --config: two ways"),
        ("cnnpar-train train.csv test.csv --test-data test.csv", "test.csv and --test-data: two ways"),
        ("cnnpar-train digits --data digits", "digits and --data: two ways"),
        ("cnnpar-train digits --train-data train.csv", "--data names a known data set"),
        ("cnnpar-train digits test.csv", "--data names a known data set"),
        ("cnnpar-train train.csv test.csv third.csv", "third.csv: too many words"),
        ("cnnpar-train tiny.toml tiny.toml", "tiny.toml: too many words"),
        ("cnnpar cv --test-data test.csv", "--test-data goes with --train-data"),
        ("cnnpar cv digits test.csv", "--data names a known data set"),
        ("cnnpar lr-find digits --train-data train.csv", "--data names a known data set"),
        ("cnnpar lr-find train.csv test.csv", "test.csv: too many words"),
        ("cnnpar-train minst", "minst: no such file or folder (did you mean mnist?)"),
        ("cnnpar-train mnist", "mnist: names a data set, and a path that is here; write --data mnist or ./mnist"),
        ("cnnpar-train ./mnist", "mnist: no class folders"),
        ("cnnpar-test r --from-path r", "r and --from-path: two ways"),
        ("cnnpar-test r test.csv --test-data test.csv", "test.csv and --test-data: two ways"),
        ("cnnpar-test r test.csv --data digits", "test.csv and --data: two ways"),
        ("cnnpar-test", "which checkpoint?"),
    ],
)
def test_words_that_say_too_much_exit_with_2(
    here: Path, capsys: pytest.CaptureFixture[str], line: str, what: str
) -> None:
    Path("mnist").mkdir()
    assert call(*line.split()) == 2
    err = capsys.readouterr().err
    assert what in err
    assert err.count("\n") == 1


def test_options_set_the_optimizer(here: Path) -> None:
    adam = trained("train.csv", "--lr", "0.002", "--weight-decay", "0.5", "--optimizer", "adam").optimizer
    assert adam == settings(here, optimizer={"type": "adam", "learning_rate": 0.002, "weight_decay": 0.5}).optimizer


def test_options_stay_beside_a_type_that_is_set(here: Path) -> None:
    sgd = trained("tiny.toml", "--momentum", "0.5", "--lr", "0.2", "--set", "optimizer.type=rmsprop").optimizer
    assert sgd == settings(here, optimizer={"type": "rmsprop", "learning_rate": 0.2, "momentum": 0.5}).optimizer


def test_options_say_what_is_made_of_files(here: Path) -> None:
    data = trained("train.csv", "--label", "first", "--fold", "2/5").data
    assert (data.label, data.fold) == ("first", "2/5")


def test_options_say_what_is_made_of_pictures(here: Path) -> None:
    for number in range(8):
        write_picture(Path("photos", str(number % 2), f"{number}.png"), size=(3 + number, 2))
    data = trained("photos", "--size", "8,8", "--channels", "1").data
    assert (data.size, data.channels) == ((8, 8), 1)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("--lr fast", 'fast'),
        ("--lr 0", "--lr 0.0: expected a number above 0"),
        ("--lr nan", "--lr nan: "),
        ("--optimizer addam", "--optimizer addam: unknown value 'addam' (did you mean adam?)"),
        ("--optimizer adam --momentum 0.5", "--momentum 0.5: unknown key `momentum`"),
        ("--size 64", "--size 64: expected HEIGHT,WIDTH"),
        ("--size 0,64", "--size 0,64: data.size[0]: expected a whole number of at least 1"),
        ("--channels 2", "--channels 2: expected 1 (grey) or 3 (colour)"),
        ("--channels RGB", "--channels RGB: expected 1 (grey) or 3 (colour)"),
        ("--set data.channels=RGB", "channels=RGB: expected a whole number, not text; allowed: 0, 1, 3"),
        ("--data train.csv", "expected a known data set, digits or mnist; a path goes into --train-data train.csv"),
        ("--data photos/", "a path goes into --train-data photos/"),
        ("--fold 6/5", "--fold 6/5: data.fold is '6/5'"),
        ("--lr 0.1 --set optimizer.learning_rate=0.2", "--lr 0.1 and --set optimizer.learning_rate=0.2: two values"),
        ("--set trian.epochs=2", "no section `trian` (did you mean train?)"),
        ("--set train.epoch=2", "unknown key `epoch` (did you mean epochs?)"),
        ("--epoch 2", "Did you mean --epochs?"),
        ("--learning-rate 0.1", "Unknown option: --learning-rate; did you mean --lr 0.1?"),
        ("--learning_rate=0.1", "Unknown option: --learning-rate; did you mean --lr 0.1?"),
        ("-lr 0.1", "Unknown option: -lr; did you mean --lr 0.1?"),
        ("--optimizer.learning_rate 0.1", "did you mean --lr 0.1?"),
        ("--learn-rate 0.1", "did you mean --lr 0.1?"),
        ("--patience", "did you mean --set train.patience=VALUE?"),
        ("--scale 2", "did you mean --set data.scale=2 or --set augment.scale=2?"),
        ("--beta1 0.8", "--set optimizer.beta1=0.8 (with type adam or adamw or lamb)?"),
        ("--preset vgg-small", "did you mean --set model.preset=vgg-small?"),
        ("--set train.learning_rate=1", "unknown key `learning_rate` (did you mean optimizer.learning_rate?)"),
        ("--set train.lr=1", "unknown key `lr` (did you mean optimizer.learning_rate?)"),
        ("--set optimizer.lr=1", "unknown key `lr` (did you mean learning_rate?)"),
        ("--set optimizer=adam", "expected section.key=value, for example --set optimizer.type=adam"),
        ("--set lr=0.1", "for example --set optimizer.learning_rate=0.1"),
        ("--config text.toml", "text.toml: optimizer: expected a table, not text; write optimizer.type = 'adam'"),
        ("--set train.seed=1.5", "seed=1.5: expected a whole number, not one with decimals"),
        ("--set optimizer.learning_rate=inf", "=inf: expected a finite number"),
        ("--set patience=3", "expected section.key=value, for example --set train.patience=3"),
        ("--data minst", "(did you mean mnist?); known are digits, mnist (files go into --train-data"),
        ("--set model.layers=[{type='conv2D'}]", "[{type='conv2D'}]: layer 1: unknown type 'conv2D' (did"),
        ("--config wrong.toml", "wrong.toml: layer 2: unknown type 'conv2D' (did you mean conv2d?)"),
        ("--config key.toml", "key.toml: layer 1 (conv2d): unknown key 'chanels' (did you mean channels?)"),
        ("--config pad.toml", "pad.toml: layer 1 (conv2d): invalid enum value 'smae' (did you mean same?)"),
        ("--config sections.toml", "sections.toml: unknown key `optimiser` (did you mean opti"),
    ],
)  # fmt: skip
def test_wrong_names_and_values_say_what_was_meant(
    here: Path, capsys: pytest.CaptureFixture[str], line: str, what: str
) -> None:
    Path("wrong.toml").write_text("[model]\nlayers = [{type='relu'}, {type='conv2D', channels=3, kernel=3}]")
    Path("key.toml").write_text("[model]\nlayers = [{type='conv2d', chanels=3, kernel=3}]")
    Path("pad.toml").write_text("[model]\nlayers = [{type='conv2d', channels=3, kernel=3, padding='smae'}]")
    Path("sections.toml").write_text("[optimiser]\ntype = 'adam'")
    Path("text.toml").write_text("optimizer = 'adam'")
    assert call("cnnpar-train", *line.split()) == 2
    err = capsys.readouterr().err
    assert what in err
    assert "Expected `" not in err
    assert "`$" not in err
    assert err.count("\n") <= 2


def test_an_unknown_command_gets_the_one_that_is_like_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("cnnpar", "trian") == 2
    assert 'Did you mean "train"?' in capsys.readouterr().err


def test_home_and_variables_are_replaced_in_paths(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("PLACE", str(here))
    Path("home.toml").write_text("[data]\ntrain = '~/train.csv'\ntest = '${PLACE}/test.csv'\n")
    quick = ["--epochs", 1, "--workers", 0, "--quiet"]
    assert call("cnnpar-train", "--config=~/home.toml", "--run-dir=~/a", *quick) == 0
    assert read("a/model.json").config.data.test == str(here / "test.csv")
    assert call("cnnpar-train", "--train-data=~/train.csv", "--to-path=$PLACE/b/model.json", *quick) == 0
    assert read("b/model.json").config.data.train == str(here / "train.csv")
    start = ["--set", "model.init_from=~/a", "--set", "data.train=$PLACE/train.csv"]
    assert call("cnnpar-train", *start, "--run-dir", "c", *quick) == 0
    assert call("cnnpar-train", "--resume=~/c", "--epochs", 2, "--quiet") == 0
    assert call("cnnpar-test", "--from-path=~/a", "--test-data=~/test.csv", "--json") == 0
    assert json.loads(capsys.readouterr().out)["total"] == 12
    assert not Path("~").exists()


def test_a_path_that_exists_stays_as_it_is_written(here: Path) -> None:
    Path("$NOWHERE").mkdir()
    Path("train.csv").rename("$NOWHERE/train.csv")
    assert trained("$NOWHERE/train.csv").data.train == str(here / "$NOWHERE" / "train.csv")


@pytest.mark.parametrize("words", [["$NOWHERE/x.csv"], ["--train-data=${NOWHERE}/x"], ["--set", "data.train=$NOWHERE"]])
def test_a_variable_that_is_not_set_is_named(here: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert call("cnnpar-train", *words) == 2
    assert "no such path, and the environment has no variable NOWHERE" in capsys.readouterr().err


def test_a_dry_run_checks_all_and_writes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name for path in here.iterdir()}
    assert call("cnnpar-train", "tiny.toml", "--workers", 2, "--dry-run", "--run-dir", "r") == 0
    out = capsys.readouterr().out
    for words in ("36 training, 4 validation", "3 classes (0, 1, 2), 8 x 8 grey", "maxpool2d", "nothing was started"):
        assert words in out
    assert call("cnnpar-train", "tiny.toml", "--dry-run", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["dry_run"], facts["parameters"], facts["image_shape"]) == (True, 20 + 27, [8, 8, 1])
    assert {path.name for path in here.iterdir()} == before


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("absent.csv", "absent.csv: no such file"),
        ("tiny.toml --set model.layers=[{type='dense'}]", "layer 1 (dense1): needs a vector"),
        (
            "turned.npz",
            "layer 6 (maxpool2): a window of 2 x 2 does not fit its input (1, 4, 32); images are 2 x 8 with 8 c",
        ),
        ("tiny.toml --run-dir full", "full: holds a run already"),
        ("tiny.toml --resume absent", "absent"),
    ],
)
def test_a_dry_run_refuses_what_the_run_would(
    here: Path, capsys: pytest.CaptureFixture[str], line: str, what: str
) -> None:
    Path("full").mkdir()
    Path("full/model.json").write_text("{")
    np.savez("turned.npz", x=np.random.default_rng(0).integers(0, 256, (6, 2, 8, 8), np.uint8), y=np.arange(6) % 2)
    assert call("cnnpar-train", *line.split(), "--dry-run") == 2
    assert what in capsys.readouterr().err


def test_training_data_that_moved_leave_the_test_data(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained("tiny.toml", "train.csv", "test.csv")
    Path("train.csv").rename("moved.csv")
    assert call("cnnpar-train", "--resume", "r", "--epochs", 2) == 2
    err = capsys.readouterr().err
    assert f"{here / 'train.csv'}: is no longer there, and held the run's training data" in err
    assert "--train-data (data.train) says where they are now" in err
    assert call("cnnpar-train", "--resume", "r", "--train-data", "moved.csv", "--epochs", 2, "--quiet") == 0
    data = read("r/model.json").config.data
    assert (data.train, data.test) == (str(here / "moved.csv"), str(here / "test.csv"))


def test_test_data_that_moved_name_the_option_that_helps(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained("tiny.toml", "train.csv", "test.csv")
    Path("test.csv").rename("moved.csv")
    assert call("cnnpar-train", "--resume", "r", "--epochs", 2) == 2
    assert "test.csv: is no longer there, and held the run's test data; --test-data (data.test) says" in (
        capsys.readouterr().err
    )
    assert call("cnnpar-test", "r") == 2
    assert "test.csv: is no longer there, and held the run's test data; --test-data says" in capsys.readouterr().err
    assert call("cnnpar-train", "--resume", "r", "--test-data", "moved.csv", "--epochs", 2, "--quiet") == 0
    assert call("cnnpar-test", "r") == 0


def test_new_training_data_still_replace_a_files_test_data(here: Path) -> None:
    Path("both.toml").write_text(to_toml(settings(here / "train.csv", data={"test": str(here / "test.csv")})))
    assert trained("both.toml", "--train-data", "train.csv").data.test == ""


def test_no_command_waits_for_a_pipe_that_a_checkpoint_names(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained("tiny.toml", "train.csv", "test.csv")
    for name, program in (("train.csv", "cnnpar-train"), ("test.csv", "cnnpar-test")):
        Path(name).rename(f"moved-{name}")
        os.mkfifo(name)
        assert call(program, "--resume" if program == "cnnpar-train" else "--from-path", "r") == 2
        assert f"{here / name}: is a pipe, and held the run's" in capsys.readouterr().err
        Path(f"moved-{name}").replace(name)


def test_a_test_on_the_training_data_is_told_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained("tiny.toml", "train.csv", "test.csv")
    for name, told in (("train.csv", True), ("test.csv", False)):
        assert call("cnnpar-test", "r", name) == 0
        assert ("the model was trained on these" in capsys.readouterr().err) == told
