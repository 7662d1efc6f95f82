"""Checkpoints that claim absurd sizes, by name: each a function that changes a payload, or makes a file of it."""

from collections.abc import Callable
from typing import Any

from tests.helpers.checkpoints import change, file_of

Tree = dict[str, Any]


def both(layers: list[Tree]) -> Callable[[Tree], None]:
    """Return a function that sets the layers of network and settings."""

    def apply(payload: Tree) -> None:
        payload["network"] = payload["config"]["model"]["layers"] = layers

    return apply


def raw(path: str, text: str) -> Callable[[Tree], bytes]:
    """Return a function that makes a file with that text at that place."""

    def make(payload: Tree) -> bytes:
        change(path, "@")(payload)
        return file_of(payload, b'"@"', text.encode())

    return make


def claimed(payload: Tree) -> None:
    """Claim parameters and shapes of 2 GB, within all limits."""
    both([*payload["network"][:5], {**payload["network"][5], "units": 2**25}, {"type": "dense"}])(payload)
    change("parameters.2.shape", [8, 2**25])(payload)


ARRAY = {"name": "a", "dtype": "float32", "shape": [], "data": ""}
RECORD = {"epoch": 1, "train_loss": 0, "train_accuracy": 0, "validation_loss": None, "validation_accuracy": None}
CLAIMS: dict[str, Callable[[Tree], Any]] = {
    "a shape of 10^24": change("parameters.0.shape", [10**12, 10**12]),
    "a shape of many": change("parameters.0.shape", [1] * 20_000),
    "weights that are not there": claimed,
    "units of 2^53": both([{"type": "flatten"}, {"type": "dense", "units": 2**53}, {"type": "dense"}]),
    "epoch of 2^53": change("state.epoch", 2**53),
    "epoch of 10^9": change("state.epoch", 10**9),
    "a long history": change("history", [{**RECORD, "seconds": 0}] * 2000),
    "many layers": both([{"type": "relu"}] * 2000),
    "layers of nothing": raw("config.model.layers", "[" + "{}," * 10_000 + "{}]"),
    "layers of lists": raw("network", "[" + "[]," * 10_000 + "[]]"),
    "many names": change("parameters", [ARRAY] * 2000),
    "other names": change("parameters", [{**ARRAY, "name": str(number)} for number in range(2000)]),
    "a long number": raw("state.seconds", "9" * 10**6),
    "a long fraction": raw("state.seconds", "0." + "1" * 10**6),
    "a long exponent": raw("state.seconds", "1e" + "9" * 10**6),
    "a long text": change("preprocessing.class_names.0", "x" * 10**6),
    "a long key": change("fingerprint", {"x" * 10**6: ""}),
    "many texts": change("fingerprint", {str(number): number for number in range(5000)}),
    "many classes": change("preprocessing.class_names", [str(number) for number in range(5000)]),
    "many channels": change("preprocessing.mean", [0] * 10_000),
    "zeros": raw("parameters.0.data", "[" + "0," * 30_000 + "0]"),
    "base64": change("parameters.0.data", "A" * 400_000),
    "deep": raw("network", "[" * 10**6 + "]" * 10**6),
    "infinity": raw("state.seconds", "Infinity"),
}
