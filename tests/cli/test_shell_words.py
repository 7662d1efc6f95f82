"""Errors of the commands name options that can be typed, and advise no others."""

from pathlib import Path

import pytest

import cnnpar
from cnnpar.cli.shell_words import as_typed
from cnnpar.errors import InputError
from tests.helpers.commands import call
from tests.helpers.data_files import write_picture

KNOWN = ("--set", "--label", "--size", "--channels")


@pytest.mark.parametrize(
    ("said", "typed"),
    [
        ('a.png: cut; data.on_bad = "skip" leaves such pictures out', "a.png: cut; --set data.on_bad=skip leaves such"),
        ("set data.size = [H, W], such as [128, 128] (a.png", "--size 128,128 (a.png"),
        (
            "; set data.size = [H, W], such as [128, 128] and data.channels = 3 (colour) or 1 (grey) (a.png",
            "; --size 128,128 and --channels 3 (colour) or 1 (grey) (a.png",
        ),
        ("; set data.channels = 3 (colour) or 1 (grey)", "; --channels 3 (colour) or 1 (grey)"),
        ("data.size = [H, W], such as [128, 128], scales all pictures", "--size 128,128 scales all pictures"),
        ('data.label = "last" takes the last', "--label last takes the last"),
        ("data.label = NAME says it", "--label NAME says it"),
        ("data.label says which column has it", "--label says which column has it"),
        ("a.csv: data.label is 'sort', which", "a.csv: --label is 'sort', which"),
        ('data.labels = "as they are" takes text', "--set data.labels='as they are' takes text"),
        ("set data.shape = [height, width] or [height, width, channels]", "data.shape='[HEIGHT,WIDTH]' or '[HEIGHT"),
        (
            "set data.shape = [height, width] or [height, width, channels], such as [5, 5, 3]",
            "give --set data.shape='[5,5,3]'",
        ),
        ("data.size and data.channels are for folders", "--size and --channels are for folders"),
        ("data.validation = 0.5 of 2 samples leaves none to train on; set it to 0", "on; give --set data.validation=0"),
        ("/a/data.label = 1.csv: cut", "/a/data.label = 1.csv: cut"),
    ],
)
def test_settings_of_errors_are_written_as_options(said: str, typed: str) -> None:
    assert typed in as_typed(said, KNOWN)
    assert as_typed(said, ["--json"]) == said


def test_commands_advise_options_that_they_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("alike", "unlike"):
        for name in ("a/1", "a/2", "b/1", "b/2"):
            path = Path(f"{folder}/{name}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_picture(path, size=(9, 8) if (folder, name) == ("unlike", "b/2") else (8, 8))
    assert call("cnnpar", "train", "unlike", "--workers", 0) == 2
    assert "2 sizes (most 8 x 8: 3); --size 128,128 (" in capsys.readouterr().err
    small = ("--set", 'model.layers=[{type="flatten"},{type="dense",units=2}]', "--epochs", 1)
    assert call("cnnpar-train", "alike", "--workers", 0, "--run-dir", "run", "--quiet", *small) == 0
    capsys.readouterr()
    assert call("cnnpar-test", "run", "unlike") == 2
    assert "; convert them to 8 x 8 grey, as the model takes (" in capsys.readouterr().err
    Path("alike/b/2.png").write_bytes(b"cut")
    assert call("cnnpar-test", "run", "alike") == 2
    assert "data." not in capsys.readouterr().err


@pytest.mark.parametrize("line", [("cnnpar-test", "other.csv", "runs"), ("cnnpar", "predict", "other.csv", "runs")])
def test_data_in_the_place_of_the_model_are_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.csv").write_text("label,pixel\n0,1\n")
    assert call(*line) == 2
    assert "not a whole checkpoint: " in (err := capsys.readouterr().err)
    assert err.endswith("; of a model and data, the model comes first\n")
    with pytest.raises(InputError, match=r"not a whole checkpoint: [^;]*$"):
        cnnpar.load("other.csv")


@pytest.mark.parametrize("command", ["test", "predict", "inspect", "compare", "kernels", "export", "report"])
def test_a_file_in_the_place_of_a_model_is_named_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"m.onnx": "cnnpar does not read ONNX", "m.SafeTensors": "`cnnpar import` makes a checkpoint of them"}
    for name, what in names.items():
        Path(name).write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
        more = {"predict": ["0.png"], "compare": [name], "export": ["--to", "other.npz"]}
        assert call("cnnpar", command, name, *more.get(command, [])) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"cnnpar: error: {name}: no checkpoint, but ")
        assert err.endswith(f"{what}\n")


def test_arrays_and_settings_are_told_from_checkpoints(tmp_path: Path) -> None:
    for name, what in {
        "w.npz": "arrays; if they are weights, `cnnpar import` .*",
        "c.toml": "settings; a checkpoint is .*",
    }.items():
        (tmp_path / name).write_text("[train]\n")
        with pytest.raises(InputError, match=rf"{name}: no checkpoint, but {what}$"):
            cnnpar.load(tmp_path / name)
