"""Layers, by all kernels, and a whole network against PyTorch, where it is installed."""

from typing import Any

import msgspec
import numpy as np
import pytest

from cnnpar.config.sections import Kernels
from cnnpar.nn.layers import LAYERS
from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Array
from cnnpar.nn.textbook.choose import with_kernels
from cnnpar.nn.workspace import Workspace

torch = pytest.importorskip("torch")
F = torch.nn.functional


def to_torch(x: Array) -> Any:
    """Return (H, W, N, C) as (N, C, H, W), and vectors as they are."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 3, 0, 1) if x.ndim == 4 else x))


def from_torch(x: Any) -> Array:
    array: Array = x.detach().numpy()
    return array.transpose(2, 3, 0, 1) if array.ndim == 4 else array


def to_torch_weight(p: Array) -> Any:
    """Return (h, w, C, channels) as (channels, C, h, w), (H, W, C) as (C, H, W), and vectors as they are."""
    axes = {1: (0,), 3: (2, 0, 1), 4: (3, 2, 0, 1)}[p.ndim]
    return torch.from_numpy(p.transpose(axes).copy())


def upsampled(x: Any, factor: Any, mode: str) -> Any:
    corners = False if mode == "bilinear" else None
    return F.interpolate(x, scale_factor=factor, mode=mode, align_corners=corners)


def convolution(kind: str, table: dict[str, Any]) -> Any:
    """Return PyTorch's function of the layer `kind`, with the settings of `table`, which have the same names."""
    function = {"conv2d": F.conv2d, "convtranspose2d": F.conv_transpose2d}[kind]
    settings = {key: value for key, value in table.items() if key not in ("channels", "kernel")}
    return lambda x, p: function(x, p["weight"], p["bias"], **settings)


CONVOLUTIONS: list[tuple[str, dict[str, Any]]] = [
    ("conv2d", {"channels": 3, "kernel": 1, "padding": 0}),
    ("conv2d", {"channels": 4, "kernel": [3, 5], "dilation": [3, 2], "padding": "same"}),
    ("conv2d", {"channels": 4, "kernel": [3, 2], "dilation": [2, 3], "stride": [3, 2], "padding": [1, 2]}),
    ("conv2d", {"channels": 6, "groups": 6, "padding": "same"}),
    ("conv2d", {"channels": 12, "groups": 6, "stride": 2, "padding": 1, "dilation": 2}),
    ("conv2d", {"channels": 9, "groups": 3, "stride": [1, 2], "padding": 1}),
    ("conv2d", {"channels": 2, "groups": 2, "kernel": 5, "stride": 3, "padding": 2}),
    ("convtranspose2d", {"channels": 4}),
    ("convtranspose2d", {"channels": 3, "kernel": 4, "stride": 2, "padding": 1}),
    (
        "convtranspose2d",
        {"channels": 5, "kernel": [2, 3], "stride": [3, 2], "padding": [0, 1], "output_padding": [2, 1]},
    ),
]
IMAGE, VECTOR = (7, 9, 6), (8,)
CASES: list[tuple[str, dict[str, Any], tuple[int, ...], Any]] = [  # type, settings, input, twin of (x, parameters)
    (
        "conv2d",
        {"channels": 4, "kernel": [3, 2], "stride": [2, 1], "padding": [1, 2]},
        IMAGE,
        lambda x, p: F.conv2d(x, p["weight"], p["bias"], stride=(2, 1), padding=(1, 2)),
    ),
    ("conv2d", {"channels": 8}, IMAGE, lambda x, p: F.conv2d(x, p["weight"], p["bias"], padding=1)),
    *[(kind, table, IMAGE, convolution(kind, table)) for kind, table in CONVOLUTIONS],
    ("maxpool2d", {"size": [3, 2], "stride": [2, 1]}, IMAGE, lambda x, _: F.max_pool2d(x, (3, 2), (2, 1))),
    ("maxpool2d", {"size": 2}, IMAGE, lambda x, _: F.max_pool2d(x, 2)),
    ("avgpool2d", {"size": [3, 2], "stride": [2, 1]}, IMAGE, lambda x, _: F.avg_pool2d(x, (3, 2), (2, 1))),
    ("globalavgpool2d", {}, IMAGE, lambda x, _: F.adaptive_avg_pool2d(x, 1).flatten(1)),
    ("upsample2d", {"factor": [2, 3]}, IMAGE, lambda x, _: upsampled(x, (2, 3), "nearest")),
    ("upsample2d", {"mode": "bilinear"}, IMAGE, lambda x, _: upsampled(x, 2, "bilinear")),
    (
        "upsample2d",
        {"factor": [3, 4], "mode": "bilinear"},
        IMAGE,
        lambda x, _: upsampled(x, (3, 4), "bilinear"),
    ),
    ("groupnorm", {"groups": 3}, IMAGE, lambda x, p: F.group_norm(x, 3, p["scale"], p["shift"])),
    ("groupnorm", {"groups": 2}, VECTOR, lambda x, p: F.group_norm(x, 2, p["scale"], p["shift"])),
    ("layernorm", {}, IMAGE, lambda x, p: F.layer_norm(x, x.shape[1:], p["scale"], p["shift"])),
    (
        "layernorm",
        {"epsilon": 0.1},
        VECTOR,
        lambda x, p: F.layer_norm(x, x.shape[1:], p["scale"], p["shift"], eps=0.1),
    ),
    ("relu", {}, IMAGE, lambda x, _: F.relu(x)),
    ("leakyrelu", {"slope": 0.3}, IMAGE, lambda x, _: F.leaky_relu(x, 0.3)),
    ("sigmoid", {}, IMAGE, lambda x, _: F.sigmoid(x)),
    ("tanh", {}, IMAGE, lambda x, _: F.tanh(x)),
    ("elu", {"alpha": 0.3}, IMAGE, lambda x, _: F.elu(x, 0.3)),
    ("silu", {}, IMAGE, lambda x, _: F.silu(x)),
    ("gelu", {}, IMAGE, lambda x, _: F.gelu(x)),
    ("softmax", {}, IMAGE, lambda x, _: F.softmax(x, dim=1)),
    ("softmax", {}, VECTOR, lambda x, _: F.softmax(x, dim=1)),
]


@pytest.mark.parametrize("kernels", ["fast", "numpy", "scipy"])
@pytest.mark.parametrize(("kind", "table", "shape", "twin"), CASES)
def test_layer_agrees_with_torch_forward_and_backward(
    kind: str, table: Any, shape: Any, twin: Any, kernels: Kernels
) -> None:
    random = np.random.default_rng(0)
    (layer,), work = with_kernels([msgspec.convert({"type": kind, **table}, LAYERS[kind])], kernels), Workspace()
    samples = (*shape[:-1], 2, shape[-1])
    x = np.round(random.standard_normal(samples), 1)  # rounded: pooling meets equal numbers
    work.p = {name: random.standard_normal(p.shape) for name, p in layer.parameters(shape).items()}
    work.g = {name: np.empty_like(p) for name, p in work.p.items()}
    work.x, work.generator = x, None
    work.y = layer.forward(x, work)

    tx = to_torch(x).requires_grad_()
    weights = {name: to_torch_weight(p).requires_grad_() for name, p in work.p.items()}
    ty = twin(tx, weights)
    np.testing.assert_allclose(work.y, from_torch(ty), rtol=1e-10, atol=1e-12)

    dy = random.standard_normal(work.y.shape)
    ty.backward(to_torch(dy))
    dx = layer.backward(dy, work)
    assert dx is not None
    np.testing.assert_allclose(dx, from_torch(tx.grad), rtol=1e-9, atol=1e-10)
    for name, weight in weights.items():
        np.testing.assert_allclose(to_torch_weight(work.g[name]), weight.grad, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 2e-4)])
def test_network_agrees_with_torch_in_loss_and_every_gradient(dtype: Any, tolerance: float) -> None:
    tables: list[dict[str, Any]] = [
        {"type": "conv2d", "channels": 8},
        {"type": "relu"},
        {"type": "maxpool2d"},
        {"type": "conv2d", "channels": 12},
        {"type": "batchnorm2d"},
        {"type": "relu"},
        {"type": "maxpool2d"},
        {"type": "flatten"},
        {"type": "dense", "units": 20},
        {"type": "relu"},
        {"type": "dense"},
    ]
    network = Network.from_tables(tables, (12, 12, 3), 5, dtype)
    random = np.random.default_rng(1)
    parameters = network.init(0)
    images = random.standard_normal((6, 12, 12, 3)).astype(dtype)
    labels = random.integers(0, 5, 6)
    gradient = np.empty_like(parameters)
    sums = network.loss_and_gradient(parameters, images, labels, None, gradient)

    p = {
        name: torch.from_numpy(view.copy()).requires_grad_() for name, view in network.layout.views(parameters).items()
    }
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    mean, variance = torch.zeros(12, dtype=x.dtype), torch.ones(12, dtype=x.dtype)
    for name in ("conv1", "conv2"):
        x = F.conv2d(x, p[f"{name}.weight"].permute(3, 2, 0, 1), p[f"{name}.bias"], padding=1)
        if name == "conv2":
            x = F.batch_norm(
                x, mean, variance, p["batchnorm1.scale"], p["batchnorm1.shift"], training=True, momentum=0.1
            )
        x = torch.max_pool2d(torch.relu(x), 2)
    x = x.permute(0, 2, 3, 1).reshape(6, -1)  # our features are in (H, W, C) order
    x = torch.relu(x @ p["dense1.weight"] + p["dense1.bias"]) @ p["dense2.weight"] + p["dense2.bias"]
    loss = F.cross_entropy(x, torch.from_numpy(labels), reduction="sum")
    loss.backward()
    assert sums.loss == pytest.approx(loss.item(), rel=tolerance)
    assert sums.correct == (x.argmax(dim=1).numpy() == labels).sum()
    for name, view in network.layout.views(gradient[: network.layout.trained]).items():
        np.testing.assert_allclose(view, p[name].grad.numpy(), rtol=tolerance, atol=tolerance)

    trained = network.layout.trained
    buffers = parameters[trained:].copy()
    network.update_buffers(buffers, gradient[trained:], 6)
    np.testing.assert_allclose(buffers, torch.cat([mean, variance]).numpy(), rtol=tolerance, atol=tolerance)
