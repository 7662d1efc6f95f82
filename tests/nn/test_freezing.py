"""Frozen arrays keep their bits with every optimizer and in resumed runs; the others learn as without freezing."""

from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.config.resolve import resolve
from cnnpar.config.sections import Config
from cnnpar.errors import InputError
from cnnpar.nn.layers import Conv2D
from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Array
from cnnpar.report.inspection import describe
from cnnpar.storage.checkpoint import read
from cnnpar.training.loop import train
from cnnpar.training.state import first_state
from tests.helpers import tiny_runs
from tests.helpers.checkpoints import NETWORK, made_state, packed
from tests.helpers.made_runs import Nobody, in_process, made_run, trained
from tests.helpers.observers import Stopping
from tests.helpers.random_workers import RandomWorkers, served
from tests.helpers.run_files import assert_same_run

CONV: dict[str, Any] = {"type": "conv2d", "channels": 4, "kernel": 3, "padding": "same"}
NORM: dict[str, Any] = {"type": "batchnorm2d"}
RELU, FLATTEN, DENSE = ({"type": name} for name in ("relu", "flatten", "dense"))
POOL: dict[str, Any] = {"type": "maxpool2d", "size": 2}
DEEP: list[dict[str, Any]] = [
    CONV,
    NORM,
    RELU,
    CONV,
    NORM,
    POOL,
    RELU,
    {"type": "residual", "layers": [CONV, NORM, RELU], "shortcut": [{**CONV, "kernel": 1}]},
    FLATTEN,
    {**DENSE, "units": 5},
    RELU,
    DENSE,
]
NORMS = ("batchnorm*", "residual1.batchnorm1")
OPTIMIZERS: list[dict[str, Any]] = [
    {"type": "sgd", "weight_decay": 0.1},
    {"type": "adam", "weight_decay": 0.1},
    {"type": "adamw", "weight_decay": 0.1},
    {"type": "rmsprop", "momentum": 0.9, "weight_decay": 0.1},
    {"type": "adagrad", "weight_decay": 0.1},
    {"type": "lars", "weight_decay": 0.1},
    {"type": "lamb", "weight_decay": 0.1},
]


def deep(*freeze: str, dtype: type = np.float32) -> Network:
    return Network.from_tables(DEEP, (8, 8, 1), 3, dtype, freeze=freeze)


def batch(dtype: type = np.float32, samples: int = 6) -> tuple[Array, Any]:
    random = np.random.default_rng(0)
    return random.standard_normal((samples, 8, 8, 1)).astype(dtype), random.integers(0, 3, samples)


def started(network: Network) -> Array:
    """Return a vector of weights and running statistics that all differ from their initial values."""
    vector = network.init(3)
    vector += np.random.default_rng(1).uniform(0.05, 0.3, len(vector)).astype(vector.dtype)
    return vector


NAMES = [entry.name for entry in (*deep().layout.parameters, *deep().layout.buffers)]


@given(st.sets(st.sampled_from(NAMES), max_size=len(NAMES) - 4))
def test_segments_are_the_fewest_that_cover_the_vector_once(names: set[str]) -> None:
    if names.issuperset(entry.name for entry in deep().layout.parameters):
        return
    layout = deep(*names).layout
    assert layout.frozen == names
    frozen = np.zeros(layout.size, bool)
    for name, view in layout.views(frozen).items():
        view[...] = name in names
    for found, expected, size in (
        (layout.trainable_segments, ~frozen, layout.trained),
        (layout.updated_segments, ~frozen, layout.size),
        (layout.frozen_segments, frozen, layout.size),
    ):
        marked = np.zeros(layout.size, int)
        for part, shapes in found:
            marked[part] += 1
            assert part.stop - part.start == sum(int(np.prod(shape)) for shape in shapes)
        assert np.array_equal(marked[:size], expected[:size])
        assert not marked[size:].any()
        assert all(one.part.stop < other.part.start for one, other in pairwise(found))


def test_layout_without_frozen_arrays_is_one_segment() -> None:
    layout = deep().layout
    assert [part for part, _ in layout.trainable_segments] == [slice(0, layout.trained)]
    assert [part for part, _ in layout.updated_segments] == [slice(0, layout.size)]
    assert not layout.frozen_segments


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("conv1", {"conv1.weight", "conv1.bias"}),
        ("conv?.weight", {"conv1.weight", "conv2.weight"}),
        ("residual1.shortcut", {"residual1.shortcut.conv1.weight", "residual1.shortcut.conv1.bias"}),
        ("residual1.conv1", {"residual1.conv1.weight", "residual1.conv1.bias"}),
        ("batchnorm[2-9]", {f"batchnorm2.{name}" for name in ("scale", "shift", "mean", "variance")}),
        ("*.bias", {name for name in NAMES if name.endswith(".bias")}),
        ("residual*", {name for name in NAMES if name.startswith("residual1")}),
    ],
)
def test_freeze_pattern_matches_layers_or_their_arrays(pattern: str, names: set[str]) -> None:
    assert deep(pattern).layout.frozen == names


def test_freeze_pattern_without_a_match_is_refused_with_names() -> None:
    with pytest.raises(InputError) as caught:
        deep("conv1", "Conv2")
    text = str(caught.value)
    assert text.startswith("model.freeze: 'Conv2' matches nothing; there are conv1, batchnorm1, conv2, batchnorm2, ")
    assert "residual1.shortcut.conv1" in text
    assert text.endswith("such as conv1.weight")
    with pytest.raises(InputError, match="leaves no parameter that could learn"):
        deep("*")
    for wrong in ([""], ["x" * 101], ["x"] * 101, "conv1"):
        with pytest.raises(InputError, match=r"model\.freeze"):
            resolve({"model": {"freeze": wrong}})


@pytest.mark.parametrize(
    "freeze", [("conv1",), ("conv2", "dense1"), ("conv1", "*.bias"), ("residual1.shortcut",), ("residual1.conv1",)]
)
def test_freezing_leaves_the_bits_of_other_gradients_unchanged(
    freeze: tuple[str, ...],
) -> None:
    whole, frozen = deep(), deep(*freeze)
    vector, (images, labels) = started(whole), batch()
    expected, found = (np.full(whole.layout.size, np.nan, np.float32) for _ in range(2))
    sums = whole.loss_and_gradient(vector, images, labels, None, expected)
    assert frozen.loss_and_gradient(vector, images, labels, None, found) == sums
    for part, _ in frozen.layout.updated_segments:
        assert found[part].tobytes() == expected[part].tobytes()
    for part, _ in frozen.layout.frozen_segments:
        assert not found[part].any()


@pytest.mark.parametrize("freeze", [("batchnorm1",), ("batchnorm2",), NORMS, (*NORMS, "conv1"), ("residual1.b*",)])
def test_gradient_past_frozen_batchnorm_is_finite_difference(
    freeze: tuple[str, ...],
) -> None:
    network = deep(*freeze, dtype=np.float64)
    vector, (images, labels) = started(network), batch(np.float64)
    gradient, other = np.empty(network.layout.size), np.empty(network.layout.size)
    network.loss_and_gradient(vector, images, labels, None, gradient)
    direction = np.zeros(network.layout.size)
    for part, _ in network.layout.trainable_segments:
        direction[part] = np.random.default_rng(2).standard_normal(part.stop - part.start)
    step = 1e-6 * direction
    up, down = (network.loss_and_gradient(vector + sign * step, images, labels, None, other).loss for sign in (1, -1))
    assert gradient @ direction == pytest.approx((up - down) / 2e-6, rel=1e-5)
    assert np.abs(gradient).max() > 0.01


def test_frozen_batchnorm_normalises_as_in_evaluation() -> None:
    vector, (images, labels) = started(deep()), batch()
    network, out = deep(*NORMS), np.empty(deep().layout.size, np.float32)
    assert network.loss_and_gradient(vector, images, labels, None, out) == network.loss(vector, images, labels)
    partly = deep("batchnorm1.scale", "batchnorm1.shift")  # its statistics move
    assert partly.loss_and_gradient(vector, images, labels, None, out) != network.loss(vector, images, labels)
    assert partly.layout.views(out)["batchnorm1.mean"].any()


def test_backward_pass_ends_at_the_first_layer_that_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [CONV, RELU, CONV, FLATTEN, DENSE]
    network = Network.from_tables(tables, (8, 8, 1), 3, freeze=["conv*"])
    monkeypatch.setattr(Conv2D, "backward", lambda *_: pytest.fail("went backward"))
    images, labels = batch()
    out = np.full(network.layout.size, np.nan, np.float32)
    network.loss_and_gradient(network.init(0), images, labels, None, out)
    assert np.isfinite(out).all()
    assert out.any()


def run_of(freeze: list[str], **changes: Any) -> Config:
    tables: dict[str, dict[str, Any]] = {
        "model": {"layers": DEEP, "freeze": freeze},
        "train": {"epochs": 2, "batch_size": 50, "microbatch": 8, "ema_decay": 0.8, "clip_norm": 0.5},
    }
    return resolve({**tables, **changes})


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: str(optimizer["type"]))
def test_frozen_arrays_and_their_ema_keep_their_bits(optimizer: dict[str, Any]) -> None:
    settings = run_of(["conv1", "batchnorm2", "residual1.conv1.weight", "*.bias"], optimizer=optimizer)
    _, work, data = made_run(settings=settings)
    network = work.network
    state = first_state(settings, network)
    assert state.ema is not None
    for part, _ in network.layout.frozen_segments:
        state.parameters[part.start] = -0.0  # which becomes 0 where a zero is added to it
    state.ema[:] = state.parameters
    before = state.parameters.copy()
    train(settings, work, in_process(work, data), state, Nobody(), lambda: False)
    for vector in (state.parameters, state.ema):
        for name, view in network.layout.views(vector).items():
            same = view.tobytes() == network.layout.views(before)[name].tobytes()
            assert same == (name in network.layout.frozen), name
    for vector in state.optimizer.values():
        for name, view in network.layout.views(vector).items():
            assert view.any() != (name in network.layout.frozen), name


def test_gradient_norm_excludes_frozen_arrays() -> None:
    freeze = [entry.name for entry in deep().layout.parameters if entry.name != "dense2.bias"]
    network = deep(*freeze)
    vector, (images, labels) = started(network), batch()
    out = np.empty(network.layout.size, np.float32)
    network.loss_and_gradient(vector, images, labels, None, out)
    assert np.linalg.norm(out[: network.layout.trained]) == np.linalg.norm(network.layout.views(out)["dense2.bias"])


def test_worker_count_leaves_frozen_networks_weights_unchanged() -> None:
    settings = run_of(["conv1", "batchnorm1", "residual1.batchnorm1"])
    _, work, data = made_run(settings=settings)
    alone = trained(settings, work, in_process(work, data)).digest
    for workers in (1, 3, 5):
        server = served(RandomWorkers(work, data, Random(workers)), workers)
        assert trained(settings, work, server).digest == alone
    _, work, data = made_run(settings=run_of([]))
    assert trained(run_of([]), work, in_process(work, data)).digest != alone


def test_fine_tuning_keeps_frozen_arrays_and_resumes_exactly(tmp_path: Path) -> None:
    csv = tiny_runs.write_csv(tmp_path / "train.csv")
    source = tiny_runs.train(tiny_runs.settings(csv, train={"ema_decay": 0.0}), tmp_path / "source").checkpoint

    def fine(*freeze: str, **changes: Any) -> Config:
        return tiny_runs.settings(csv, model={"init_from": source, "freeze": list(freeze), **changes})

    told = tiny_runs.Lines()
    tiny_runs.train(fine("conv1"), tmp_path / "whole", progress=told)
    assert "47 parameters, 20 of them frozen, batches" in told.lines[2]
    before, after = (
        {array.name: array.data for array in read(path).parameters} for path in (source, tmp_path / "whole/model.json")
    )
    assert [name for name in before if before[name] == after[name]] == ["conv1.weight", "conv1.bias"]
    model = tmp_path / "cut" / "model.json"
    tiny_runs.train(fine("conv1"), tmp_path / "cut", progress=Stopping(7))
    for other in ((), ("conv1.weight",), ("dense1",)):
        with pytest.raises(InputError, match=r"cannot resume: model\.freeze was \['conv1'\] and is now \["):
            tiny_runs.train(fine(*other), None, model)
    tiny_runs.train(fine("conv*", "conv1.bias"), None, model)  # the same arrays
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_inspect_names_the_frozen_arrays() -> None:
    state = made_state()
    assert "frozen" not in describe(packed(state), NETWORK, state)
    network = Network.from_tables(tiny_runs.LAYERS, (8, 8, 1), 3, freeze=["conv1"])
    assert "2 arrays: conv1.bias, conv1.weight" in describe(packed(state), network, state)
