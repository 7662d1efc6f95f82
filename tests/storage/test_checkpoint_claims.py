"""Absurd sizes in a checkpoint: refused, at a cost in proportion to the file and not to what it claims."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cnnpar import optim
from cnnpar.config.resolve import resolve
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.errors import InputError
from cnnpar.nn.network import Network
from cnnpar.report.inspection import describe
from cnnpar.storage.arrays import Array, flatten
from cnnpar.storage.checkpoint import decode, encode
from cnnpar.storage.packing import pack, unpack
from cnnpar.training.state import TrainState
from tests.helpers.checkpoint_claims import CLAIMS, raw
from tests.helpers.checkpoints import change, file_of, refusal, tree
from tests.helpers.limits import HANGING
from tests.helpers.tiny_runs import ROOT

Tree = dict[str, Any]


def many_classes(count: int) -> bytes:
    """Return a genuine checkpoint of a network with `count` classes."""
    config = resolve({"model": {"layers": [{"type": "flatten"}, {"type": "dense"}]}})
    network = Network.from_tables(config.model.layers, (1, 1, 1), count)
    names = Preprocessing((1, 1, 1), (1.0,), (1.0,), tuple(map(str, range(count))))
    state = TrainState(network.init(0), optim.init(config.optimizer, network.layout.trained))
    return encode(pack(config, network, names, state, {}, ""))


def test_100000_classes_are_described_in_under_24_lines() -> None:
    payload = decode(many_classes(100_000), "")
    assert len(describe(payload, *unpack(payload, "")).splitlines()) < 24


def test_20000_names_are_compared_within_half_a_second() -> None:
    arrays = [Array(str(number), "float32", (), b"") for number in range(20_000)]
    began = time.process_time()
    with pytest.raises(ValueError, match="unexpected '19999'"):
        flatten([*arrays, arrays[-1]], {array.name: () for array in arrays})
    assert time.process_time() - began < 0.5


def test_1000_layers_are_accepted_and_1001_are_refused() -> None:
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
def test_an_absurd_layer_is_refused_with_its_place(layer: Tree, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Network.from_tables([layer, {"type": "flatten"}, {"type": "dense"}], (8, 8, 1), 2)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_absurd_image_shapes_are_refused() -> None:
    payload = tree()
    change("preprocessing.image_shape", [10**4, 10**4, 1])(payload)
    assert "an image is (10000, 10000, 1): more than" in refusal(file_of(payload))


@pytest.mark.parametrize("part", ["network", "config"])
def test_network_and_config_of_over_1_mib_are_refused(part: str) -> None:
    content = raw(part, "[" + " " * 2**20 + "]")(tree())
    assert f"$.payload.{part}: 1,048,578 bytes, more than" in refusal(content)


MEASURE = """
import resource, sys, time, tracemalloc
from pathlib import Path
from cnnpar.errors import InputError
from cnnpar.storage.checkpoint import read
from cnnpar.storage.packing import unpack
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
for path in sorted(Path(sys.argv[1]).iterdir()):
    began = time.process_time()
    try:
        unpack(read(path), "f")
        refused = False
    except InputError:
        refused = True
    seconds = time.process_time() - began
    tracemalloc.start()
    try:
        unpack(read(path), "f")
    except InputError:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(path.stem, path.stat().st_size, refused, seconds, peak, sep="|")
"""


@pytest.mark.slow
def test_reading_costs_time_and_memory_in_proportion_to_size(tmp_path: Path) -> None:
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
