"""Layers and a whole network against PyTorch, where it is installed."""

from typing import Any

import msgspec
import numpy as np
import pytest

from cnnpar.nn.kernels import Array
from cnnpar.nn.layers import LAYERS, Workspace
from cnnpar.nn.network import Network

torch = pytest.importorskip("torch")


def to_torch(x: Array) -> Any:
    """(H, W, N, C) as (N, C, H, W); vectors as they are."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 3, 0, 1) if x.ndim == 4 else x))


def from_torch(x: Any) -> Array:
    array: Array = x.detach().numpy()
    return array.transpose(2, 3, 0, 1) if array.ndim == 4 else array


CASES = [
    ("conv2d", {"channels": 4, "kernel": [3, 2], "stride": [2, 1], "padding": [1, 2]}, (2, 1), (1, 2)),
    ("conv2d", {"channels": 8, "kernel": 3, "padding": "same"}, (1, 1), (1, 1)),
    ("maxpool2d", {"size": [3, 2], "stride": [2, 1]}, None, None),
    ("maxpool2d", {"size": 2}, None, None),
    ("avgpool2d", {"size": [3, 2], "stride": [2, 1]}, None, None),
    ("relu", {}, None, None),
    ("leakyrelu", {"slope": 0.3}, None, None),
    ("sigmoid", {}, None, None),
    ("tanh", {}, None, None),
]


@pytest.mark.parametrize(("kind", "table", "stride", "padding"), CASES)
def test_layer_agrees_with_torch_forward_and_backward(kind: str, table: Any, stride: Any, padding: Any) -> None:
    random = np.random.default_rng(0)
    layer, work = msgspec.convert({"type": kind, **table}, LAYERS[kind]), Workspace()
    x = np.round(random.standard_normal((7, 9, 2, 5)), 1)  # rounded: pooling meets equal numbers
    work.p = {name: random.standard_normal(p.shape) for name, p in layer.parameters((7, 9, 5)).items()}
    work.g = {name: np.empty_like(p) for name, p in work.p.items()}
    work.x, work.generator = x, None
    work.y = layer.forward(x, work)

    tx = to_torch(x).requires_grad_()
    weights = {}
    if kind == "conv2d":
        weights = {"weight": torch.from_numpy(work.p["weight"].transpose(3, 2, 0, 1).copy()).requires_grad_(),
                   "bias": torch.from_numpy(work.p["bias"].copy()).requires_grad_()}  # fmt: skip
        ty = torch.nn.functional.conv2d(tx, **weights, stride=stride, padding=padding)
    elif kind.endswith("pool2d"):
        pool = {"maxpool2d": torch.nn.functional.max_pool2d, "avgpool2d": torch.nn.functional.avg_pool2d}[kind]
        ty = pool(tx, table["size"], table.get("stride"))
    elif kind == "leakyrelu":
        ty = torch.nn.functional.leaky_relu(tx, table["slope"])
    else:
        ty = getattr(torch, kind)(tx)
    np.testing.assert_allclose(work.y, from_torch(ty), rtol=1e-10, atol=1e-12)

    dy = random.standard_normal(work.y.shape)
    ty.backward(to_torch(dy))
    dx = layer.backward(dy, work)
    assert dx is not None
    np.testing.assert_allclose(dx, from_torch(tx.grad), rtol=1e-9, atol=1e-10)
    if kind == "conv2d":
        expected = weights["weight"].grad.numpy().transpose(2, 3, 1, 0)
        np.testing.assert_allclose(work.g["weight"], expected, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(work.g["bias"], weights["bias"].grad.numpy(), rtol=1e-9, atol=1e-10)


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
        x = torch.nn.functional.conv2d(x, p[f"{name}.weight"].permute(3, 2, 0, 1), p[f"{name}.bias"], padding=1)
        if name == "conv2":
            x = torch.nn.functional.batch_norm(
                x, mean, variance, p["batchnorm1.scale"], p["batchnorm1.shift"], training=True, momentum=0.1
            )
        x = torch.max_pool2d(torch.relu(x), 2)
    x = x.permute(0, 2, 3, 1).reshape(6, -1)  # our features are in (H, W, C) order
    x = torch.relu(x @ p["dense1.weight"] + p["dense1.bias"]) @ p["dense2.weight"] + p["dense2.bias"]
    loss = torch.nn.functional.cross_entropy(x, torch.from_numpy(labels), reduction="sum")
    loss.backward()
    assert sums.loss == pytest.approx(loss.item(), rel=tolerance)
    assert sums.correct == (x.argmax(dim=1).numpy() == labels).sum()
    for name, view in network.layout.views(gradient[: network.layout.trained]).items():
        np.testing.assert_allclose(view, p[name].grad.numpy(), rtol=tolerance, atol=tolerance)

    trained = network.layout.trained
    buffers = parameters[trained:].copy()
    network.update_buffers(buffers, gradient[trained:], 6)
    np.testing.assert_allclose(buffers, torch.cat([mean, variance]).numpy(), rtol=tolerance, atol=tolerance)
