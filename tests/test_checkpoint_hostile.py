"""Checkpoints from anybody: refused in one line or as good as genuine, in time and memory in proportion to the file."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnpar import cli, console
from cnnpar.checkpoint import decode, load, unpack
from cnnpar.errors import InputError
from cnnpar.state import weights_digest
from tests.conftest import HANGING
from tests.test_checkpoint import file_of, refusal, tree
from tests.test_checkpoint_claims import CLAIMS
from tests.test_checkpoint_faults import change
from tests.tiny import ROOT

SCRIPTS = ROOT / "scripts"
Tree = dict[str, Any]


@pytest.fixture(scope="module")
def forged() -> Iterator[ModuleType]:
    """scripts/forged.py, which the fuzzer uses too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        yield importlib.import_module("forged")


@given(chance=st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_a_forged_checkpoint_is_refused_in_one_line_or_as_good_as_a_genuine_one(
    forged: ModuleType, chance: Random
) -> None:
    forged.judge(forged.forge(chance))


def test_the_judge_accepts_what_is_genuine_and_notices_a_reader_at_fault(
    forged: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = forged.genuine()
    assert all(map(forged.judge, genuine))
    twice = genuine[0].replace(b'{"sha256"', b'{"sha256":"","sha256"')
    assert not forged.judge(twice)
    monkeypatch.setattr("cnnpar.checkpoint.check_json", lambda content: None)
    with pytest.raises(AssertionError, match="key twice"):
        forged.judge(twice)
    for error in (ValueError("no"), InputError("f: a\nb"), InputError("f: \x1b[2J"), InputError("f: " + "a" * 2000)):
        monkeypatch.setattr(forged, "decode", lambda *_, error=error: (_ for _ in ()).throw(error))
        with pytest.raises((AssertionError, ValueError)):
            forged.judge(genuine[0])


def test_a_key_that_stands_twice_is_refused_in_every_object_and_however_it_is_spelled(forged: ModuleType) -> None:
    """Readers of JSON differ in which of the two they take: one file must not hold two models."""
    counted = 0

    def doubled(node: Any, whole: Any) -> None:
        nonlocal counted
        for place, part in enumerate(list(node)):
            if isinstance(node, forged.Object):
                for key in (part[0], forged.Literal(f'"\\u{ord(part[0][0]):04x}{part[0][1:]}"')):
                    node.insert(place, [key, part[1]])
                    assert "stands there twice" in refusal(forged.signed(forged.text_of(whole).encode()))
                    del node[place]
                    counted += 1
            inner = part[1] if isinstance(node, forged.Object) else part
            if isinstance(inner, list):
                doubled(inner, whole)

    payload = forged.payload_of(forged.genuine()[2])
    doubled(payload, payload)
    assert counted > 200
    envelope = forged.genuine()[2].rstrip()[:-1]
    for more in (b',"sha256":""}', b',"payload":{}}', b',"p\\u0061yload":{}}'):
        refusal(envelope + more)
    body = forged.text_of(payload)
    assert "$: the key 'payload' stands there twice" in refusal(
        forged.signed(body.encode()).replace(b',"payload"', b',"payload":{},"payload"')
    )


def test_texts_and_nesting_beyond_all_that_is_written_are_refused_by_their_place() -> None:
    for path, place in {"data_fingerprint": "$.payload", "parameters.0.name": "$.payload.parameters[]"}.items():
        payload = tree()
        change(path, "x" * 40_000)(payload)
        assert f"{place}: a text of 40,000 bytes" in refusal(file_of(payload))
    payload = tree()
    change("fingerprint.data", "x" * 40_000)(payload)  # only an array's `data` may be long
    assert "$.payload.fingerprint: a text" in refusal(file_of(payload))
    change("fingerprint", {"x" * 40_000: ""})(payload)
    assert "$.payload.fingerprint: a text" in refusal(file_of(payload))
    change("fingerprint", json.loads("[" * 15 + "]" * 15))(payload)
    assert "$.payload.fingerprint[][]" in refusal(file_of(payload))


def test_quotes_and_brackets_in_texts_mislead_nobody() -> None:
    payload = tree()
    texts = ['"no": {', "yes\\", '[bold]"\\"}']
    change("preprocessing.class_names", texts)(payload)
    assert decode(file_of(payload), "").preprocessing.class_names == tuple(texts)
    change("fingerprint", {'a\\"': "{", "@": '"'})(payload)
    assert "$.payload.fingerprint: the key" in refusal(file_of(payload, b'"@"', rb'"a\\\""'))


def test_epochs_have_as_many_steps_each(forged: ModuleType) -> None:
    payload = json.loads(forged.genuine()[0])["payload"]
    assert (payload["state"]["epoch"], payload["state"]["step"], payload["state"]["index"]) == (2, 5, 1)
    unpack(decode(file_of(payload), ""), "")
    change("state.step", 6)(payload)
    assert "$.payload.state.step: 6" in refusal(file_of(payload))


ESCAPES = "\x1b]0;gone\x07\x9b2J\u202e\r\n"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("fingerprint", {ESCAPES: "2"}),
        ("data_fingerprint", ESCAPES),
        ("format", ESCAPES),
        ("network.0.type", ESCAPES),
        ("network.0", {"type": "relu", ESCAPES: 1}),
        ("network.0.name", ESCAPES),
        ("network.0.name", "conv1\n"),
        ("network.0.init", ESCAPES),
        ("network.0.init", "x" * 30_000),
        (ESCAPES, 1),
        ("x" * 30_000, 1),
        ("config.data", {ESCAPES: 1}),
        ("config.data.name", ESCAPES),
        ("config.optimizer.type", ESCAPES),
        ("parameters.0.name", ESCAPES),
        ("parameters.0.dtype", ESCAPES),
        ("state.weights_sha256", ESCAPES),
    ],
)
def test_what_is_refused_does_not_drive_the_terminal(path: str, value: Any) -> None:
    payload = tree()
    change(path, value)(payload)
    text = refusal(file_of(payload))
    assert text.isprintable(), text


def test_what_is_accepted_does_not_drive_the_terminal_when_it_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payload = tree()
    change("preprocessing.class_names.0", ESCAPES)(payload)
    change("config.data", {"train": f"/nowhere/{ESCAPES}.csv", "test": f"/nowhere/{ESCAPES}.csv"})(payload)
    path = tmp_path / "model.json"
    path.write_bytes(file_of(payload))
    for code, *arguments in (
        (0, "inspect", path),
        (0, "inspect", path, "--json"),
        (2, "test", "--from-path", path),
        (2, "train", "--resume", path, "--workers", "0"),
    ):
        assert console.run(cli.app, [str(argument) for argument in arguments]) == code
        out, err = capsys.readouterr()
        assert (out + err).replace("\n", "").isprintable(), out + err


def test_the_file_and_the_settings_in_it_mean_one_network(forged: ModuleType) -> None:
    for content in forged.genuine():  # whose kernels are pairs: tuples when they are made, lists when they are read
        payload = decode(content, "")
        assert payload.network == unpack(payload, "")[0].tables()
    changed = tree()
    change("config.model.layers.0.channels", 3)(changed)
    assert "$.payload.config.model.layers: is another network" in refusal(file_of(changed))


def test_the_commands_refuse_a_hostile_file_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evil.json"
    for claim in ("epoch of 2^53", "deep", "many names"):
        payload = tree()
        content = CLAIMS[claim](payload)
        path.write_bytes(content if isinstance(content, bytes) else file_of(payload))
        for arguments in (["inspect", str(path)], ["inspect", str(path), "--json"], ["test", "--from-path", str(path)]):
            assert console.run(cli.app, arguments) == 2
            out, err = capsys.readouterr()
            assert not out
            assert err.startswith(f"cnnpar: error: {path}: ")
            assert err.count("\n") == 1


def test_weights_of_any_size_are_tested_without_a_traceback(tmp_path: Path) -> None:
    """Finite weights whose sums are not: such a file is genuine, and its model is no good."""
    payload = tree()
    for array in payload["parameters"]:
        array["data"] = [3e38] * int(np.prod(array["shape"]))
    path = tmp_path / "model.json"
    path.write_bytes(file_of(payload))
    assert "weights_sha256" in refusal(path.read_bytes())
    weights = np.full(sum(int(np.prod(array["shape"])) for array in payload["parameters"]), 3e38, np.float32)
    change("state.weights_sha256", weights_digest(weights))(payload)
    path.write_bytes(file_of(payload))
    network, state = unpack(load(path), "")
    assert network.loss(state.parameters, np.ones((2, 8, 8, 1), np.float32), np.zeros(2, int)).count == 2


def test_the_fuzzer_reports_what_it_has_done(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPTS / "fuzz_checkpoint.py", "--runs", "30", "--json"],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=HANGING,
    )  # fmt: skip
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["mutations"], result["failures"]) == (30, 0)
    assert result["accepted"] + result["refused"] == 30
    assert not list(tmp_path.iterdir())
