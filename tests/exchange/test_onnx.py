"""ONNX files against onnxruntime and `onnx.reference`: each layer, each preset, pixels of all types."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from cnnpar.config.choices import BinaryCrossEntropy
from cnnpar.config.presets import PRESETS, preset_layers
from cnnpar.errors import InputError
from cnnpar.exchange.export import export
from cnnpar.exchange.trained import Trained
from cnnpar.fingerprint import is_users
from cnnpar.nn.layers import LAYERS, Layer
from cnnpar.nn.network import Network
from tests.helpers.trained_networks import Tables, images_for, logits_of, made, made_for
from tests.nn.layers.test_layers import CASES, convolutions

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from cnnpar.exchange import onnx_layers, onnx_model  # noqa: E402

NETWORK: Tables = [
    {"type": "conv2d", "channels": 4, "stride": 2},
    {"type": "batchnorm2d"},
    {"type": "relu"},
    {"type": "flatten"},
    {"type": "dropout"},
    {"type": "dense"},
]
BY_REFERENCE = ("conv2d", "convtranspose2d", "gelu", "groupnorm", "layernorm", "upsample2d")


def run(content: bytes, images: NDArray[Any]) -> Mapping[str, NDArray[np.float32]]:
    """Return what onnxruntime makes of images, by the names of the outputs."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: images}), strict=True))


def assert_alike(found: NDArray[Any], wanted: NDArray[Any]) -> None:
    """Logits agree within 1e-4, relative to the largest of a sample, and so does the answer, unless two are equal."""
    scale = np.abs(wanted).max(axis=1) + 1e-30
    assert (np.abs(found - wanted) <= 1e-4 * scale[:, np.newaxis]).all()
    chosen = np.take_along_axis(wanted, found.argmax(axis=1, keepdims=True), axis=1)[:, 0]
    assert (wanted.max(axis=1) - chosen <= 1e-6 * scale).all()


def test_every_layer_of_the_package_has_a_converter() -> None:
    assert set(onnx_layers.CONVERTERS) == {tag for tag, layer in LAYERS.items() if not is_users(layer)}


ROWS = [
    pytest.param(kind, table, shape, id=f"{kind}-{table}-{shape}") for kind, table, shapes in CASES for shape in shapes
]


@pytest.mark.parametrize(("kind", "table", "shape"), ROWS)
def test_each_layer_gives_the_same_in_onnxruntime(kind: str, table: dict[str, Any], shape: tuple[int, ...]) -> None:
    trained = made_for(kind, table, shape)
    images = images_for(trained)
    assert_alike(run(onnx_model.encode(trained, "nhwc", "one"), images)["logits"], logits_of(trained, images))


@given(convolutions())
@settings(max_examples=30)
def test_convolutions_of_any_padding_give_the_same(case: tuple[Layer, tuple[int, int, int]]) -> None:
    layer, shape = case
    table = {key: value for key, value in msgspec.to_builtins(layer).items() if key != "name"}
    trained = made_for(table.pop("type"), table, shape)
    images = images_for(trained)
    assert_alike(run(onnx_model.encode(trained, "nhwc", "one"), images)["logits"], logits_of(trained, images))


@pytest.mark.parametrize(("name", "channels"), [*((name, "nhwc") for name in PRESETS), ("resnet8", "nchw")])
def test_each_preset_gives_the_same_in_onnxruntime(name: str, channels: Any) -> None:
    trained = made(preset_layers(name), (32, 32, 3), 10)
    images = images_for(trained, 8)
    given = images if channels == "nhwc" else images.transpose(0, 3, 1, 2)
    found = run(onnx_model.encode(trained, channels, name), np.ascontiguousarray(given))
    assert_alike(found["logits"], logits_of(trained, images))
    network = trained.network
    wanted = network.probabilities(trained.weights, trained.preprocessing.normalise(images))
    np.testing.assert_allclose(found["probabilities"], wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("pixels", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("samples", [1, 7])
def test_images_go_in_as_they_are_in_any_number(pixels: Any, samples: int) -> None:
    trained = made(NETWORK, (7, 6, 3), 4, pixels)
    images = images_for(trained, samples)
    content = onnx_model.encode(trained, "nhwc", "model")
    assert_alike(run(content, images)["logits"], logits_of(trained, images))
    (given,) = onnxruntime.InferenceSession(content).get_inputs()
    assert (given.name, given.shape[1:], images.dtype.name) == ("images", [7, 6, 3], pixels)


@pytest.mark.parametrize("channels", ["nhwc", "nchw"])
@pytest.mark.parametrize("pixels", ["uint8", "float32"])
def test_scaled_images_go_in_as_the_files_have_them(pixels: Any, channels: Any) -> None:
    from onnx.reference import ReferenceEvaluator

    trained = made(NETWORK, (7, 6, 3), 4, pixels, scale=255)
    wanted = images_for(trained)
    images = (wanted / np.float32(255)).astype(np.float32)
    given = np.ascontiguousarray(images if channels == "nhwc" else images.transpose(0, 3, 1, 2))
    content = onnx_model.encode(trained, channels, "model")
    assert_alike(run(content, given)["logits"], logits_of(trained, wanted))
    assert_alike(
        ReferenceEvaluator(onnx.load_model_from_string(content)).run(["logits"], {"images": given})[0],
        logits_of(trained, wanted),
    )
    said = {one.key: one.value for one in onnx.load_model_from_string(content).metadata_props}
    assert said["scale"] == "255"


@pytest.mark.parametrize(("kind", "table", "shape"), [row for row in CASES if row[0] in BY_REFERENCE])
def test_the_reference_implementation_gives_the_same(kind: str, table: dict[str, Any], shape: Any) -> None:
    from onnx.reference import ReferenceEvaluator

    trained = made_for(kind, table, shape[0])
    images = images_for(trained)
    model = onnx.load_model_from_string(onnx_model.encode(trained, "nhwc", "one"))
    assert_alike(ReferenceEvaluator(model).run(["logits"], {"images": images})[0], logits_of(trained, images))


def test_a_binary_loss_gives_each_class_its_own_probability() -> None:
    trained = made(NETWORK, (6, 6, 1), 4, loss=BinaryCrossEntropy())
    images = images_for(trained)
    found = run(onnx_model.encode(trained, "nhwc", "model"), images)["probabilities"]
    wanted = trained.network.probabilities(trained.weights, trained.preprocessing.normalise(images))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    assert not np.allclose(found.sum(axis=1), 1)


def test_the_file_says_versions_classes_and_digest(tmp_path: Path) -> None:
    trained = made(NETWORK, (6, 6, 1))
    export(trained, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, [(one.domain, one.version) for one in model.opset_import]) == (8, [("", 17)])
    said = {one.key: one.value for one in model.metadata_props}
    assert json.loads(said["class_names"]) == ["class 0", "class 1", "class 2", "class 3"]
    assert said["weights_sha256"] == trained.weights_sha256
    assert {one.name for one in model.graph.initializer} >= {"conv1.weight", "batchnorm1.variance", "dense1.bias"}


def test_two_exports_are_the_same_bytes() -> None:
    trained = made(NETWORK, (6, 6, 1))
    assert onnx_model.encode(trained, "nhwc", "model") == onnx_model.encode(trained, "nhwc", "model")


def test_names_of_layers_and_of_the_graph_do_not_meet() -> None:
    norm: Tables = [{"type": "batchnorm2d", "name": "images"}]  # whose mean is images.mean
    tables: Tables = [*norm, {"type": "flatten", "name": "probabilities"}, {"type": "dense", "name": "logits"}]
    trained = made(tables, (3, 3, 1))
    images = images_for(trained)
    assert_alike(run(onnx_model.encode(trained, "nhwc", "model"), images)["logits"], logits_of(trained, images))


def test_a_layer_of_the_users_is_refused_by_name() -> None:
    class Own(Layer, frozen=True, tag="own"):
        """Some layer."""

    trained = made(NETWORK, (6, 6, 1))
    network = Network([Own(name="mine"), *trained.network.layers], (6, 6, 1), np.float32, trained.loss, (), "fast")
    own = Trained(network, trained.weights, trained.preprocessing, trained.loss, "", 1.0)
    with pytest.raises(InputError, match=r"mine: a layer of your own \(type own\)"):
        onnx_model.encode(own, "nhwc", "model")
