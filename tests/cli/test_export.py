"""`cnnpar export` and `cnnpar import`: what is written, what comes back, and what is refused before anything is."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import cnnpar
from cnnpar.errors import InputError
from cnnpar.exchange.trained import Trained
from cnnpar.storage.checkpoint import read
from tests.helpers.commands import call
from tests.helpers.tiny_runs import settings, train, write_csv
from tests.helpers.trained_networks import Tables, images_for, made

SETTINGS = """[data]
train = "train.csv"
[model]
layers = [{type = "conv2d", channels = 2}, {type = "relu"}, {type = "maxpool2d", size = 4},
          {type = "flatten"}, {type = "dropout", rate = 0.3}, {type = "dense"}]
[train]
ema_decay = 0.5
[engine]
workers = 0
"""

OTHERS = (
    "other.npz: its arrays are not those of the network: it lacks conv1.bias, dense1.bias; the network does not have "
    "fc.weight; conv1.weight is (3, 3, 1, 5) instead of (3, 3, 1, 2)"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train with an EMA, into `r`; `tiny.toml` describes the same network."""
    place = tmp_path_factory.mktemp("trained")
    train(settings(write_csv(place / "train.csv")), place / "r")
    (place / "tiny.toml").write_text(SETTINGS)
    return place


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with what was trained."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """Run a command with --json, and return what it prints."""
    assert call("cnnpar", *arguments, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_an_onnx_file_gives_the_probabilities_of_the_model(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = cnnpar.load("r")
    facts = said(capsys, "export", "r", "--to", "m.onnx")
    assert facts["bytes"] == Path("m.onnx").stat().st_size
    assert facts["weights_sha256"] == model.weights_sha256 == read("r/model.json").state.weights_sha256
    images = images_for(Trained.of(read("r/model.json"), ""))
    (found,) = onnxruntime.InferenceSession("m.onnx").run(["probabilities"], {"images": images})
    np.testing.assert_allclose(found, model.probabilities(images), rtol=1e-4, atol=1e-6)  # by the EMA weights


@pytest.fixture(params=["uint8", "float32"])
def scaled(request: pytest.FixtureRequest, here: Path) -> Path:
    """Train on floats of 0 to 1 with `data.scale = 255` into `s`: times 255 they are bytes, or floats; return them."""
    rows = np.loadtxt("train.csv", delimiter=",")
    images = rows[:, 1:].reshape(-1, 8, 8, 1) / 255 * (1 if request.param == "uint8" else 0.993)
    np.savez("floats.npz", images=images.astype(np.float32), labels=rows[:, 0].astype(int))
    train(settings(Path("floats.npz"), data={"scale": 255}), Path("s"))
    assert read("s/model.json").preprocessing.pixels == request.param
    return Path("floats.npz")


def test_an_onnx_file_of_a_scaled_run_takes_what_the_files_hold(
    scaled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    assert call("cnnpar", "export", "s", "m.onnx") == 0
    told = "images go in as float32, with the values of your files; the model multiplies them by data.scale = 255"
    assert capsys.readouterr().out.splitlines()[1:] == [told]
    images = np.load(scaled)["images"]
    (found,) = onnxruntime.InferenceSession("m.onnx").run(["probabilities"], {"images": images})
    np.testing.assert_allclose(found, cnnpar.load("s").probabilities(images), rtol=1e-4, atol=1e-6)


def test_weights_of_a_scaled_run_say_their_scale(scaled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.load(scaled)["images"]
    assert said(capsys, "export", "s", "m.npz")["scale"] == 255
    with np.load("m.npz") as archive:
        facts = json.loads(str(archive["cnnpar"]))
    assert facts["scale"] == 255
    assert call("cnnpar", "import", "m.npz", "--like", "r", "--to", "back.json") == 0  # `r` has no scale
    before, after = cnnpar.load("s"), cnnpar.load("back.json")
    assert (after.config.data.scale, after.probabilities(images).tobytes()) == (
        255,
        before.probabilities(images).tobytes(),
    )


@pytest.mark.parametrize("file", ["m.safetensors", "m.npz"])
@pytest.mark.parametrize("layout", ["hwio", "torch", "keras"])
def test_weights_go_out_and_come_back(here: Path, capsys: pytest.CaptureFixture[str], file: str, layout: str) -> None:
    if file.endswith(".safetensors"):
        pytest.importorskip("safetensors")
    assert call("cnnpar", "export", "r/model.json", "--to", file, "--layout", layout) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{file}: ")
    assert f", layout {layout}; opened by " in out
    before = cnnpar.load("r")
    for number, like in enumerate(("r", "tiny.toml")):
        assert said(capsys, "import", file, "--like", like, "--to", f"{number}.json")["arrays"] == 4
        after = cnnpar.load(f"{number}.json")
        assert after.weights.tobytes() == before.weights.tobytes()
        assert (after.class_names, after.history) == (before.class_names, [])


def test_an_imported_checkpoint_is_tested_and_trained_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("cnnpar", "export", "r", "--to", "m.npz")
    assert call("cnnpar", "import", "m.npz", "--like", "r", "--to", "back.json") == 0
    capsys.readouterr()
    assert said(capsys, "test", "back.json", "train.csv") == said(capsys, "test", "r", "train.csv")
    assert call("cnnpar-train", "--resume", "back.json", "--run-dir", "on", "--quiet") == 0
    state = read("on/model.json").state
    assert (state.epoch, state.exact) == (3, True)


def test_an_imported_checkpoint_begins_a_run_of_its_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("cnnpar", "export", "r", "m.npz")
    assert call("cnnpar", "import", "m.npz", "--like", "r", "--to", "back.json") == 0
    assert "\n  cnnpar test back.json\n  cnnpar train --resume back.json\n" in capsys.readouterr().out
    before = {path.name: path.read_bytes() for path in here.iterdir() if path.is_file()}
    for name in ("train-1", "train-2"):
        assert call("cnnpar-train", "--resume", "back.json", "--quiet") == 0
        assert read(f"runs/{name}/model.json").state.epoch == 3
    assert call("cnnpar-train", "--resume", "back.json", "--to-path", "kept/m.json", "--quiet") == 0
    assert (Path("runs/train-3/metrics.jsonl").exists(), Path("kept/m.json").exists()) == (True, True)
    assert {path.name: path.read_bytes() for path in here.iterdir() if path.is_file()} == before
    assert call("cnnpar-train", "--resume", "back.json", "--dry-run", "--quiet") == 0
    assert {path.name for path in Path("runs").iterdir()} == {"train-1", "train-2", "train-3"}


def test_the_weights_of_torch_need_the_layouts_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("cnnpar", "export", "r", "--to", "m.npz", "--layout", "torch")
    with np.load("m.npz") as archive:
        np.savez("silent.npz", **{name: archive[name] for name in archive.files if name != "cnnpar"})
    line = ["cnnpar", "import", "silent.npz", "--like", "r", "--to", "back.json"]
    assert call(*line) == 2
    assert "silent.npz: does not say its layout" in capsys.readouterr().err
    assert call(*line, "--layout", "torch") == 0
    assert cnnpar.load("back.json").weights.tobytes() == cnnpar.load("r").weights.tobytes()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("export r", "which file? Name it behind the model: NAME.onnx"),
        ("export r m.npz --to m.npz", "m.npz and --to: two ways to say the same"),
        ("export r --to m.h5", "m.h5: expected a name that ends in .onnx or .safetensors or .npz"),
        ("export r --to m.npz --layout nchw", "--layout nchw: the layout of .npz files is hwio or torch or keras"),
        ("export r --to m.onnx --layout torch", "--layout torch: the layout of .onnx files is nhwc or nchw"),
        ("export r --to there.npz", "there.npz: exists already; --overwrite replaces it"),
        ("export r --to link.npz", "link.npz: exists already"),
        ("export r --to folder.npz --overwrite", "folder.npz: is a folder"),
        ("export r --to absent/m.npz", "absent/m.npz: there is no folder absent"),
        ("export absent --to m.npz", "absent: cannot read the checkpoint"),
        ("export train.csv --to m.npz", "train.csv: no checkpoint"),
        ("import there.npz --to b.json", "which network is it? --like"),
        ("import there.npz --like r", "which checkpoint shall it be?"),
        ("import there.npz --like r --to b.npz", "--to b.npz: expected NAME.json"),
        ("import there.npz --like r --to r/model.json", "r/model.json: exists already"),
        ("import train.csv --like r --to b.json", "train.csv: expected weights"),
        ("import there.npz --like r --to b.json", "there.npz: not a whole .npz"),
        ("import absent.npz --like r --to b.json", "absent.npz: cannot be read: No such file"),
        ("import other.npz --like r --to b.json", OTHERS),
        ("import other.npz --like r --layout torch --to b.json", "--layout torch: the file says that its layout is hw"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(here: Path, capsys: pytest.CaptureFixture[str], line: str, what: str) -> None:
    Path("there.npz").write_text("precious")
    Path("link.npz").symlink_to("there.npz")
    Path("folder.npz").mkdir()
    arrays = {"conv1.weight": np.zeros((3, 3, 1, 5)), "dense1.weight": np.zeros((8, 3)), "fc.weight": np.zeros(3)}
    np.savez("other.npz", cnnpar='{"layout": "hwio"}', **arrays)  # type: ignore[arg-type]
    names = {path.name for path in here.iterdir()}
    assert call("cnnpar", *line.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert what in err
    assert Path("there.npz").read_text() == "precious"
    assert {path.name for path in here.iterdir()} == names


def test_the_files_own_normalisation_and_classes_are_taken(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("cnnpar", "export", "r", "m.npz")
    train(settings(write_csv(here / "train.csv", seed=1)), here / "other")
    before = cnnpar.load("r")
    images = images_for(Trained.of(read("r/model.json"), ""))
    Path("bare.toml").write_text(SETTINGS.replace('train = "train.csv"', ""))
    told = "m.npz: has another mean and standard deviation than other/model.json; the file's are taken\n"
    Path("train.csv").unlink()
    capsys.readouterr()
    for like, doubt in (("other", told), ("tiny.toml", ""), ("bare.toml", "")):  # which need no data
        assert call("cnnpar", "import", "m.npz", "--like", like, "--to", "b.json", "--overwrite") == 0
        out, err = capsys.readouterr()
        assert err == doubt
        shown = "FILE.toml" if like == "other" else like
        assert out.endswith(f"cnnpar test b.json [DATA]\n  cnnpar train {shown} [DATA] --set model.init_from=b.json\n")
        after = cnnpar.load("b.json")
        assert (after.probabilities(images) == before.probabilities(images)).all()
        assert after.class_names == before.class_names
    write_csv(here / "train.csv")
    assert call("cnnpar-train", "tiny.toml", "--resume", "b.json") == 2
    assert "imported without the data of its weights; --set model.init_from=b.json begins a run with" in (
        capsys.readouterr().err
    )
    assert call("cnnpar-train", "tiny.toml", "--set", "model.init_from=b.json", "--quiet") == 0


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (
            {"image_shape": [6, 6, 1]},
            "is for 6 x 6 x 1 images in 3 classes, and r/model.json for 8 x 8 x 1",
        ),
        (
            {"class_names": ["a", "b"]},
            "in 2 classes, and r/model.json for 8 x 8 x 1 images in 3 classes; name a run",
        ),
        ({"class_names": ["a", "b", "a"]}, "class_names: a name occurs twice"),
        ({"mean": [1, 2]}, "its entry `cnnpar`: `mean` and `std` need one number for each of 1 channels"),
        ({"pixels": "int3"}, "its entry `cnnpar`: Invalid enum value 'int3'"),
        ({"scale": -1}, "its entry `cnnpar` says nothing that is known: Expected `float` > 0.0"),
    ],
)
def test_what_a_file_says_must_fit_together(
    here: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], what: str
) -> None:
    call("cnnpar", "export", "r", "m.npz")
    with np.load("m.npz") as archive:
        arrays = dict(archive)
    arrays["cnnpar"] = np.array(json.dumps({**json.loads(str(arrays["cnnpar"])), **change}))
    np.savez("m.npz", **arrays)
    capsys.readouterr()
    assert call("cnnpar", "import", "m.npz", "--like", "r", "--to", "b.json") == 2
    assert what in capsys.readouterr().err
    assert not Path("b.json").exists()


def test_settings_without_data_say_whose_images_they_take(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = made(cast("Tables", settings(Path()).model.layers), (8, 8, 1), 10)
    np.savez("silent.npz", **cast("dict[str, Any]", network.arrays()))
    Path("bare.toml").write_text(SETTINGS.replace('train = "train.csv"', ""))
    line = ["cnnpar", "import", "silent.npz", "--like", "bare.toml", "--layout", "hwio", "--to", "b.json"]
    assert call(*line) == 0
    told = "bare.toml names no data, so images and classes are those of digits\n"
    assert capsys.readouterr().err == told
    np.savez("silent.npz", **cast("dict[str, Any]", {key: array[..., :3] for key, array in network.arrays().items()}))
    assert call(*line, "--overwrite") == 2
    assert capsys.readouterr().err.endswith(f"; {told}")


def test_overwrite_replaces_a_file(here: Path) -> None:
    Path("m.npz").write_text("old")
    assert call("cnnpar", "export", "r", "--to", "m.npz", "--overwrite") == 0
    assert np.load("m.npz")["conv1.bias"].shape == (2,)


def test_endings_in_capitals_are_the_same_kinds(here: Path) -> None:
    pytest.importorskip("onnx")
    assert call("cnnpar", "export", "r", "M.ONNX") == 0
    assert call("cnnpar", "export", "r", "M.NPZ") == 0
    assert call("cnnpar", "import", "M.NPZ", "--like", "tiny.toml", "--to", "back.json") == 0
    assert cnnpar.load("back.json").weights.tobytes() == cnnpar.load("r").weights.tobytes()


def test_the_runtime_that_is_not_there_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    call("cnnpar", "export", "r", "m.onnx")
    assert capsys.readouterr().out.endswith('onnxruntime.InferenceSession("m.onnx") (pip install onnxruntime)\n')


@pytest.mark.parametrize("package", ["onnx", "safetensors"])
def test_a_missing_package_is_named_with_what_installs_it(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert call("cnnpar", "export", "r", "--to", f"m.{package}") == 2
    told = capsys.readouterr().err
    assert told.endswith(f" .{package} file needs the package {package}: pip install 'cnnpar[{package}]'\n")


def test_a_model_exports_itself_in_the_words_of_python(here: Path) -> None:
    model = cnnpar.load("r")
    assert model.export("m.npz") == Path("m.npz")
    assert np.load("m.npz")["conv1.bias"].tobytes() == model.parameters()["conv1.bias"].tobytes()
    with pytest.raises(InputError, match="exists already; overwrite=True replaces it"):
        model.export("m.npz")
    with pytest.raises(InputError, match=r"layout='nchw': the layout of \.npz files"):
        model.export("m.npz", layout="nchw", overwrite=True)
    model.export("m.npz", layout="torch", overwrite=True)
    assert np.load("m.npz")["conv1.weight"].shape == (2, 1, 3, 3)
