"""A made checkpoint, its payload as a JSON tree to change, and how reading a bad one must fail."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnpar import optim
from cnnpar.config.choices import Adam
from cnnpar.config.resolve import resolve
from cnnpar.config.sections import Config
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.errors import InputError
from cnnpar.nn.network import Network
from cnnpar.nn.sums import Sums
from cnnpar.storage.checkpoint import Payload, decode, encode
from cnnpar.storage.packing import pack, unpack
from cnnpar.training.state import TrainState
from tests.helpers.tiny_runs import LAYERS

PREPROCESSING = Preprocessing((8, 8, 1), (100.0,), (50.0,), ("no", "yes", "[bold]\u00e4"))
NETWORK = Network.from_tables(LAYERS, (8, 8, 1), 3)


def wanted(arrays: str = "base64") -> Config:
    """Return the settings of the made state."""
    tables = {"optimizer": {"type": "adam"}, "model": {"layers": LAYERS}, "checkpoint": {"arrays": arrays}}
    return resolve({**tables, "train": {"seed": 7}})


def made_state() -> TrainState:
    """Return a state in the middle of its second epoch."""
    rng = np.random.default_rng(0)
    state = TrainState(NETWORK.init(7), optim.init(Adam(), NETWORK.layout.size))
    for vector in state.optimizer.values():
        vector[:] = rng.standard_normal(NETWORK.layout.size)
    for step in range(3):
        state.advance(Sums(1.7 / 3, 2, 8), 0.2 * step)
        if step == 1:
            state.finish_epoch(Sums(0.1, 1, 3), 0.25)
    return state


def packed(state: TrainState, arrays: str = "base64") -> Payload:
    """Pack a state of `NETWORK`."""
    return pack(wanted(arrays), NETWORK, PREPROCESSING, state, {"numpy": "2"}, "sha256:00")


def file_of(tree: dict[str, Any], old: bytes = b"", new: bytes = b"") -> bytes:
    """Return a file of that payload with the right digest, after `old` was replaced by `new` in its text."""
    body = json.dumps(tree).encode().replace(old, new) if old else json.dumps(tree).encode()
    return b'{"sha256":"%s","payload":%s}' % (hashlib.sha256(body).hexdigest().encode(), body)


def tree(arrays: str = "base64") -> dict[str, Any]:
    """Return the payload of the made state as a JSON tree."""
    loaded: dict[str, Any] = json.loads(encode(packed(made_state(), arrays)))["payload"]
    return loaded


def refusal(content: bytes) -> str:
    """Return the error of reading a bad file: one line of under 600 characters."""
    with pytest.raises(InputError) as caught:
        unpack(decode(content, "model.json"), "model.json")
    text = str(caught.value)
    assert text.startswith("model.json: ")
    assert "\n" not in text
    assert len(text) < 600
    return text


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return a function that sets `a.0.b` of a tree to a value; `...` deletes it."""

    def apply(payload: Any) -> None:
        *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        for step in steps:
            payload = payload[step]
        if value is ...:
            del payload[last]
        else:
            payload[last] = value

    return apply
