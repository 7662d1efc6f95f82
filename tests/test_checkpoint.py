"""Checkpoints: exact to the bit, and nothing but a whole, unchanged, fitting file is accepted."""

import ast
import base64
import hashlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnpar import checkpoint, config, optim
from cnnpar.checkpoint import Payload, decode, encode, load, pack, unpack
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.errors import DivergedError, InputError
from cnnpar.nn.network import Network, Sums
from cnnpar.state import TrainState, weights_digest
from tests.tiny import LAYERS, ROOT

PREPROCESSING = Preprocessing((8, 8, 1), (100.0,), (50.0,), ("no", "yes", "[bold]\u00e4"))
NETWORK = Network.from_tables(LAYERS, (8, 8, 1), 3)
SIZE = NETWORK.layout.size
EXTREMES = [0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, 1.1754944e-38, 3.4028235e38, -3.4028235e38, 0.1, 1 / 3, 16777217]


def wanted(arrays: str = "base64") -> config.Config:
    tables = {"optimizer": {"type": "adam"}, "model": {"layers": LAYERS}, "checkpoint": {"arrays": arrays}}
    return config.resolve({**tables, "train": {"seed": 7}})


def made_state() -> TrainState:
    """In the middle of the second epoch."""
    rng = np.random.default_rng(0)
    state = TrainState(NETWORK.init(7), optim.init(config.Adam(), SIZE))
    for vector in state.optimizer.values():
        vector[:] = rng.standard_normal(SIZE)
    for step in range(3):
        state.advance(Sums(1.7 / 3, 2, 8), 0.1 * step)
        if step == 1:
            state.finish_epoch(Sums(0.1, 1, 3), 0.25)
    return state


def packed(state: TrainState, arrays: str = "base64") -> Payload:
    return pack(wanted(arrays), NETWORK, PREPROCESSING, state, {"numpy": "2"}, "sha256:00")


def file_of(tree: dict[str, Any]) -> bytes:
    """A file of that payload whose digest is right."""
    body = json.dumps(tree).encode()
    return b'{"sha256":"%s","payload":%s}' % (hashlib.sha256(body).hexdigest().encode(), body)


def tree(arrays: str = "base64") -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(encode(packed(made_state(), arrays)))["payload"]
    return loaded


def refusal(content: bytes) -> str:
    with pytest.raises(InputError) as caught:
        unpack(decode(content, "model.json"), "model.json")
    text = str(caught.value)
    assert text.startswith("model.json: ")
    assert "\n" not in text
    assert len(text) < 600
    return text


numbers = st.one_of(st.sampled_from(EXTREMES), st.floats(allow_nan=False, allow_infinity=False, width=32))


@pytest.mark.parametrize("arrays", ["base64", "decimal"])
@given(st.lists(numbers, min_size=1, max_size=SIZE))
@settings(max_examples=60)
def test_every_finite_float32_survives_to_the_bit(arrays: str, values: list[float]) -> None:
    state = made_state()
    state.parameters[: len(values)] = values
    next(iter(state.optimizer.values()))[-len(values) :] = values
    _, back = unpack(decode(encode(packed(state, arrays)), ""), "")
    assert back.parameters.tobytes() == state.parameters.tobytes()
    assert {name: v.tobytes() for name, v in back.optimizer.items()} == {
        name: v.tobytes() for name, v in state.optimizer.items()
    }


@pytest.mark.parametrize("arrays", ["base64", "decimal"])
def test_a_state_comes_back_as_it_was(arrays: str) -> None:
    state = made_state()
    content = encode(packed(state, arrays))
    network, back = unpack(decode(content, ""), "")
    assert network.tables() == NETWORK.tables()
    for name in ("epoch", "index", "step", "samples", "seconds", "seconds_before", "sums", "exact", "history", "best"):
        assert getattr(back, name) == getattr(state, name), name
    assert decode(content, "").preprocessing == PREPROCESSING
    assert encode(pack(wanted(arrays), network, PREPROCESSING, back, {"numpy": "2"}, "sha256:00")) == content


def test_the_format_of_arrays_changes_neither_digest_nor_state() -> None:
    parts = [unpack(decode(encode(packed(made_state(), arrays)), ""), "")[1] for arrays in ("base64", "decimal")]
    assert parts[0].digest == parts[1].digest == weights_digest(made_state().parameters)


def test_anybody_can_read_the_weights_with_a_json_library() -> None:
    state = made_state()
    for arrays in ("base64", "decimal"):
        flat: list[float] = []
        for array in tree(arrays)["parameters"]:
            data = array["data"]
            flat += np.frombuffer(base64.b64decode(data), "<f4").tolist() if arrays == "base64" else data
        assert np.array(flat, np.float32).tobytes() == state.parameters.tobytes()


def test_a_packed_state_does_not_follow_later_steps() -> None:
    state = made_state()
    payload = packed(state)
    before = encode(payload)
    state.parameters += 1
    for vector in state.optimizer.values():
        vector += 1
    state.advance(Sums(1.0, 1, 1), 9.0)
    state.finish_epoch(None, 10.0)
    assert encode(payload) == before


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["parameters", "optimizer"])
def test_what_is_not_finite_is_never_packed_and_its_layer_is_named(value: float, where: str) -> None:
    state = made_state()
    vector = state.parameters if where == "parameters" else list(state.optimizer.values())[-1]
    NETWORK.layout.views(vector)["dense1.bias"][1] = value
    with pytest.raises(DivergedError, match=r"step 3: .*dense1\.bias.*learning_rate \(now 0\.001\)"):
        packed(state)


@pytest.mark.parametrize("share", range(20))
def test_a_truncated_file_is_refused(share: int) -> None:
    content = encode(packed(made_state()))
    refusal(content[: len(content) * share // 20])


def test_any_changed_byte_is_noticed() -> None:
    content = encode(packed(made_state())).rstrip()
    for place in range(0, len(content), 37):
        changed = bytearray(content)
        changed[place] ^= 0x01
        refusal(bytes(changed))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\x00" * 9,
        b"\xff\xfe",
        b"PK\x03\x04",
        b"[" * 10**6,
        b'{"a":' * 10**6,
        b'{"sha256":"\xff"}',
    ],
    ids=lambda content: repr(content[:8]),
)
def test_what_is_no_checkpoint_at_all_is_refused(content: bytes) -> None:
    refusal(content)


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Sets `a.0.b` of a tree to a value; `...` deletes it."""

    def apply(payload: Any) -> None:
        *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        for step in steps:
            payload = payload[step]
        if value is ...:
            del payload[last]
        else:
            payload[last] = value

    return apply


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
    "another seed": (change("state.seed", 8), "$.payload.state.seed"),
    "wrong setting": (change("config.train.epochs", 0), "$.payload.config.train.epochs"),
    "unknown setting": (change("config.train.lr", 0), "$.payload.config.train"),
    "no channels": (change("preprocessing.image_shape", [8, 8, 0]), "$.payload.preprocessing.image_shape"),
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
def test_a_file_that_does_not_fit_is_refused_with_the_place_even_if_its_digest_is_right(fault: str) -> None:
    apply, place = FAULTS[fault]
    payload = tree()
    apply(payload)
    assert place in refusal(file_of(payload))


def test_the_unchanged_tree_is_accepted() -> None:
    unpack(decode(file_of(tree()), ""), "")


def test_faults_of_the_envelope_are_named_there() -> None:
    body = json.dumps(tree())
    assert "$.sha256" in refusal(f'{{"sha256":"{"0" * 64}","payload":{body}}}'.encode())
    assert "`$.sha256`" in refusal(f'{{"sha256":5,"payload":{body}}}'.encode())
    assert "`payload`" in refusal(b'{"sha256":""}')
    assert "`more`" in refusal(b'{"sha256":"","payload":{},"more":1}')


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, tmp_path / "absent", pipe, Path("/dev/zero"), tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match="checkpoint") as caught:
            load(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_a_file_larger_than_any_checkpoint_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(checkpoint.MAXIMUM_BYTES + 1)
    with pytest.raises(InputError, match="larger than any checkpoint"):
        load(path)


def test_a_small_file_cannot_claim_much_memory(tmp_path: Path) -> None:
    payload = tree()
    change("network.5.units", 2**27)(payload)
    change("network", [*payload["network"][:5], payload["network"][5], {"type": "dense"}])(payload)
    change("parameters.2.shape", [8, 2**27])(payload)
    path = tmp_path / "model.json"
    path.write_bytes(file_of(payload))
    code = (
        "import sys, resource\nfrom cnnpar.checkpoint import load, unpack\nfrom cnnpar.errors import InputError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    unpack(load(sys.argv[1]), 'f')\nexcept InputError as error:\n    print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))  # noqa: E731
    done = subprocess.run(
        [sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=True, preexec_fn=limit
    )
    text, kilobytes = done.stdout.splitlines()
    assert "$.payload.parameters" in text
    assert int(kilobytes) < 20_000


def test_reading_a_checkpoint_can_run_no_code() -> None:
    for name in ("checkpoint", "saver", "state", "config", "nn/network", "nn/layers/base"):
        text = (ROOT / "cnnpar" / f"{name}.py").read_text()
        names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        imported = {
            alias.name.partition(".")[0]
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert not imported & {"pickle", "marshal", "shelve", "importlib", "dill", "cloudpickle"}
        assert not names & {"eval", "exec", "__import__", "compile"}
