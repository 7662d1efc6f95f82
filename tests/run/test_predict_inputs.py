"""Inputs of `cnnpar predict`: CSV, arrays, IDX and standard input give what the same pixels give in Python."""

import bz2
import gzip
import os
import struct
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnpar
from cnnpar.data.readers import csv_table, unlabelled
from tests.helpers.commands import call, command
from tests.helpers.predicted import answers, digits, probabilities, train_on_digits, write_csv

X, Y = digits(150)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict") / "r"
    train_on_digits(folder)
    return folder


@pytest.fixture
def here(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, beside the model `r`."""
    monkeypatch.chdir(tmp_path)
    Path("r").symlink_to(run)
    return tmp_path


def write_files() -> list[Path]:
    """Write the same images in all ways."""
    write_csv(Path("unlabelled.csv"), X)
    write_csv(Path("labelled.csv"), X, ("label", Y.tolist()))
    write_csv(Path("ids.csv"), X, ("id", range(len(X))))
    Path("packed.csv.bz2").write_bytes(bz2.compress(Path("unlabelled.csv").read_bytes()))
    np.savetxt("plain.txt", X.reshape(len(X), -1), "%d", ",")
    np.savez_compressed("keras.npz", x_train=X[:3], y_train=Y[:3], x_test=X, y_test=Y)
    np.savez("any.npz", pictures=X[..., 0], names=np.array([None], object), mean=np.zeros((8, 8)))
    np.savez("fortran.npz", images=np.asfortranarray(X.astype(np.int64)))
    np.save("a.npy", X[..., 0])
    Path("images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, len(X), 8, 8) + X.tobytes())
    Path("other.idx3-ubyte.gz").write_bytes(gzip.compress(Path("images-idx3-ubyte").read_bytes()))
    return sorted(path for path in Path().iterdir() if path.name != "r")


def test_all_kinds_of_files_give_the_same_as_python(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = cnnpar.load("r").probabilities(X).tolist()
    for path in write_files():
        found = answers(capsys, "r", path)
        assert probabilities(found) == wanted, path
        assert [(one["file"], one["row"]) for one in found] == [(path.name, row) for row in range(1, len(X) + 1)]
        assert [one.get("id") for one in found] == [str(i) if path.name == "ids.csv" else None for i in range(len(X))]


def test_results_are_in_the_order_of_mixed_inputs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("pictures/deep").mkdir(parents=True)
    for number, name in enumerate(("one.png", "pictures/a.png", "pictures/deep/b.png", "idx-2.png")):
        Image.fromarray(X[number, ..., 0]).save(name)
    write_csv(Path("t.csv"), X[4:6])
    np.save("single.npy", X[6, ..., 0])
    found = answers(capsys, "r", "one.png", "pictures", "t.csv", "single.npy", "idx-2.png")
    files = ["one.png", "pictures/a.png", "pictures/deep/b.png", "t.csv", "t.csv", "single.npy", "idx-2.png"]
    assert [one["file"] for one in found] == files
    wanted = cnnpar.load("r").probabilities(X)[[0, 1, 2, 4, 5, 6, 3]]
    np.testing.assert_allclose(probabilities(found), wanted, rtol=1e-5)  # passes of other sizes


@pytest.mark.parametrize("name", ["ids.csv", "keras.npz", "a.npy", "images-idx3-ubyte", "other.idx3-ubyte.gz"])
def test_standard_input_is_told_by_its_content(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_files()
    with Path(name).open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        found = answers(capsys, "r", "-")
    assert probabilities(found) == cnnpar.load("r").probabilities(X).tolist()
    assert {one["file"] for one in found} == {"-"}


def test_a_picture_comes_through_a_pipe(here: Path) -> None:
    Image.fromarray(X[0, ..., 0]).save("0.png")
    with Path("0.png").open("rb") as file:
        done = command("cnnpar", "predict", "r", "-", cwd=here, stdin=file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].split()[:2] == ["-", str(cnnpar.load("r").predict(X[0]))]


def test_a_named_pipe_may_hold_a_csv(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = write_csv(Path("t.csv"), X[:3]).read_bytes()
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(text))
    writer.start()
    assert len(answers(capsys, "r", "pipe")) == 3
    writer.join()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "standard input is empty; expected a CSV, an .npz or a picture"),
        ("1,2,3,4\n", "standard input: line 1: 3 pixels after the label; expected 8 x 8 x 1 = 64"),
        ("PK\3\4", "standard input: damaged or unusual zip archive"),
        ("\x7fELF\n", "standard input: line 1: 0 pixels after the label; expected 8 x 8 x 1 = 64"),
    ],
)
def test_a_wrong_standard_input_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, content: str, what: str
) -> None:
    Path("input").write_text(content)
    with Path("input").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert call("cnnpar", "predict", "r", "-") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"cnnpar: error: {what}")


def test_bad_inputs_are_a_line_each_beside_good_ones(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(Path("good.csv"), X[:2])
    Path("empty.csv").touch()
    np.savetxt("other.csv", np.zeros((2, 81)), "%d", ",")
    np.save("other.npy", np.zeros((5, 9, 9), np.uint8))
    np.save("floats.npy", X[:2] / 255)
    np.save("text.npy", np.array(["a"]))
    np.savez("flat.npz", x=X.reshape(len(X), -1))
    np.savez("none.npz", a=Y, b=Y)
    Path("short.npy").write_bytes(Path("other.npy").read_bytes()[:-1])
    Path("cut.csv").write_text(Path("good.csv").read_text() + "1,2\n")
    Path("folder").mkdir()
    Path("hollow.npy").touch()
    bad = ["absent.csv", "absent.npz", "cut.csv", "empty.csv", "flat.npz", "floats.npy", "folder", "hollow.npy"]
    bad += ["none.npz", "other.csv", "other.npy", "short.npy", "text.npy"]
    assert call("cnnpar", "predict", "r", *bad, "good.csv") == 1
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["good.csv:"] * 2
    takes, usual = "the model takes (N, 8, 8, 1)", "x_test, test_images, test_x, images, x, data"
    trained = "and the model was trained on uint8; train it on data"
    assert err.splitlines() == [
        f"cnnpar: error: {line}"
        for line in (
            "absent.csv: cannot be read: No such file or directory",
            "absent.npz: cannot be read: No such file or directory",
            "cut.csv: line 4: 2 columns, but the first row has 64",
            "empty.csv: no samples; expected lines of label,pixel,pixel,...",
            f"flat.npz: `x` is of shape (150, 64), and {takes}; .reshape(-1, 8, 8) makes images of such rows",
            f"floats.npy: pixels are float32, {trained} of the same range, by data.scale",
            "folder: no files in this folder; expected pictures",
            "hollow.npy: cannot be read as a plain .npy array: it is empty",
            f"none.npz: holds a, b; expected {usual}, or one array of 8 x 8 x 1 images",
            "other.csv: line 1: 80 pixels after the label; expected 8 x 8 x 1 = 64",
            f"other.npy: the array is of shape (5, 9, 9), and {takes}",
            "short.npy: cannot be read as a plain .npy array: mmap length is greater than file size",
            "text.npy: the array holds no numbers; expected whole numbers or floats",
        )
    ]


@pytest.fixture
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read some lines of a CSV, and some images of an array, at a time."""
    monkeypatch.setattr(csv_table, "_PART", 1000)
    monkeypatch.setattr(unlabelled, "_PART", 1000)


def test_parts_of_files_join_to_the_same_passes(
    here: Path, capsys: pytest.CaptureFixture[str], short_parts: None
) -> None:
    test_all_kinds_of_files_give_the_same_as_python(here, capsys)


def test_rows_before_a_fault_are_answered(here: Path, capsys: pytest.CaptureFixture[str], short_parts: None) -> None:
    path = write_csv(Path("t.csv"), X)
    path.write_text(path.read_text() + "1,2\n")
    assert call("cnnpar", "predict", "r", "t.csv") == 1
    out, err = capsys.readouterr()
    answered = len(out.splitlines()) - 1
    assert 64 < answered <= 150
    assert err == (
        "cnnpar: error: t.csv: line 152: 2 columns, but the first row has 64; "
        f"the {answered} rows before are answered\n"
    )


def test_first_rows_of_small_numbers_wait_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], short_parts: None
) -> None:
    monkeypatch.chdir(tmp_path)
    deep = X.astype(np.uint16)
    deep[100:] += 1000
    write_csv(Path("deep.csv"), deep, ("label", Y.tolist()))
    tables = {
        "data": {"train": "deep.csv", "validation": 0},
        "model": {"layers": [{"type": "flatten"}, {"type": "dense"}]},
    }
    cnnpar.train({**tables, "train": {"epochs": 1}, "engine": {"workers": 0}}, run_dir="deep")
    assert probabilities(answers(capsys, "deep", "deep.csv")) == cnnpar.load("deep").probabilities(deep).tolist()
    write_csv(Path("shallow.csv"), X)
    assert call("cnnpar", "predict", "deep", "shallow.csv") == 2
    assert "pixels are uint8, and the model was trained on uint16; train it on" in capsys.readouterr().err


def test_an_input_given_twice_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(Path("t.csv"), X[:2])
    assert call("cnnpar", "predict", "r", "t.csv", here / "t.csv") == 2
    assert capsys.readouterr().err == f"cnnpar: error: {here / 't.csv'}: given twice, as t.csv too\n"


def test_floats_in_a_csv_are_scaled_as_in_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    layers = {"layers": [{"type": "flatten"}, {"type": "dense"}]}
    write_csv(Path("train.csv"), np.round(X / 255, 3), ("label", Y.tolist()))
    tables = {"data": {"train": "train.csv", "scale": 255, "validation": 0}, "model": layers}
    cnnpar.train({**tables, "train": {"epochs": 1}, "engine": {"workers": 0}}, run_dir="scaled")
    found = answers(capsys, "scaled", "train.csv")
    assert probabilities(found) == cnnpar.load("scaled").probabilities(np.round(X / 255, 3)).tolist()
    write_csv(Path("floats.csv"), X / 3, ("label", Y.tolist()))
    tables = {"data": {"train": "floats.csv", "validation": 0}, "model": layers}
    cnnpar.train({**tables, "train": {"epochs": 1}, "engine": {"workers": 0}}, run_dir="floats")
    wanted = cnnpar.load("floats").probabilities((X / 3).astype(np.float32)).tolist()
    np.save("f.npy", X / 3)
    for file in ("floats.csv", "f.npy"):
        assert probabilities(answers(capsys, "floats", file)) == wanted
