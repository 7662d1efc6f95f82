"""Checkpoints with one wrong field and the right digest: the error names the field's place."""

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnpar.storage.checkpoint import decode
from cnnpar.storage.packing import unpack
from tests.helpers.checkpoints import change, file_of, refusal, tree


def swap(payload: dict[str, Any]) -> None:
    parameters = payload["parameters"]
    parameters[0], parameters[1] = parameters[1], parameters[0]


def repeat(payload: dict[str, Any]) -> None:
    payload["parameters"].append(payload["parameters"][0])


NAN = base64.b64encode(np.full(3, np.nan, np.float32).tobytes()).decode()
DEEP: Any = json.loads("[" * 900 + "]" * 900)

FAULTS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "format": (change("format", "another"), "$.payload.version"),
    "version": (change("version", 2), "$.payload.version"),
    "version of the wrong type": (change("version", "1"), "$.payload.version"),
    "missing field": (change("parameters", ...), "`parameters` - at `$.payload`"),
    "unknown field": (change("extra", 1), "`extra` - at `$.payload`"),
    "unknown field within": (change("state.extra", 1), "$.payload.state`"),
    "unknown field of an array": (change("parameters.3.order", "F"), "$.payload.parameters[3]"),
    "wrong type": (change("state.epoch", "1"), "$.payload.state.epoch"),
    "bool for a count": (change("state.step", True), "$.payload.state.step"),
    "negative count": (change("state.index", -1), "$.payload.state.index"),
    "huge count": (change("state.step", 10**30), "$.payload.state.step"),
    "epoch without history": (change("state.epoch", 5), "$.payload.state.epoch"),
    "history without epoch": (change("history", []), "$.payload.state.epoch"),
    "step before epoch": (change("state.step", 0), "$.payload.state.step"),
    "sums without samples": (change("state.epoch_count", 0), "$.payload.state.epoch_co"),
    "more right than there were": (change("state.epoch_correct", 9), "$.payload.state.epoch_correct"),
    "steps of no whole epochs": (change("state.index", 4), "$.payload.state.step"),
    "epochs shorter than this one": (change("state.index", 2), "$.payload.state.step"),
    "more samples than steps take": (change("state.samples", 193), "$.payload.state.samples"),
    "less time than before": (change("state.seconds", 0.2), "$.payload.state.seconds"),
    "more time than there is": (change("state.seconds", 1e11), "$.payload.state.seconds"),
    "loss beyond float32": (change("state.epoch_loss", 1e41), "$.payload.state.epoch_loss"),
    "another best epoch": (change("state.best", None), "$.payload.state.best"),
    "another best accuracy": (change("state.best.validation_accuracy", 0.5), "$.payload.state.best"),
    "accuracy above one": (change("history.0.train_accuracy", 1.5), "$.payload.history[0]"),
    "epoch of negative time": (change("history.0.seconds", -1), "$.payload.history[0]"),
    "epochs misnumbered": (change("history.0.epoch", 2), "$.payload.state.epoch"),
    "another seed": (change("state.seed", 8), "$.payload.state.seed"),
    "wrong setting": (change("config.train.epochs", 0), "$.payload.config.train.epochs"),
    "unknown setting": (change("config.train.lr", 0), "$.payload.config.train"),
    "no channels": (change("preprocessing.image_shape", [8, 8, 0]), "$.payload.preprocessing.image_shape"),
    "mean of no pixels": (change("preprocessing.mean", [256]), "$.payload.preprocessing.mean"),
    "deviation of nothing": (change("preprocessing.std", [1e-300]), "$.payload.preprocessing.std"),
    "deviation of no pixels": (change("preprocessing.std", [1e300]), "$.payload.preprocessing.std"),
    "class twice": (change("preprocessing.class_names.1", "no"), "$.payload.preprocessing.class_names"),
    "no classes": (change("preprocessing.class_names", []), "$.payload.preprocessing"),
    "other classes": (change("preprocessing.class_names", ["a", "b"]), "$.payload.network"),
    "unknown layer": (change("network.0.type", "os.system"), "$.payload.network: layer 1"),
    "unknown key of a layer": (change("network.0.import", "os"), "$.payload.network: layer 1"),
    "deep layer": (change("network.0.kernel", DEEP), "model.json: "),
    "no layers": (change("network", []), "$.payload.network"),
    "enormous layer": (change("network.5.units", 2**40), "$.payload.network"),
    "wrong dtype": (change("parameters.3.dtype", "float64"), "$.payload.parameters[3].dtype"),
    "wrong shape": (change("parameters.3.shape", [1, 3]), "$.payload.parameters[3].shape"),
    "negative shape": (change("parameters.3.shape", [-3]), "$.payload.parameters[3].shape"),
    "enormous shape": (change("optimizer.0.shape", [2**62, 2**62]), "$.payload.optimizer[0].shape"),
    "too few data": (change("parameters.3.data", NAN[:8]), "$.payload.parameters[3].data"),
    "too many data": (change("parameters.3.data", "AAAA" * 9), "$.payload.parameters[3].data"),
    "no base64": (change("parameters.3.data", "*" * 16), "$.payload.parameters[3].data"),
    "nan": (change("parameters.3.data", NAN), "$.payload.parameters[3].data"),
    "nan in the optimizer": (change("optimizer.7.data", NAN), "$.payload.optimizer[7].data"),
    "numbers too large": (change("parameters.3.data", [1e300, 0, 0]), "$.payload.parameters[3].data"),
    "null among numbers": (change("parameters.3.data", [None, 0, 0]), "$.payload.parameters[3].data[0]"),
    "too few numbers": (change("parameters.3.data", [0, 0]), "$.payload.parameters[3].data"),
    "other weights": (change("parameters.3.data", [0, 0, 1]), "$.payload.state.weights_sha256"),
    "renamed": (change("parameters.3.name", "dense1.bias2"), "$.payload.parameters: unexpected 'dense1.bias2'"),
    "missing array": (change("parameters.3", ...), "$.payload.parameters: missing 'dense1.bias'"),
    "wrong order": (swap, "$.payload.parameters: wrong order"),
    "array twice": (repeat, "$.payload.parameters: unexpected 'conv1.weight'"),
    "optimizer of another kind": (change("config.optimizer", {"type": "sgd"}), "$.payload.optimizer"),
    "buffers from nowhere": (
        change("buffers", [{"name": "a", "dtype": "float32", "shape": [0], "data": ""}]),
        "buffers",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_wrong_field_is_refused_with_its_place(fault: str) -> None:
    apply, place = FAULTS[fault]
    payload = tree()
    apply(payload)
    assert place in refusal(file_of(payload))


def test_the_unchanged_payload_is_accepted() -> None:
    unpack(decode(file_of(tree()), ""), "")
