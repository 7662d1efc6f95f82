"""The whole network: layout and names of its parameters, gradients, and what must leave them unchanged."""

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cnnpar.config.choices import MSE, BinaryCrossEntropy, CrossEntropy, Hinge, Loss
from cnnpar.config.sections import DEFAULT_LAYERS
from cnnpar.errors import InputError
from cnnpar.nn import chain
from cnnpar.nn.conv import winograd
from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Array
from cnnpar.nn.sums import Sums
from cnnpar.nn.tables import check_statistics
from cnnpar.nn.workspace import Workspace

CONV: dict[str, Any] = {"type": "conv2d", "channels": 3}
UP: dict[str, Any] = {"type": "convtranspose2d", "channels": 3}
RELU: dict[str, Any] = {"type": "relu"}
POOL: dict[str, Any] = {"type": "maxpool2d"}
NORM: dict[str, Any] = {"type": "batchnorm2d"}
FLATTEN: dict[str, Any] = {"type": "flatten"}
DENSE: dict[str, Any] = {"type": "dense"}
EVERYTHING: list[dict[str, Any]] = [
    {"type": "conv2d", "channels": 3},
    {"type": "leakyrelu"},
    {"type": "avgpool2d", "size": 2, "stride": 1},
    {"type": "conv2d", "channels": 4, "kernel": [3, 2], "stride": [2, 1], "padding": "valid", "init": "glorot"},
    {"type": "sigmoid"},
    {"type": "conv2d", "channels": 3, "bias": False, "padding": 1},
    RELU,
    POOL,
    {"type": "residual", "layers": [RELU, {**CONV, "channels": 2}], "shortcut": [{**CONV, "kernel": 1, "channels": 2}]},
    FLATTEN,
    {"type": "dense", "units": 7},
    {"type": "tanh"},
    {"type": "dropout", "rate": 0.5},
    DENSE,
]
NORMALISED: list[dict[str, Any]] = [  # and what EVERYTHING has not
    {"type": "conv2d", "channels": 4, "stride": 3},
    {"type": "groupnorm", "groups": 2},
    {"type": "gelu"},
    {"type": "upsample2d", "factor": [2, 1], "mode": "bilinear"},
    {"type": "layernorm"},
    {"type": "silu"},
    {"type": "conv2d", "channels": 6, "kernel": 1},
    {"type": "upsample2d"},
    {"type": "softmax"},
    {"type": "globalavgpool2d"},
    {"type": "layernorm", "epsilon": 0.1},
    {"type": "elu"},
    DENSE,
]
both = pytest.mark.parametrize("tables", [EVERYTHING, NORMALISED], ids=["everything", "normalised"])

WIDER: list[dict[str, Any]] = [
    {"type": "conv2d", "channels": 6, "groups": 2},
    {"type": "conv2d", "channels": 12, "groups": 2, "dilation": 2},
    {"type": "conv2d", "channels": 18, "kernel": 1},
    {"type": "conv2d", "channels": 18, "groups": 18, "stride": 2},
    {"type": "convtranspose2d", "channels": 5, "stride": 2, "output_padding": 1},
    {"type": "convtranspose2d", "channels": 4, "kernel": 4},
    FLATTEN,
    DENSE,
]


@pytest.fixture(autouse=True, scope="module")
def winograd_wherever_possible() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "_FEWEST", 0)  # however small
        yield


def everything(dtype: Any = np.float64, tables: list[dict[str, Any]] = EVERYTHING) -> Network:
    return Network.from_tables(tables, (9, 8, 2), 3, dtype)


def batch(network: Network, samples: int, seed: int = 0) -> tuple[Array, Any]:
    random = np.random.default_rng(seed)
    images = random.standard_normal((samples, *network.input_shape)).astype(network.dtype)
    return images, random.integers(0, network.classes, samples)


def generators(seed: int) -> Any:
    return lambda layer: np.random.Generator(np.random.Philox(key=[seed, layer]))


def gradient(network: Network, parameters: Array, images: Array, labels: Any, rng: Any = None) -> tuple[Sums, Array]:
    out = np.full_like(parameters, np.nan)
    return network.loss_and_gradient(parameters, images, labels, rng, out), out


@pytest.mark.parametrize(
    ("tables", "rng"),
    [
        pytest.param(EVERYTHING, None, marks=pytest.mark.slow),
        (EVERYTHING, generators(5)),
        pytest.param(NORMALISED, None, marks=pytest.mark.slow),
    ],
)
def test_gradient_is_the_finite_difference_of_the_loss(tables: Any, rng: Any) -> None:
    network = everything(tables=tables)
    parameters, (images, labels), step = network.init(3), batch(network, 4), 1e-5
    sums, found = gradient(network, parameters, images, labels, rng)
    assert sums.count == 4
    for place in range(network.layout.size):
        near = np.zeros_like(parameters)
        near[place] = step
        rise = [gradient(network, parameters + sign * near, images, labels, rng)[0].loss for sign in (1, -1)]
        assert found[place] == pytest.approx((rise[0] - rise[1]) / (2 * step), rel=1e-5, abs=1e-7)


@both
def test_gradient_of_a_batch_is_the_sum_over_its_samples(tables: Any) -> None:
    network = everything(tables=tables)
    parameters, (images, labels) = network.init(0), batch(network, 5)
    sums, whole = gradient(network, parameters, images, labels)
    parts = [gradient(network, parameters, images[i : i + 1], labels[i : i + 1]) for i in range(5)]
    np.testing.assert_allclose(whole, sum(part for _, part in parts), rtol=1e-10, atol=1e-12)
    assert sums.loss == pytest.approx(sum(part.loss for part, _ in parts), rel=1e-12)
    assert sums.correct == sum(part.correct for part, _ in parts)


@both
def test_earlier_batches_leave_the_gradient_unchanged(tables: Any) -> None:
    used, fresh = everything(np.float32, tables), everything(np.float32, tables)
    parameters = used.init(0)
    for samples in (4, 1, 7, 4, 2, 3, 5):  # more sizes than are kept
        gradient(used, parameters * samples, *batch(used, samples, seed=samples), generators(samples))
    images, labels = batch(used, 4)
    gradient(used, parameters, images * np.nan, labels, generators(0))
    used.loss(parameters, images * np.inf, labels)
    sums, found = gradient(used, parameters, images, labels, generators(9))
    assert np.isfinite(found).all()
    expected_sums, expected = gradient(fresh, parameters, images, labels, generators(9))
    assert sums == expected_sums
    assert found.tobytes() == expected.tobytes()


def test_pickled_network_computes_the_same_bits() -> None:
    network = everything(np.float32)
    parameters, (images, labels) = network.init(0), batch(network, 6)
    expected_sums, expected = gradient(network, parameters, images, labels, generators(1))
    sent = pickle.loads(pickle.dumps(network))  # no copy would lay its workspaces out in memory as they are
    sums, found = gradient(sent, parameters, images, labels, generators(1))
    assert sums == expected_sums
    assert found.tobytes() == expected.tobytes()


def test_workspaces_are_kept_for_the_last_few_sizes_only() -> None:
    network = everything(np.float32)
    parameters = network.init(0)
    for samples in (3, *range(1, 20), 3, 3):
        network.loss(parameters, *batch(network, samples))
    assert list(network._kept) == [17, 18, 19, 3]


@pytest.mark.parametrize("tables", [EVERYTHING, NORMALISED, WIDER], ids=["everything", "normalised", "wider"])
def test_memory_alignment_leaves_the_gradient_unchanged(tables: list[dict[str, Any]]) -> None:
    network = everything(np.float32, tables)
    parameters, (images, labels) = network.init(0), batch(network, 6)
    _, expected = gradient(network, parameters, images, labels)
    for shift in range(1, 16):  # 4 bytes each: every alignment within a cache line
        moved = np.empty(parameters.size + shift, np.float32)[shift:]
        moved[...] = parameters
        out = np.empty(parameters.size + shift, np.float32)[shift:]
        pixels = np.empty(images.size + shift, np.float32)[shift:].reshape(images.shape)
        pixels[...] = images
        everything(np.float32, tables).loss_and_gradient(moved, pixels, labels, None, out)
        assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kernel", [3, 2], ids=["winograd", "banded"])
def test_parameters_that_change_are_seen_in_every_pass(kernel: int) -> None:
    conv = {"type": "conv2d", "channels": 8, "kernel": kernel}
    network = Network.from_tables(
        [conv, RELU, POOL, conv, {"type": "residual", "layers": [conv]}, FLATTEN, DENSE], (16, 16, 1), 3
    )
    images, labels = batch(network, 4)
    shared = network.init(0)  # as a worker has them: written to from elsewhere, and read-only for a step
    for seed in range(3):
        shared[...] = network.init(seed)
        for samples in (4, 2, 4):
            expected = gradient(
                Network.from_tables(network.tables(), (16, 16, 1), 3),
                network.init(seed),
                images[:samples],
                labels[:samples],
            )
            fixed = shared.view()
            fixed.flags.writeable = False
            for parameters in (shared, fixed, fixed):
                sums, found = gradient(network, parameters, images[:samples], labels[:samples])
                assert sums == expected[0]
                assert np.array_equal(found, expected[1])


FUSED: list[tuple[list[dict[str, Any]], list[str]]] = [  # layers, and what of them is run
    ([RELU, POOL], ["RectifiedPool"]),
    ([POOL, RELU], ["RectifiedPool"]),
    ([RELU, {"type": "maxpool2d", "size": 3, "stride": 2}], ["RectifiedPool"]),
    ([CONV, POOL], ["ConvPool"]),
    ([CONV, RELU, POOL], ["ConvPool"]),
    ([CONV, POOL, RELU], ["ConvPool"]),
    ([CONV, {"type": "maxpool2d", "size": 3, "stride": 2}], ["Conv2D", "MaxPool2D"]),
    (
        [{**CONV, "bias": False, "stride": 2, "kernel": [2, 3]}, RELU, {"type": "maxpool2d", "size": [2, 3]}],
        ["ConvPool"],
    ),
    ([{**CONV, "dilation": 2}, RELU, POOL], ["Conv2D", "RectifiedPool"]),
    ([CONV, {**CONV, "groups": 3}, POOL], ["Conv2D", "Conv2D", "MaxPool2D"]),
    ([CONV, {**CONV, "groups": 3, "channels": 12}, RELU, POOL], ["Conv2D", "Conv2D", "RectifiedPool"]),
    ([{**CONV, "kernel": 1}, RELU, POOL], ["Conv2D", "RectifiedPool"]),
    ([UP, POOL], ["ConvTranspose2D", "MaxPool2D"]),
    ([CONV, NORM, RELU], ["Conv2D", "NormReLU"]),
    ([CONV, NORM, POOL], ["Conv2D", "NormPool"]),
    ([CONV, NORM, RELU, POOL], ["Conv2D", "NormPool"]),
    ([CONV, NORM, POOL, RELU], ["Conv2D", "NormPool"]),
    ([CONV, NORM, {"type": "maxpool2d", "size": 2, "stride": 3}, RELU], ["Conv2D", "NormPool"]),
    ([NORM, {"type": "maxpool2d", "size": 3, "stride": 2}], ["BatchNorm2D", "MaxPool2D"]),
    ([CONV, RELU, CONV, RELU, POOL], ["ConvPool", "ConvPool"]),
    ([CONV, RELU, POOL, CONV, POOL, RELU, CONV], ["ConvPool", "ConvPool", "Conv2D"]),
    ([CONV, RELU, POOL, POOL], ["ConvPool", "MaxPool2D"]),
    ([{"type": "leakyrelu"}, POOL, {"type": "avgpool2d"}, RELU], ["LeakyReLU", "MaxPool2D", "AvgPool2D", "ReLU"]),
]


@pytest.mark.parametrize(("tables", "names"), FUSED)
def test_fused_layers_agree_with_the_same_layers_run_singly(
    tables: list[dict[str, Any]], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fused_network = Network.from_tables([*tables, FLATTEN, DENSE], (10, 9, 1), 2, np.float64)
    assert [type(run.layer).__name__ for run in fused_network.chain.runs] == [*names, "Flatten", "Dense"]
    monkeypatch.setattr(chain, "fused", lambda *_: None)
    plain = Network.from_tables([*tables, FLATTEN, DENSE], (10, 9, 1), 2, np.float64)
    assert [run.place for run in plain.chain.runs] == list(range(len(plain.layers)))
    assert fused_network.layers == plain.layers  # what people see
    parameters = plain.init(0)
    parameters += np.random.default_rng(1).standard_normal(parameters.shape) / 10
    for name, view in plain.layout.views(parameters).items():
        if name.endswith("scale"):
            view[0] *= -1  # order is turned around
        if name.endswith("variance"):
            view[...] = 2.0
    images, labels = batch(plain, 5)
    images[:, :4] = 0  # whole windows of equal and of negative numbers
    sums, found = gradient(fused_network, parameters, images, labels)
    expected_sums, expected = gradient(plain, parameters, images, labels)
    assert sums.loss == pytest.approx(expected_sums.loss, rel=1e-12)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
    assert fused_network.loss(parameters, images, labels).loss == pytest.approx(
        plain.loss(parameters, images, labels).loss, rel=1e-12
    )


def test_dropout_is_keyed_by_layer_and_off_in_evaluation() -> None:
    network = everything(np.float32)
    parameters, (images, labels) = network.init(0), batch(network, 6)
    asked: list[int] = []

    def rng(layer: int) -> np.random.Generator:
        asked.append(layer)
        return np.random.default_rng(1)

    train, _ = gradient(network, parameters, images, labels, rng)
    assert asked == [EVERYTHING.index({"type": "dropout", "rate": 0.5})]  # no other layer needs one
    evaluation = network.loss(parameters, images, labels)
    assert train.loss != evaluation.loss
    assert evaluation == gradient(network, parameters, images, labels, None)[0]
    assert evaluation == network.loss(parameters, images, labels)


def test_class_weights_must_match_the_number_of_classes() -> None:
    with pytest.raises(InputError, match=r"loss\.class_weights: 2 numbers, but there are 3 classes"):
        Network.from_tables(EVERYTHING, (9, 8, 2), 3, loss=CrossEntropy(class_weights=(1.0, 2.0)))


@pytest.mark.parametrize("loss", [CrossEntropy(label_smoothing=0.2), MSE(), BinaryCrossEntropy(), Hinge()])
def test_gradient_is_that_of_the_configured_loss(loss: Loss) -> None:
    network = Network.from_tables([CONV, {"type": "tanh"}, FLATTEN, DENSE], (4, 4, 1), 3, np.float64, loss)
    parameters, (images, labels) = network.init(0), batch(network, 5)
    _, found = gradient(network, parameters, images, labels)
    direction, step = np.random.default_rng(0).standard_normal(parameters.shape), 1e-6
    rise = [network.loss(parameters + sign * step * direction, images, labels).loss for sign in (1, -1)]
    assert found @ direction == pytest.approx((rise[0] - rise[1]) / (2 * step), rel=1e-6)


def test_mixed_labels_weight_loss_and_gradient_by_their_shares() -> None:
    network = everything()
    parameters, (images, labels) = network.init(0), batch(network, 5)
    others, shares = (labels + 1) % 3, np.array([1.0, 0.9, 0.5, 0.2, 0.0])
    found = np.empty_like(parameters)
    sums = network.loss_and_gradient(parameters, images, labels, None, found, (others, shares))
    losses, gradients = [], []
    for n, share in enumerate(shares):
        for label, weight in ((labels[n], share), (others[n], 1 - share)):
            one, part = gradient(network, parameters, images[n : n + 1], np.array([label]))
            losses.append(weight * one.loss)
            gradients.append(weight * part)
    assert sums.loss == pytest.approx(sum(losses), rel=1e-12)
    np.testing.assert_allclose(found, sum(gradients), rtol=1e-9, atol=1e-12)
    p = network.probabilities(parameters, images).argmax(axis=1)
    assert sums.correct == (p == np.where(shares >= 0.5, labels, others)).sum()


def test_final_softmax_leaves_cross_entropy_training_unchanged() -> None:
    tables = [CONV, {"type": "tanh"}, FLATTEN, DENSE]
    plain, ended = (Network.from_tables([*tables, *end], (4, 4, 1), 3) for end in ([], [{"type": "softmax"}]))
    parameters, (images, labels) = plain.init(0), batch(plain, 5)
    assert (
        gradient(ended, parameters, images, labels)[1].tobytes()
        == gradient(plain, parameters, images, labels)[1].tobytes()
    )
    assert ended.probabilities(parameters, images).tobytes() == plain.probabilities(parameters, images).tobytes()
    assert Network.from_tables(ended.tables(), (4, 4, 1), 3).layers == ended.layers
    with pytest.raises(InputError, match=r"layer 5 \(softmax1\): .*cross_entropy, and this one is mse"):
        Network.from_tables([*tables, {"type": "softmax"}], (4, 4, 1), 3, loss=MSE())


def test_batchnorm_of_1x1_images_is_refused_unless_frozen() -> None:
    norm = {"type": "residual", "layers": [{**CONV, "kernel": 1}, NORM], "shortcut": [{**CONV, "kernel": 1}]}
    for layer, name in ((NORM, "batchnorm1"), (norm, "residual1.batchnorm1")):
        tables = [POOL, layer, FLATTEN, DENSE]
        network = Network.from_tables(tables, (2, 2, 1), 3, freeze=[f"{name}.scale"])
        with pytest.raises(InputError, match=rf"^{name}: its input is \(1, 1, .\): in a microbatch of one sample"):
            check_statistics(network.layers, network.input_shape, network.layout.frozen)
        network = Network.from_tables(tables, (2, 2, 1), 3, freeze=[name])
        check_statistics(network.layers, network.input_shape, network.layout.frozen)
    network = Network.from_tables([NORM, FLATTEN, DENSE], (2, 1, 1), 3)
    check_statistics(network.layers, network.input_shape, network.layout.frozen)


def test_gradient_of_the_images_is_not_computed() -> None:
    network = Network.from_tables([RELU, CONV, FLATTEN, DENSE], (4, 4, 1), 2)
    parameters, (images, labels) = network.init(0), batch(network, 3)
    gradient(network, parameters, images, labels)
    work: list[Workspace] = network._workspaces(3, parameters)
    assert "dx" not in work[0]._arrays
    assert "dx" not in work[1]._arrays
    assert "dx" in work[3]._arrays


def test_probabilities_match_the_loss() -> None:
    network = everything()
    parameters, (images, labels) = network.init(1), batch(network, 6)
    p = network.probabilities(parameters, images)
    assert p.shape == (6, 3)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    sums = network.loss(parameters, images, labels)
    assert sums.loss == pytest.approx(-np.log(p[np.arange(6), labels]).sum())
    assert sums.correct == (p.argmax(axis=1) == labels).sum()


@both
def test_empty_batch_gives_zero_sums_and_zero_gradient(tables: Any) -> None:
    network = everything(np.float32, tables)
    parameters, (images, labels) = network.init(0), batch(network, 0)
    sums, found = gradient(network, parameters, images, labels)
    assert sums == network.loss(parameters, images, labels) == Sums(0.0, 0, 0)
    assert not found.any()
    assert network.probabilities(parameters, images).shape == (0, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_reach_the_loss_without_a_warning(bad: float) -> None:
    network = Network.from_tables(DEFAULT_LAYERS, (8, 8, 1), 10)
    images, labels = batch(network, 4)
    images[2, 3, 3, 0] = bad
    sums, _ = gradient(network, network.init(0), images, labels, generators(0))
    assert not np.isfinite(sums.loss)
    parameters = network.init(0)
    parameters[network.layout.parameters[2].offset] = bad
    assert not np.isfinite(network.loss(parameters, batch(network, 16)[0], batch(network, 16)[1]).loss)


def test_layout_names_parameters_and_its_views_tile_the_vector() -> None:
    network = Network.from_tables(DEFAULT_LAYERS, (8, 8, 1), 10)
    assert [(name, shape) for name, shape, _ in network.layout.parameters] == [
        ("conv1.weight", (3, 3, 1, 16)),
        ("conv1.bias", (16,)),
        ("conv2.weight", (3, 3, 16, 32)),
        ("conv2.bias", (32,)),
        ("dense1.weight", (128, 64)),
        ("dense1.bias", (64,)),
        ("dense2.weight", (64, 10)),
        ("dense2.bias", (10,)),
    ]
    vector = np.zeros(network.layout.size, np.float32)
    for number, view in enumerate(network.layout.views(vector).values(), 1):
        assert not view.any()  # no overlap
        view[...] = number
    assert vector.all()  # and no gap
    assert (np.diff(vector) >= 0).all()


def test_views_refuse_a_vector_of_wrong_size_or_stride() -> None:
    network = everything()
    for vector in (np.zeros(network.layout.size + 1), np.zeros(2 * network.layout.size)[::2]):
        with pytest.raises(ValueError, match=f"contiguous vector of {network.layout.size}"):
            network.layout.views(vector)


def test_resolved_tables_make_the_same_network() -> None:
    network = everything()
    tables = network.tables()
    assert tables[0]["name"] == "conv1"
    assert tables[-1] == {"type": "dense", "name": "dense2", "units": 3, "init": "he"}
    assert [table["name"] for table in tables][5:9] == ["conv3", "relu1", "maxpool1", "residual1"]
    again = Network.from_tables(tables, network.input_shape, network.classes)
    assert again.tables() == tables
    assert again.layers == network.layers
    assert again.layout == network.layout


def test_a_network_with_nothing_to_train_is_refused() -> None:
    with pytest.raises(InputError, match="has 0 parameters"):
        Network.from_tables([{**POOL, "size": [5, 3]}, FLATTEN], (5, 6, 1), 2)


def test_automatic_layer_names_avoid_given_names() -> None:
    second = {**CONV, "name": "conv2"}
    network = Network.from_tables([second, CONV, CONV, FLATTEN, DENSE], (4, 4, 1), 2)
    assert [layer.name for layer in network.layers[:3]] == ["conv2", "conv3", "conv4"]
    assert Network.from_tables(network.tables(), (4, 4, 1), 2).layers == network.layers


def test_nan_outputs_never_count_as_correct() -> None:
    network = Network.from_tables([FLATTEN, DENSE], (1, 1, 1), 2)
    vector = np.zeros(network.layout.size, np.float32)
    network.layout.views(vector)["dense1.weight"][...] = [1, 2]
    images = np.array([np.nan, 1, np.nan, -1], np.float32).reshape(4, 1, 1, 1)
    sums = network.loss(vector, images, np.array([0, 1, 1, 1]))
    assert (sums.correct, sums.count) == (1, 4)


def test_given_names_stay_and_name_the_parameters() -> None:
    network = Network.from_tables([{**CONV, "name": "stem"}, FLATTEN, {**DENSE, "name": "head"}], (4, 4, 1), 2)
    assert [entry.name for entry in network.layout.parameters] == [
        "stem.weight",
        "stem.bias",
        "head.weight",
        "head.bias",
    ]


def test_initial_weights_depend_on_seed_and_layer_only() -> None:
    network, longer = everything(), Network.from_tables([*EVERYTHING, RELU, {**DENSE, "units": 3}], (9, 8, 2), 3)
    start = network.init(4)
    assert start.tobytes() == network.init(4).tobytes()
    assert start.astype(np.float32).tobytes() == longer.init(4)[: start.size].tobytes()
    assert (start != network.init(5)).any()
    views = [view.ravel() for view in network.layout.views(start).values() if view.any()]
    assert len({round(view[1] / view[0], 6) for view in views}) == len(
        views
    )  # no two streams, up to scale, are the same


def test_initial_weights_have_he_or_glorot_variance_zero_biases() -> None:
    tables = [
        {"type": "conv2d", "channels": 40, "kernel": 5},
        FLATTEN,
        {"type": "dense", "units": 100, "init": "glorot"},
        DENSE,
    ]
    network = Network.from_tables(tables, (6, 6, 20), 10)
    views = network.layout.views(network.init(0))
    assert views["conv1.weight"].std() == pytest.approx(np.sqrt(2 / (5 * 5 * 20)), rel=0.03)
    limit = np.sqrt(6 / (6 * 6 * 40 + 100))
    assert np.abs(views["dense1.weight"]).max() == pytest.approx(limit, rel=0.01)
    assert views["dense1.weight"].std() == pytest.approx(limit / np.sqrt(3), rel=0.03)
    assert not views["conv1.bias"].any()


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ([{"type": "conv3d"}], ["layer 1", "unknown type 'conv3d'", "conv2d", "dropout"]),
        ([{"channels": 3}], ["layer 1", "no `type`", "conv2d"]),
        ([{"type": ["relu"]}], ["layer 1", "unknown type ['relu']"]),
        ([{**CONV, "channel": 3}], ["layer 1 (conv2d)", "unknown key 'channel'", "channels", "kernel", "padding"]),
        ([{"type": "conv2d"}], ["layer 1 (conv2d)", "missing key `channels`"]),
        ([CONV, {**CONV, "kernel": "big"}], ["layer 2 (conv2d)", "expected", "got `str`", "`kernel`"]),
        ([{**CONV, "kernel": [3, 0]}], ["layer 1 (conv2d)", "`kernel` must be at least 1"]),
        ([{**CONV, "stride": 0}], ["layer 1 (conv2d)", "`stride` must be at least 1"]),
        ([{**CONV, "padding": -1}], ["layer 1 (conv2d)", "`padding` must be at least 0"]),
        ([{**CONV, "padding": "full"}], ["layer 1 (conv2d)", "'full'", "`padding`", "same, valid"]),
        ([{**CONV, "init": "xavier"}], ["layer 1 (conv2d)", "'xavier'", "`init`", "he, glorot"]),
        ([{**CONV, "kernel": [3, 3, 3]}], ["layer 1 (conv2d)", "length 2", "`kernel`"]),
        ([{**CONV, "groups": 0}], ["layer 1 (conv2d)", "`groups`", ">= 1"]),
        ([{**CONV, "dilation": [1, 0]}], ["layer 1 (conv2d)", "`dilation` must be at least 1"]),
        (
            [{**CONV, "channels": 8}, {**CONV, "groups": 3}],
            ["layer 2 (conv2)", "`groups` is 3", "(5, 6, 8)", "3 channels"],
        ),
        (
            [{**CONV, "channels": 8}, {**CONV, "groups": 4}],
            ["layer 2 (conv2)", "`groups` is 4", "(5, 6, 8)", "3 channels"],
        ),
        ([{**CONV, "dilation": 3, "padding": 0}], ["layer 1 (conv1)", "3 x 3 pixels, 3 x 3 apart", "(5, 6, 1)"]),
        ([{**CONV, "dilation": 10**6}, FLATTEN, DENSE], ["layer 1 (conv1)", "(2000005, 2000006, 1)", "zeros around"]),
        ([{**UP, "stride": 2, "output_padding": [1, 2]}], ["layer 1 (convtranspose2d)", "less than `stride`"]),
        ([{**UP, "padding": [0, 4]}], ["layer 1 (convtranspose1)", "(0, 4)", "(7, 0)", "(5, 6, 1)"]),
        ([FLATTEN, UP], ["layer 2 (convtranspose1)", "(30,)", "before `flatten`"]),
        ([{**UP, "stride": 10**6}], ["layer 1 (convtranspose1)", "(4000003, 5000003, 3)"]),
        (
            [CONV, FLATTEN, {**DENSE, "units": 10**12}, DENSE],
            ["95,000,000,000,034 parameters", "`channels`", "`units`"],
        ),
        ([{**POOL, "size": 0}], ["layer 1 (maxpool2d)", "`size` must be at least 1"]),
        ([{**POOL, "stride": [1, 0]}], ["layer 1 (maxpool2d)", "`stride` must be at least 1"]),
        ([{"type": "dropout", "rate": 1.0}], ["layer 1 (dropout)", "`rate`", "< 1"]),
        ([{"type": "elu", "alpha": -1}], ["layer 1 (elu)", "`alpha`", ">= 0"]),
        ([{"type": "groupnorm"}], ["layer 1 (groupnorm)", "missing key `groups`"]),
        (
            [{**CONV, "channels": 6}, {"type": "groupnorm", "groups": 4}],
            ["layer 2 (groupnorm1)", "4 groups", "6 channels"],
        ),
        ([{"type": "upsample2d", "factor": [2, 0]}], ["layer 1 (upsample2d)", "`factor` must be at least 1"]),
        ([{"type": "upsample2d", "mode": "cubic"}], ["layer 1 (upsample2d)", "`mode`", "nearest, bilinear"]),
        ([FLATTEN, {"type": "upsample2d"}], ["layer 2 (upsample1)", "(30,)", "before `flatten`"]),
        ([FLATTEN, {"type": "globalavgpool2d"}], ["layer 2 (globalavgpool1)", "(30,)", "before `flatten`"]),
        ([CONV, {"type": "globalavgpool2d"}], ["layer 2 (globalavgpool1)", "(3,)", "4 classes", "dense"]),
        (
            [{"type": "upsample2d", "factor": 10**4}, FLATTEN, DENSE],
            ["12,000,000,004 parameters", "`channels`", "`units`"],
        ),
        (
            [{"type": "upsample2d", "factor": 10**4}, CONV, {"type": "globalavgpool2d"}, DENSE],
            ["layer 1", "pool before it"],
        ),
        ([{"type": "dense", "units": 0}], ["layer 1 (dense)", "`units`", ">= 1"]),
        ([{**RELU, "name": "a.b"}], ["layer 1 (relu)", "`name`"]),
        ([{**CONV, "name": "c"}, {**CONV, "name": "c"}], ["layer 2 (c)", "layer 1 has the same name"]),
        ([CONV, DENSE], ["layer 2 (dense1)", "(5, 6, 3)", "flatten"]),
        ([FLATTEN, CONV], ["layer 2 (conv1)", "(30,)", "before `flatten`"]),
        ([FLATTEN, POOL], ["layer 2 (maxpool1)", "(30,)", "before `flatten`"]),
        ([POOL, POOL, POOL], ["layer 3 (maxpool3)", "2 x 2", "(1, 1, 1)"]),
        ([{**CONV, "kernel": [6, 2], "padding": "valid"}], ["layer 1 (conv1)", "6 x 2", "(5, 6, 1)"]),
        (
            [{"type": "residual", "layers": [{**CONV, "stride": 2}, RELU]}],
            ["layer 1 (residual1)", "(5, 6, 1)", "(3, 3, 3)", "`shortcut`"],
        ),
        (
            [{"type": "residual", "layers": [FLATTEN, CONV]}],
            ["layer 1 (residual1)", "its layer 2 (conv1)", "(30,)", "before `flatten`"],
        ),
        (
            [{"type": "residual", "layers": [], "shortcut": [RELU, {**CONV, "depth": 3}]}],
            ["layer 1 (residual1), shortcut: layer 2 (conv2d)", "unknown key 'depth'"],
        ),
        (
            [{"type": "residual", "layers": [{**CONV, "name": "shortcut"}]}],
            ["layer 1 (residual1), layers: layer 1", "`shortcut`", "another"],
        ),
        ([{"type": "residual", "layers": [3]}], ["layer 1 (residual1), layers: layer 1", "3 is no table"]),
        ([{"type": "residual"}], ["layer 1 (residual)", "missing key `layers`"]),
        ([CONV, FLATTEN], ["layer 2 (flatten1)", "(90,)", "4 classes", "dense"]),
        ([FLATTEN, {"type": "dense", "units": 5}, RELU], ["layer 3 (relu1)", "(5,)", "4 classes"]),
        ([], ["without layers", "(5, 6, 1)", "4 classes"]),
    ],
    ids=lambda value: None if isinstance(value, list) and value and isinstance(value[0], dict) else str(value)[:40],
)
def test_mistake_in_layer_tables_gives_one_line_with_its_place(tables: list[Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        Network.from_tables(tables, (5, 6, 1), 4)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
