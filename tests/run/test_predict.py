"""`cnnpar predict`: classes of pictures, as the Python interface gives them for the same pixels."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnpar
from cnnpar.storage.checkpoint import encode, read
from cnnpar.storage.packing import pack, unpack
from tests.helpers.commands import call

LAYERS = "model.layers=[{type='flatten'},{type='dense'}]"


def write_pictures(folder: Path, count: int, seed: int) -> list[Path]:
    """Write grey pictures of 6 x 5 pixels: those of even numbers are dark."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 100, (6, 5), dtype=np.uint8) + np.uint8(number % 2 * 150)).save(path)
    return paths


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Train on class folders of pictures in an empty folder, into `r`, and work there."""
    monkeypatch.chdir(tmp_path)
    for number, path in enumerate(write_pictures(Path("all"), 24, 0)):
        place = Path("train") / ("bright" if number % 2 else "dark")
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / path.name)
    quick = ["--workers", 0, "--epochs", 5, "--microbatch", 2, "--batch-size", 4, "--run-dir", "r", "--quiet"]
    assert call("cnnpar-train", "train", "--set", LAYERS, *quick) == 0
    return tmp_path


def test_pictures_get_the_models_probabilities(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = write_pictures(Path("new"), 70, 1)
    model = cnnpar.load("r")
    wanted = model.probabilities(np.stack([np.asarray(Image.open(path)) for path in paths]))
    assert call("cnnpar", "predict", "r", *paths, "--json") == 0
    found = json.loads(capsys.readouterr().out)["predictions"]
    assert [one["file"] for one in found] == list(map(str, paths))
    assert np.array_equal([[one["probabilities"][name] for name in model.class_names] for one in found], wanted)
    assert [one["class"] for one in found] == ["dark", "bright"] * 35
    assert [one["probability"] for one in found] == wanted.max(axis=1).tolist()


def test_a_line_a_picture_and_folders_stand_for_their_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pictures(Path("new"), 3, 1)
    Path("new/.hidden").touch()
    assert call("cnnpar", "predict", "r/model.json", "new/1.png", "new") == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == "input      class   probability"
    assert [line.split()[:2] for line in lines] == [
        ["new/1.png", "bright"],
        ["new/0.png", "dark"],
        ["new/1.png", "bright"],
        ["new/2.png", "dark"],
    ]
    assert all(50 < float(line.split()[2].rstrip("%")) <= 100 for line in lines)
    assert {len(line) for line in (head, *lines)} == {len(head)}


def test_a_link_to_a_picture_is_followed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pictures(Path("new"), 2, 1)
    Path("link.png").symlink_to("new/1.png")
    assert call("cnnpar", "predict", "r", "link.png") == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["link.png", "bright"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("r", "which inputs?"),
        ("r absent.png", "absent.png: no such file; expected a picture"),
        ("absent new/0.png", "absent: cannot read the checkpoint"),
        ("r broken.png", "broken.png: not a PNG, JPEG"),
        ("r empty", "empty: no files in this folder; expected pictures"),
        (
            "r wide.png",
            "wide.png: is 5 x 6 x 1 uint8, and the model takes 6 x 5 x 1 uint8; --size 6,5 and --channels 1 bring",
        ),
        ("r new/0.png --size 6", "--size 6: expected HEIGHT,WIDTH"),
        ("r new/0.png --channels RGB", "--channels RGB: expected 1 (grey) or 3 (colour)"),
        ("r pipe.png", "pipe.png: is no file"),
    ],
)
def test_what_is_wrong_names_the_file(here: Path, capsys: pytest.CaptureFixture[str], line: str, what: str) -> None:
    write_pictures(Path("new"), 1, 1)
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(9))
    Image.new("L", (6, 5)).save("wide.png")
    os.mkfifo("pipe.png")
    Path("empty").mkdir()
    assert call("cnnpar", "predict", *line.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert what in err
    assert "/tmp/cnnpar-" not in err


def test_bad_pictures_are_told_and_the_others_answered(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pictures(Path("new"), 6, 1)
    Path("new/1.png").write_bytes(b"none")
    Image.new("RGB", (5, 6)).save("new/3.png")
    Path("new/7.png").symlink_to("gone")
    assert call("cnnpar", "predict", "r", "new") == 1
    out, err = capsys.readouterr()
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [
        ["new/0.png", "dark"],
        ["new/2.png", "dark"],
        ["new/4.png", "dark"],
        ["new/5.png", "bright"],
    ]
    remedy = "--size 6,5 and --channels 1 bring pictures to that"
    assert err.splitlines() == [
        "cnnpar: error: new/1.png: not a PNG, JPEG, BMP, GIF, WebP or TIFF picture, whatever its name says",
        f"cnnpar: error: new/3.png: is 6 x 5 x 3 uint8, and the model takes 6 x 5 x 1 uint8; {remedy}",
        "cnnpar: error: new/7.png: no such file; expected a picture",
    ]
    assert call("cnnpar", "predict", "r", "new", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert len(found["predictions"]) == 4
    assert [one["file"] for one in found["failed"]] == ["new/1.png", "new/3.png", "new/7.png"]
    assert call("cnnpar", "predict", "r", "new/1.png", "new/3.png") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 2)


def test_folders_stand_for_all_pictures_below_them(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("new/b/x", "new/a", "new/.hidden", "new/__MACOSX"):
        write_pictures(Path(name), 1, 1)
    write_pictures(Path("new"), 1, 1)
    for leftover in ("new/Thumbs.db", "new/a/.DS_Store"):
        Path(leftover).touch()
    Path("new/a/back").symlink_to("..")
    assert call("cnnpar", "predict", "r", "new") == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["new/0.png", "new/a/0.png", "new/b/x/0.png"]


def test_weights_that_are_too_large_give_no_prediction(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    payload = read("r/model.json")
    network, state = unpack(payload, "")
    state.parameters[:] = np.finfo(np.float32).max
    with Path("huge.json").open("wb") as file:
        file.write(
            encode(
                pack(
                    payload.config, network, payload.preprocessing, state, payload.fingerprint, payload.data_fingerprint
                )
            )
        )
    assert call("cnnpar", "predict", "huge.json", *write_pictures(Path("new"), 1, 1)) == 1
    assert capsys.readouterr().err.endswith("huge.json: its outputs are not finite; its weights are too large\n")


def test_a_picture_of_other_depth_is_told_what_to_become(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.full((6, 5), 40_000, np.uint16)).save("deep.png")
    assert call("cnnpar", "predict", "r", "deep.png") == 2
    assert "pixels are uint16, and the model was trained on uint8; convert it to 8 bits" in capsys.readouterr().err
