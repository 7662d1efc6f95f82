"""Filters and activations of a report are those of the network."""

from typing import Any

import numpy as np
import pytest

from cnnpar.config.resolve import resolve
from cnnpar.nn.network import Network
from cnnpar.run.features import activations, filters, outputs
from tests.helpers.made_runs import rich_run

Layers = list[dict[str, Any]]
CONV: Layers = [
    {"type": "conv2d", "channels": 70, "kernel": 3},
    {"type": "relu"},
    {"type": "flatten"},
    {"type": "dense"},
]
DENSE: Layers = [{"type": "flatten"}, {"type": "dense", "units": 5}, {"type": "dropout"}, {"type": "dense"}]


def network(layers: Layers, shape: tuple[int, int, int]) -> Network:
    return Network.from_config(resolve({"model": {"layers": layers}}), shape, 3)


def softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    powers = np.exp(logits - logits.max())
    shares: np.ndarray[Any, Any] = powers / powers.sum()
    return shares


@pytest.mark.parametrize("case", ["rich", "conv", "dense"])
def test_the_last_activation_is_the_networks_answer(case: str) -> None:
    net = {
        "rich": lambda: rich_run()[1].network,
        "conv": lambda: network(CONV, (9, 7, 1)),
        "dense": lambda: network(DENSE, (4, 5, 3)),
    }[case]()
    weights = net.init(3)
    image = np.random.default_rng(0).normal(size=net.input_shape).astype(np.float32)
    *_, (name, last) = outputs(net, weights, image)
    assert name == net.layers[-1].name
    np.testing.assert_allclose(softmax(last), net.probabilities(weights, image[np.newaxis])[0], rtol=1e-5)
    for (layer, output), maps in zip(outputs(net, weights, image), activations(net, weights, image), strict=True):
        assert maps.title.startswith(layer)
        shown = maps.maps[np.isfinite(maps.maps)]
        wanted = output[..., :16].transpose(2, 0, 1).ravel() if output.ndim == 3 else output
        np.testing.assert_array_equal(shown, wanted)


def test_dropout_changes_nothing_and_is_left_out() -> None:
    net = network(DENSE, (4, 5, 3))
    names = [name for name, _ in outputs(net, net.init(0), np.ones((4, 5, 3), np.float32))]
    assert names == ["flatten1", "dense1", "dense2"]


def test_filters_over_one_channel_are_the_weights() -> None:
    net = network(CONV, (9, 7, 1))
    weights = net.init(0)
    found = filters(net, weights)
    assert found is not None
    assert (found.maps.shape, found.of) == ((64, 3, 3), 70)
    np.testing.assert_array_equal(found.maps[5], net.layout.views(weights)["conv1.weight"][:, :, 0, 5])


def test_weights_of_a_dense_first_layer_are_images() -> None:
    net = network(DENSE, (4, 5, 1))
    weights = net.init(0)
    found = filters(net, weights)
    assert found is not None
    assert found.maps.shape == (5, 4, 5)
    np.testing.assert_array_equal(found.maps[2].ravel(), net.layout.views(weights)["dense1.weight"][:, 2])


def test_filters_over_three_channels_are_colours() -> None:
    net = network(CONV, (9, 7, 3))
    found = filters(net, net.init(0))
    assert found is not None
    assert found.maps.shape == (64, 3, 3, 3)
    assert (found.maps.min(), found.maps.max()) == (0, 1)


def test_a_network_that_begins_otherwise_has_no_filters() -> None:
    net = network([{"type": "maxpool2d", "size": 2}, *CONV], (9, 9, 1))
    assert filters(net, net.init(0)) is None
