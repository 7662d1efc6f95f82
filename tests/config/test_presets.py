"""Presets: networks of papers, checked against PyTorch, and their use by name in settings and runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnpar.config.presets import PRESETS, preset_layers, preset_of
from cnnpar.config.resolve import read_toml, resolve, to_tables
from cnnpar.errors import InputError
from cnnpar.nn.network import Network
from cnnpar.storage.checkpoint import read
from tests.helpers.commands import call
from tests.helpers.tiny_runs import write_csv

SHAPES = ((28, 28, 1), (32, 32, 1), (32, 32, 3))


def network(name: str, shape: tuple[int, int, int], dtype: Any = np.float32) -> Network:
    return Network.from_tables(preset_layers(name), shape, 10, dtype)


def test_presets_are_lenet_mobilenet_resnets_and_vgg() -> None:
    assert PRESETS == ("lenet5", "mobilenet-small", "resnet20", "resnet8", "vgg-small")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_accepts_mnist_and_cifar_image_sizes(name: str, shape: tuple[int, int, int]) -> None:
    assert network(name, shape).classes == 10


@pytest.mark.parametrize("name", PRESETS)
def test_the_layers_of_a_run_tell_its_preset(name: str) -> None:
    layers = resolve({"model": {"preset": name}}).model.layers
    assert preset_of(layers) == name
    assert preset_of(layers[1:]) is None


@pytest.mark.parametrize("name", PRESETS)
def test_preset_file_states_its_number_of_parameters(name: str) -> None:
    shape = (28, 28, 1) if name == "lenet5" else (32, 32, 3)
    text = (Path(__file__).parents[2] / "cnnpar" / "config" / "presets" / f"{name}.toml").read_text(encoding="utf-8")
    said = f"{network(name, shape).layout.trained:,} parameters for images of {' x '.join(map(str, shape))}"
    assert said in text


def test_preset_is_replaced_by_its_layers_in_the_settings() -> None:
    chosen = resolve({"model": {"preset": "lenet5"}})
    assert list(chosen.model.layers) == preset_layers("lenet5")
    assert resolve(to_tables(chosen)) == chosen
    assert "preset" not in to_tables(chosen)["model"]


def test_assigned_preset_or_layers_replace_those_of_the_file() -> None:
    layers = [{"type": "flatten"}, {"type": "dense"}]
    assert len(resolve({"model": {"layers": layers}}, ["model.preset=lenet5"]).model.layers) == 12
    assert len(resolve({"model": {"preset": "resnet20"}}, ["model.preset=lenet5"]).model.layers) == 12
    assigned = "model.layers=[{type = 'flatten'}, {type = 'dense'}]"
    assert list(resolve({"model": {"preset": "lenet5"}}, [assigned]).model.layers) == layers


def test_run_files_hold_layers_and_resume_accepts_the_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(Path("train.csv"))
    options = ["--run-dir", "r", "--workers", 0, "--quiet", "--set", "model.preset=resnet8"]
    assert call("cnnpar-train", "--train-data", "train.csv", "--epochs", 1, *options) == 0
    model = read_toml("r/config.toml")["model"]
    assert (model["layers"], "preset" in model) == (preset_layers("resnet8"), False)
    assert list(read("r/model.json").config.model.layers) == preset_layers("resnet8")
    assert call("cnnpar-train", "--resume", "r", "--epochs", 2, *options[2:]) == 0
    assert call("cnnpar-train", "--resume", "r", "--epochs", 3, *options[2:-1], "model.preset=resnet20") == 2


@pytest.mark.parametrize(
    ("tables", "assignments", "words"),
    [
        (
            {"preset": "lenet"},
            [],
            ["no preset 'lenet' (did you mean lenet5?); there are lenet5, ", "vgg-small", "run.toml: "],
        ),
        ({"preset": ["lenet5"]}, [], ["run.toml: no preset ['lenet5']"]),
        ({"preset": "lenet5", "layers": []}, [], ["run.toml: ", "model.preset", "model.layers", "one of them"]),
        ({}, ["model.preset=lenet"], ["--set model.preset=lenet: no preset 'lenet'"]),
        ({}, ["model.layers=[]", "model.preset=lenet5"], ["--set model.preset=lenet5: ", "one of them"]),
        ({"presets": "lenet5"}, [], ["run.toml: ", "`presets`", "allowed: layers, preset"]),
    ],
)
def test_wrong_preset_is_refused_with_place_and_reason(
    tables: dict[str, Any], assignments: list[str], words: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        resolve({"model": tables}, assignments, "run.toml")
    for word in words:
        assert word in str(caught.value)


def twins() -> dict[str, Any]:
    """Return by name the same networks in PyTorch, written from the papers and not from the preset files."""
    torch: Any = pytest.importorskip("torch")
    nn = torch.nn

    def normed(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[Any]:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        return [conv, nn.BatchNorm2d(outputs)]

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.main = nn.Sequential(*normed(inputs, outputs, 3, stride), nn.ReLU(), *normed(outputs, outputs))
            self.shortcut = nn.Sequential(*(normed(inputs, outputs, 1, stride) if stride > 1 else []))

        def forward(self, x: Any) -> Any:
            return torch.relu(self.main(x) + self.shortcut(x))

    def resnet(blocks: int) -> Any:
        layers = [*normed(3, 16), nn.ReLU()]
        for before, after in ((16, 16), (16, 32), (32, 64)):
            layers.append(Block(before, after, after // before))
            layers += [Block(after, after, 1) for _ in range(blocks - 1)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))

    def mobilenet() -> Any:
        layers = [*normed(3, 32), nn.ReLU()]
        for inputs, outputs, stride in ((32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1)):
            layers += [*normed(inputs, inputs, 3, stride, inputs), nn.ReLU(), *normed(inputs, outputs, 1), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))

    def vgg() -> Any:
        layers = []
        for before, after in ((3, 32), (32, 64), (64, 128)):
            layers += [*normed(before, after), nn.ReLU(), *normed(after, after), nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(10))

    def lenet() -> Any:
        first = [nn.Conv2d(3, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2)]
        second = [nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()]
        return nn.Sequential(
            *first, *second, nn.LazyLinear(120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)
        )

    return {
        "lenet5": lenet(),
        "mobilenet-small": mobilenet(),
        "resnet20": resnet(3),
        "resnet8": resnet(1),
        "vgg-small": vgg(),
    }


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
@pytest.mark.parametrize("name", PRESETS)
def test_preset_has_as_many_parameters_as_its_twin_in_pytorch(name: str) -> None:
    torch: Any = pytest.importorskip("torch")
    twin = twins()[name]
    twin(torch.zeros(2, 3, 32, 32))
    assert network(name, (32, 32, 3)).layout.trained == sum(p.numel() for p in twin.parameters())


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
@pytest.mark.parametrize("name", ["resnet20", "mobilenet-small"])
def test_loss_and_gradients_of_presets_agree_with_pytorch(name: str) -> None:
    torch: Any = pytest.importorskip("torch")
    ours, twin = network(name, (12, 12, 3), np.float64), twins()[name].double()
    random = np.random.default_rng(0)
    parameters = ours.init(0)
    trained = ours.layout.trained
    parameters[:trained] += 0.05 * random.standard_normal(trained)  # scales and shifts that are not all alike
    views = ours.layout.views(parameters[:trained])
    for own, theirs in zip(views.values(), twin.parameters(), strict=True):  # both in the order of the layers
        theirs.data = torch.from_numpy(own.transpose((3, 2, 0, 1) if own.ndim == 4 else range(own.ndim)[::-1]).copy())

    images, labels = random.standard_normal((5, 12, 12, 3)), random.integers(0, 10, 5)
    gradient = np.empty_like(parameters)
    sums = ours.loss_and_gradient(parameters, images, labels, None, gradient)
    logits = twin(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="sum")
    loss.backward()
    assert sums.loss == pytest.approx(loss.item(), rel=1e-9)
    assert sums.correct == (logits.argmax(dim=1).numpy() == labels).sum()
    for own, theirs in zip(ours.layout.views(gradient[:trained]).values(), twin.parameters(), strict=True):
        expected = theirs.grad.numpy()
        expected = expected.transpose(2, 3, 1, 0) if expected.ndim == 4 else expected.T
        np.testing.assert_allclose(own, expected, rtol=1e-6, atol=1e-8)
