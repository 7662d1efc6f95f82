"""What a checkpoint may claim: within reason, and reading it costs what the file has, not what it says."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnnpar import optim
from cnnpar.arrays import Array, flatten
from cnnpar.checkpoint import decode, encode, pack, unpack
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.errors import InputError
from cnnpar.nn.network import Network
from cnnpar.report.inspection import describe
from cnnpar.settings import resolve
from cnnpar.state import TrainState
from tests.conftest import HANGING
from tests.test_checkpoint import file_of, refusal, tree
from tests.test_checkpoint_faults import change
from tests.tiny import ROOT

Tree = dict[str, Any]


def many_classes(count: int) -> bytes:
    """A genuine checkpoint of a network that tells so many classes apart."""
    config = resolve({"model": {"layers": [{"type": "flatten"}, {"type": "dense"}]}})
    network = Network.from_tables(config.model.layers, (1, 1, 1), count)
    names = Preprocessing((1, 1, 1), (1.0,), (1.0,), tuple(map(str, range(count))))
    state = TrainState(network.init(0), optim.init(config.optimizer, network.layout.trained))
    return encode(pack(config, network, names, state, {}, ""))


def test_a_hundred_thousand_classes_are_read_and_shown_on_a_screen() -> None:
    payload = decode(many_classes(100_000), "")
    assert len(describe(payload, *unpack(payload, "")).splitlines()) < 24


def test_many_names_are_compared_at_once() -> None:
    arrays = [Array(str(number), "float32", (), b"") for number in range(20_000)]
    began = time.process_time()
    with pytest.raises(ValueError, match="unexpected '19999'"):
        flatten([*arrays, arrays[-1]], {array.name: () for array in arrays})
    assert time.process_time() - began < 0.5


def test_a_network_of_many_layers_is_read_and_one_of_too_many_refused() -> None:
    layers = [{"type": "flatten"}, *[{"type": "relu"}] * 998, {"type": "dense"}]
    assert len(Network.from_tables(layers, (2, 2, 1), 2).layers) == 1000
    with pytest.raises(InputError, match="1,001 layers, and 1,000 are the most"):
        Network.from_tables([{"type": "relu"}, *layers], (2, 2, 1), 2)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"type": "conv2d", "channels": 1, "padding": 10**4}, "the output of layer 1 (conv1) is (20006"),
        ({"type": "conv2d", "channels": 1, "kernel": 10**30}, "layer 1 (conv2d): `kernel` is at most"),
        ({"type": "conv2d", "channels": 1, "stride": [1, 2**53 + 1]}, "layer 1 (conv2d): `stride` is at most"),
        ({"type": "maxpool2d", "size": 1, "stride": 16**5000}, "layer 1 (maxpool2d): `stride` is at most"),
        ({"type": "relu", "name": "a" * 101}, "layer 1 (relu): `name`"),
        ({"type": "relu", "name": "relu\n"}, "layer 1 (relu): `name`"),
    ],
)
def test_a_layer_beyond_all_reason_is_refused_by_its_place(layer: Tree, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Network.from_tables([layer, {"type": "flatten"}, {"type": "dense"}], (8, 8, 1), 2)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_images_beyond_all_reason_are_refused() -> None:
    payload = tree()
    change("preprocessing.image_shape", [10**4, 10**4, 1])(payload)
    assert "an image is (10000, 10000, 1): more than" in refusal(file_of(payload))


@pytest.mark.parametrize("part", ["network", "config"])
def test_parts_of_free_form_have_a_limit_before_they_are_read(part: str) -> None:
    content = raw(part, "[" + " " * 2**20 + "]")(tree())
    assert f"$.payload.{part}: 1,048,578 bytes, more than" in refusal(content)


def both(layers: list[Tree]) -> Callable[[Tree], None]:
    def apply(payload: Tree) -> None:
        payload["network"] = payload["config"]["model"]["layers"] = layers

    return apply


def raw(path: str, text: str) -> Callable[[Tree], bytes]:
    """A file in which that text stands at that place."""

    def make(payload: Tree) -> bytes:
        change(path, "@")(payload)
        return file_of(payload, b'"@"', text.encode())

    return make


def claimed(payload: Tree) -> None:
    """Parameters and shapes of 2 GB, within all limits."""
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

MEASURE = """
import resource, sys, time, tracemalloc
from pathlib import Path
from cnnpar.checkpoint import load, unpack
from cnnpar.errors import InputError
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
for path in sorted(Path(sys.argv[1]).iterdir()):
    began = time.process_time()
    try:
        unpack(load(path), "f")
        refused = False
    except InputError:
        refused = True
    seconds = time.process_time() - began
    tracemalloc.start()
    try:
        unpack(load(path), "f")
    except InputError:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(path.stem, path.stat().st_size, refused, seconds, peak, sep="|")
"""


@pytest.mark.slow
def test_whatever_a_file_claims_it_costs_time_and_memory_in_proportion_to_its_size(tmp_path: Path) -> None:
    for name, claim in CLAIMS.items():
        payload = tree()
        content = claim(payload)
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else file_of(payload))
    (tmp_path / "genuine").write_bytes(many_classes(3000))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True, timeout=HANGING
    )
    rows = [line.split("|") for line in done.stdout.splitlines()]
    assert len(rows) == len(CLAIMS) + 1
    for name, size, refused, seconds, peak in rows:
        assert refused == str(name != "genuine"), name
        assert float(seconds) < 0.5 + int(size) / 1e6, f"{name}: {seconds} s for {size} bytes"
        assert int(peak) < (1 << 20) + 32 * int(size), f"{name}: {peak} bytes for {size} bytes"
