"""The CIFAR-10 recipe on synthetic images: the same weights from npz files and class folders, which generalise."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnpar.config.data import Data
from cnnpar.data.readers import npz
from scripts import make_images as script
from tests.helpers.commands import call

ROOT = Path(__file__).parents[2]


@pytest.fixture
def make_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that writes synthetic images as `npz/` and as `folders/` into the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNPAR_CACHE", "off")

    def make(**options: int) -> Any:
        parts = script.made(**options)
        for name in ("npz", "folders"):
            script.write(Path(name), parts, folders=name == "folders")
        return parts

    return make


def train(
    capsys: pytest.CaptureFixture[str], form: str, *options: object, model: str = "preset=resnet8"
) -> dict[str, Any]:
    """Return the summary of the recipe with the network `model` on images of the form `npz` or `folders`."""
    suffix = ".npz" if form == "npz" else ""
    paths = ["--train-data", f"{form}/train{suffix}", "--test-data", f"{form}/test{suffix}"]
    recipe = ["--config", ROOT / "configs" / "cifar10-resnet.toml", "--set", f"model.{model}", "--workers", 0]
    assert call("cnnpar-train", *recipe, *paths, "--json", *options) == 0
    summary: dict[str, Any] = json.loads(capsys.readouterr().out)
    return summary


def test_made_images_are_a_function_of_the_seed(make_images: Any) -> None:
    first, again, other = (make_images(classes=15, samples=200, side=12, seed=seed) for seed in (0, 0, 1))
    for part, count in (("train", 11), ("test", 2)):
        images, labels = first[part]
        assert (images.dtype, images.shape) == (np.uint8, (15 * count, 12, 12, 3))
        assert labels.tolist() == sorted([*range(15)] * count)
        np.testing.assert_array_equal(images, again[part][0])
        assert (images != other[part][0]).mean() > 0.9
    names = sorted(folder.name for folder in Path("folders/test").iterdir())
    assert names[9:11] == ["09-striped-ring", "10-chequered-disc"]


def test_pictures_and_npz_of_the_same_images_give_equal_weights(
    make_images: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = make_images(classes=3, samples=72, side=12, seed=0)["train"]
    found = npz.read(Path("npz/train.npz"), "train", Data(), lambda *_: None)
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(found.labels, labels)
    summaries = [train(capsys, form, "--epochs", 2, "--batch-size", 32) for form in ("npz", "folders")]
    assert len({summary["weights_sha256"] for summary in summaries}) == 1
    assert len({summary["test_accuracy"] for summary in summaries}) == 1


@pytest.mark.slow
def test_resnet8_learns_the_made_images_and_linear_model_fails(
    make_images: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    make_images(classes=10, samples=6000, side=32, seed=0)
    options = ["--epochs", 6, "--batch-size", 64, "--set", "data.validation=0"]
    summaries = {form: train(capsys, form, *options) for form in ("npz", "folders")}
    linear = "layers=[{type = 'flatten'}, {type = 'dense'}]"
    summaries["linear"] = train(capsys, "npz", *options, "--set", "optimizer.learning_rate=0.005", model=linear)
    accuracies = {name: summary["test_accuracy"] for name, summary in summaries.items()}
    with capsys.disabled():
        print(f"\ntest accuracies {accuracies}")
    assert summaries["npz"]["weights_sha256"] == summaries["folders"]["weights_sha256"]
    assert accuracies["npz"] == accuracies["folders"] > 0.9
    assert accuracies["linear"] < 0.6
