"""`model.kernels`: the same network by the engine's kernels and by the textbook's, layer by layer and in training."""

import hashlib
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy

import cnnpar
from cnnpar.config.resolve import resolve
from cnnpar.config.sections import Config, Engine, Kernels
from cnnpar.nn.layers import Dropout, Flatten
from cnnpar.nn.network import Network
from cnnpar.nn.textbook.choose import with_kernels
from cnnpar.nn.textbook.layers import NUMPY
from cnnpar.nn.textbook.scipy_layers import SCIPY
from cnnpar.parallel.direct.transport import DirectTransport
from cnnpar.parallel.server import Server
from cnnpar.storage.checkpoint import decode, encode, read
from tests.helpers.commands import call
from tests.helpers.made_runs import LAYERS, fail, in_process, made_run, opened, trained
from tests.helpers.plain_workers import Threads
from tests.helpers.run_files import metrics
from tests.helpers.tiny_runs import Lines, settings, train, write_csv
from tests.nn.layers.test_layers import ROWS, Bench, batch, make

REPLACED = {like.__struct_config__.tag for like in NUMPY.values()} | {"residual"}
TEXTBOOK = pytest.mark.parametrize("kernels", ["numpy", "scipy"])


@TEXTBOOK
@pytest.mark.parametrize(("kind", "table", "shape"), [row for row in ROWS if row.values[0] in REPLACED])
def test_layer_agrees_with_the_engines_within_float32(
    kernels: Kernels, kind: str, table: dict[str, Any], shape: tuple[int, ...]
) -> None:
    fast = make(kind, **table)
    (like,) = with_kernels([fast], kernels)
    assert like != fast
    benches = [Bench(layer, shape, np.float32) for layer in (fast, like)]
    x = np.round(batch(shape, 3, np.float32), 1)  # rounded: pooling meets equal numbers
    outputs = [bench.forward(x) for bench in benches]
    dy = np.random.default_rng(1).standard_normal(outputs[0].shape).astype(np.float32)
    inputs = [bench.backward(dy) for bench in benches]
    found = [[y, dx, *bench.gradients.values()] for y, dx, bench in zip(outputs, inputs, benches, strict=True)]
    for expected, ours in zip(*found, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_every_layer_of_the_tables_has_a_case() -> None:
    assert {like.__struct_config__.tag for like in SCIPY.values()} | {"residual"} == REPLACED
    assert {row.values[0] for row in ROWS} >= REPLACED


@TEXTBOOK
def test_textbook_layers_are_never_fused(kernels: Kernels) -> None:
    layers: list[dict[str, Any]] = [
        {"type": "conv2d", "channels": 2},
        {"type": "batchnorm2d"},
        {"type": "relu"},
        {"type": "maxpool2d"},
    ]
    tables = [*layers, {"type": "residual", "layers": layers[:3]}, {"type": "flatten"}, {"type": "dense"}]
    network = Network.from_tables(tables, (8, 8, 1), 3, kernels=kernels)
    assert len(network.chain.runs) == len(tables)
    assert network.tables() == Network.from_tables(tables, (8, 8, 1), 3).tables()
    assert with_kernels([Dropout(), Flatten()], kernels) == (Dropout(), Flatten())


def run_of(kernels: str) -> Any:
    return made_run(
        settings=resolve(
            {
                "model": {"layers": LAYERS, "kernels": kernels},
                "augment": {"shift": 1},
                "train": {"epochs": 2, "batch_size": 40, "microbatch": 8, "seed": 7},
            }
        )
    )


@pytest.mark.parametrize("kernels", ["fast", "numpy", "scipy"])
def test_worker_count_leaves_weights_unchanged_by_any_kernels(kernels: str) -> None:
    wanted, work, data = run_of(kernels)
    with closing(in_process(work, data)) as server:
        expected = trained(wanted, work, server).digest
    for count in (1, 3):
        engine = Engine(workers=count, deadline_floor=60.0)
        transport = DirectTransport(work, Threads(work, data, True, {}), engine.start_timeout)
        with closing(opened(Server(work, transport, engine, fail))) as server:
            assert trained(wanted, work, server).digest == expected


# Few channels: scipy is called for each pair of them and each sample.
DIGITS = (
    {"type": "conv2d", "channels": 4},
    {"type": "relu"},
    {"type": "maxpool2d"},
    {"type": "conv2d", "channels": 8},
    {"type": "relu"},
    {"type": "avgpool2d"},
    {"type": "flatten"},
    {"type": "dense"},
)


def test_all_kernels_have_one_curve_of_the_loss(tmp_path: Path) -> None:
    curves, digests = [], set()
    for kernels in ("fast", "numpy", "scipy"):
        model = {"layers": DIGITS, "kernels": kernels}
        tables = {"model": model, "train": {"epochs": 1, "batch_size": 16}, "engine": {"workers": 0}}
        tables["report"] = {"every_steps": 1}
        result = cnnpar.train(tables, run_dir=tmp_path / kernels)
        curves.append([line["loss"] for line in metrics(tmp_path / kernels) if "loss" in line])
        digests.add(result.weights_sha256)
    assert len(curves[0]) == result.summary.steps
    assert np.mean(curves[0][-5:]) < 0.8 * np.mean(curves[0][:5])
    np.testing.assert_allclose(curves[1:], [curves[0]] * 2, rtol=1e-3)
    assert len(digests) == 3, "they round in other places"


def test_a_checkpoint_without_the_setting_is_the_engines(tmp_path: Path) -> None:
    train(settings(write_csv(tmp_path / "train.csv")), tmp_path / "run")
    content = encode(read(tmp_path / "run" / "model.json"))
    assert content.count(b'"kernels":"fast",') == 1
    old = content.partition(b'"payload":')[2].rstrip()[:-1].replace(b'"kernels":"fast",', b"")
    file = b'{"sha256":"%s","payload":%s}' % (hashlib.sha256(old).hexdigest().encode(), old)
    assert decode(file, "old").config.model.kernels == "fast"


def test_a_run_and_its_checkpoint_name_the_kernels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, csv = Lines(), write_csv(tmp_path / "train.csv")
    train(settings(csv, model={"kernels": "numpy"}, train={"epochs": 1}), tmp_path / "run", progress=lines)
    assert any(line.endswith(", in this process, kernels numpy") for line in lines.lines)
    assert call("cnnpar", "inspect", tmp_path / "run") == 0
    assert "\nkernels         numpy\n" in capsys.readouterr().out


def test_scipys_version_is_in_the_fingerprint_where_it_computes(tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "train.csv")
    for kernels in ("numpy", "scipy"):
        train(settings(csv, model={"kernels": kernels}, train={"epochs": 1}), tmp_path / kernels)
    assert "scipy" not in read(tmp_path / "numpy" / "model.json").fingerprint
    assert read(tmp_path / "scipy" / "model.json").fingerprint["scipy"] == scipy.__version__


def test_an_unknown_kernel_is_refused_with_those_there_are() -> None:
    with pytest.raises(cnnpar.InputError, match=r"numpi.*did you mean.*numpy.*allowed: fast, numpy, scipy"):
        resolve({"model": {"kernels": "numpi"}})
    assert Config().model.kernels == "fast"
