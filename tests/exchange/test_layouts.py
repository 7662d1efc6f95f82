"""Layouts of weights: names and shapes as the other libraries have them, and the same bits on the way back."""

from typing import Any

import numpy as np
import pytest

from cnnpar.errors import InputError
from cnnpar.exchange.layouts import LAYOUTS, twins
from cnnpar.nn.layers import Layer
from cnnpar.nn.network import Network
from tests.helpers.trained_networks import Tables, made
from tests.nn.layers.test_layers import CASES

DENSE: Tables = [{"type": "flatten"}, {"type": "dense"}]
BLOCK: dict[str, Any] = {
    "type": "residual",
    "layers": [{"type": "convtranspose2d", "channels": 2, "padding": 1}, {"type": "batchnorm2d"}],
    "shortcut": [{"type": "conv2d", "channels": 2, "kernel": 1, "bias": False}],
}


def shapes_of(tables: Tables, layout: Any, shape: tuple[int, int, int] = (4, 5, 3)) -> dict[str, tuple[int, ...]]:
    return {twin.name: twin.shape for twin in twins(made(tables, shape).network, layout).values()}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("kind", "table", "shapes"), [case for case in CASES if len(case[2][0]) == 3])
def test_every_array_comes_back_with_the_same_bits(kind: str, table: dict[str, Any], shapes: Any, layout: Any) -> None:
    last: Tables = DENSE[1:] if kind in ("globalavgpool2d", "flatten") else DENSE
    trained = made([{"type": kind, **table}, *last], shapes[0])
    arrays, known = trained.arrays(), twins(trained.network, layout)
    assert list(known) == list(arrays)
    assert len({twin.name for twin in known.values()}) == len(known)
    for name, twin in known.items():
        there = twin.written(arrays[name])
        assert there.shape == twin.shape
        assert there.flags.c_contiguous
        assert twin.read(there, arrays[name].shape).tobytes() == arrays[name].tobytes()


def test_torch_has_its_names_and_axes() -> None:
    assert shapes_of([BLOCK, {"type": "layernorm"}, *DENSE], "torch") == {
        "residual1.convtranspose1.weight": (3, 2, 3, 3),
        "residual1.convtranspose1.bias": (2,),
        "residual1.batchnorm1.weight": (2,),
        "residual1.batchnorm1.bias": (2,),
        "residual1.batchnorm1.running_mean": (2,),
        "residual1.batchnorm1.running_var": (2,),
        "residual1.shortcut.conv1.weight": (2, 3, 1, 1),
        "layernorm1.weight": (2, 4, 5),
        "layernorm1.bias": (2, 4, 5),
        "dense1.weight": (4, 40),
        "dense1.bias": (4,),
    }


def test_keras_has_its_names_and_our_axes() -> None:
    assert shapes_of([BLOCK, *DENSE], "keras") == {
        "residual1/convtranspose1/kernel": (3, 3, 2, 3),
        "residual1/convtranspose1/bias": (2,),
        "residual1/batchnorm1/gamma": (2,),
        "residual1/batchnorm1/beta": (2,),
        "residual1/batchnorm1/moving_mean": (2,),
        "residual1/batchnorm1/moving_variance": (2,),
        "residual1/shortcut/conv1/kernel": (1, 1, 3, 2),
        "dense1/kernel": (40, 4),
        "dense1/bias": (4,),
    }


@pytest.mark.parametrize(
    ("before", "why"),
    [
        ([DENSE[0], {"type": "groupnorm", "groups": 2}, DENSE[1]], "groupnorm1: its groups are neighbours"),
        ([DENSE[0], {"type": "residual", "layers": [{"type": "dense", "units": 16}]}, DENSE[1]], "residual1: adds"),
        ([{"type": "avgpool2d", "size": [2, 2]}, DENSE[0]], "ends with a flattened image"),
    ],
)
def test_what_torch_orders_otherwise_is_refused(before: Tables, why: str) -> None:
    network = made(before, (2, 4, 2)).network
    with pytest.raises(InputError, match=why):
        twins(network, "torch")
    assert len(twins(network, "keras")) == len(twins(network, "hwio"))


def test_a_layer_of_the_users_leaves_in_our_layout_only() -> None:
    class Own(Layer, frozen=True, tag="own"):
        """Some layer."""

    trained = made(DENSE, (4, 4, 1))
    network = Network([Own(name="mine"), *trained.network.layers], (4, 4, 1), np.float32, trained.loss, (), "fast")
    for layout in ("torch", "keras"):
        with pytest.raises(InputError, match="mine: a layer of your own"):
            twins(network, layout)
    assert len(twins(network, "hwio")) == 2
