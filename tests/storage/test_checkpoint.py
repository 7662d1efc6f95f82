"""Checkpoints: exact to the bit; only a whole and unchanged file is accepted."""

import ast
import base64
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnpar.errors import DivergedError, InputError
from cnnpar.nn.sums import Sums
from cnnpar.storage.checkpoint import MAXIMUM_BYTES, decode, encode, read
from cnnpar.storage.packing import pack, unpack
from cnnpar.training.state import weights_digest
from tests.helpers.checkpoints import NETWORK, PREPROCESSING, made_state, packed, refusal, tree, wanted
from tests.helpers.tiny_runs import ROOT

SIZE = NETWORK.layout.size
EXTREMES = [0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, 1.1754944e-38, 3.4028235e38, -3.4028235e38, 0.1, 1 / 3, 16777217]


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
def test_nonfinite_arrays_are_refused_by_pack_with_their_name(value: float, where: str) -> None:
    state = made_state()
    vector = state.parameters if where == "parameters" else list(state.optimizer.values())[-1]
    NETWORK.layout.views(vector)["dense1.bias"][1] = value
    with pytest.raises(DivergedError, match=r"step 3: .*dense1\.bias.*learning_rate \(now 0\.001\)"):
        packed(state)


@pytest.mark.parametrize("share", range(20))
def test_a_truncated_file_is_refused(share: int) -> None:
    content = encode(packed(made_state()))
    refusal(content[: len(content) * share // 20])


def test_any_changed_byte_is_refused() -> None:
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
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes) -> None:
    refusal(content)


def test_errors_of_the_envelope_name_its_field() -> None:
    body = json.dumps(tree())
    assert "$.sha256" in refusal(f'{{"sha256":"{"0" * 64}","payload":{body}}}'.encode())
    assert "`$.sha256`" in refusal(f'{{"sha256":5,"payload":{body}}}'.encode())
    assert "`payload`" in refusal(b'{"sha256":""}')
    assert "`more`" in refusal(b'{"sha256":"","payload":{},"more":1}')


def test_paths_that_are_no_regular_file_are_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, tmp_path / "absent", pipe, Path("/dev/zero"), tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match="checkpoint") as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_a_file_larger_than_any_checkpoint_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(MAXIMUM_BYTES + 1)
    with pytest.raises(InputError, match="larger than any checkpoint"):
        read(path)


def test_reading_a_checkpoint_can_run_no_code() -> None:
    patterns = ("storage/*", "text", "nn/tables", "nn/network", "nn/layers/base", "training/state", "config/*")
    files = [file for pattern in patterns for file in (ROOT / "cnnpar").glob(f"{pattern}.py")]
    assert len(files) > 15
    for file in files:
        text = file.read_text()
        names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        imported = {
            alias.name.partition(".")[0]
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert not imported & {"pickle", "marshal", "shelve", "importlib", "dill", "cloudpickle"}
        assert not names & {"eval", "exec", "__import__", "compile"}
