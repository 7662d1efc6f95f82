"""Hostile checkpoints: refused in one line of printable text, or as good as genuine ones."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnpar.cli import commands, console
from cnnpar.errors import InputError
from cnnpar.storage.checkpoint import decode, read
from cnnpar.storage.packing import unpack
from cnnpar.training.state import weights_digest
from scripts.fuzz import forged
from tests.helpers.checkpoint_claims import CLAIMS
from tests.helpers.checkpoints import change, file_of, refusal, tree
from tests.helpers.limits import HANGING
from tests.helpers.tiny_runs import ROOT

Tree = dict[str, Any]


@given(chance=st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_forged_checkpoints_are_refused_or_as_good_as_genuine(chance: Random) -> None:
    forged.judge(forged.forge(chance))


def test_the_fuzzers_judge_notices_a_faulty_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = forged.genuine()
    assert all(map(forged.judge, genuine))
    twice = genuine[0].replace(b'{"sha256"', b'{"sha256":"","sha256"')
    assert not forged.judge(twice)
    monkeypatch.setattr("cnnpar.storage.checkpoint.check_json", lambda content: None)
    with pytest.raises(AssertionError, match="key twice"):
        forged.judge(twice)
    for error in (ValueError("no"), InputError("f: a\nb"), InputError("f: \x1b[2J"), InputError("f: " + "a" * 2000)):
        monkeypatch.setattr(forged, "decode", lambda *_, error=error: (_ for _ in ()).throw(error))
        with pytest.raises((AssertionError, ValueError)):
            forged.judge(genuine[0])


def test_duplicate_keys_are_refused_in_every_object() -> None:
    """JSON readers differ in which of two equal keys they take: one file must not hold two models."""
    counted = 0

    def doubled(node: Any, whole: Any) -> None:
        nonlocal counted
        for place, part in enumerate(list(node)):
            if isinstance(node, forged.Object):
                for key in (part[0], forged.Literal(f'"\\u{ord(part[0][0]):04x}{part[0][1:]}"')):
                    node.insert(place, [key, part[1]])
                    assert "occurs twice" in refusal(forged.signed(forged.text_of(whole).encode()))
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
    assert "$: the key 'payload' occurs twice" in refusal(
        forged.signed(body.encode()).replace(b',"payload"', b',"payload":{},"payload"')
    )


def test_long_texts_and_deep_nesting_are_refused_by_place() -> None:
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


def test_quotes_and_brackets_in_texts_are_read_as_text() -> None:
    payload = tree()
    texts = ['"no": {', "yes\\", '[bold]"\\"}']
    change("preprocessing.class_names", texts)(payload)
    assert decode(file_of(payload), "").preprocessing.class_names == tuple(texts)
    change("fingerprint", {'a\\"': "{", "@": '"'})(payload)
    assert "$.payload.fingerprint: the key" in refusal(file_of(payload, b'"@"', rb'"a\\\""'))


def test_epochs_of_unequal_numbers_of_steps_are_refused() -> None:
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
def test_errors_about_a_checkpoint_have_no_escape_sequences(path: str, value: Any) -> None:
    payload = tree()
    change(path, value)(payload)
    text = refusal(file_of(payload))
    assert text.isprintable(), text


def test_output_about_a_checkpoint_has_no_escape_sequences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
        assert console.run(commands.app, [str(argument) for argument in arguments]) == code
        out, err = capsys.readouterr()
        assert (out + err).replace("\n", "").isprintable(), out + err


def test_a_network_that_differs_from_its_config_is_refused() -> None:
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
            assert console.run(commands.app, arguments) == 2
            out, err = capsys.readouterr()
            assert not out
            assert err.startswith(f"cnnpar: error: {path}: ")
            assert err.count("\n") == 1


def test_weights_that_overflow_in_the_loss_raise_no_error(tmp_path: Path) -> None:
    """Such a file is genuine: its weights are finite, and only their sums are not."""
    payload = tree()
    for array in payload["parameters"]:
        array["data"] = [3e38] * int(np.prod(array["shape"]))
    path = tmp_path / "model.json"
    path.write_bytes(file_of(payload))
    assert "weights_sha256" in refusal(path.read_bytes())
    weights = np.full(sum(int(np.prod(array["shape"])) for array in payload["parameters"]), 3e38, np.float32)
    change("state.weights_sha256", weights_digest(weights))(payload)
    path.write_bytes(file_of(payload))
    network, state = unpack(read(path), "")
    assert network.loss(state.parameters, np.ones((2, 8, 8, 1), np.float32), np.zeros(2, int)).count == 2


def test_the_fuzzer_counts_mutations_and_failures(tmp_path: Path) -> None:
    options = ["--runs", "30", "--failures", str(tmp_path / "failures"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.fuzz.checkpoint", *options],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=HANGING,
    )  # fmt: skip
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["mutations"], result["failures"]) == (30, 0)
    assert result["accepted"] + result["refused"] == 30
    assert not list(tmp_path.iterdir())
