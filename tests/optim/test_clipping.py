"""Clipping of gradients against PyTorch; independence of the number of workers; buffers are not clipped."""

from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.config.resolve import resolve
from cnnpar.config.sections import Config, Train
from cnnpar.optim import clip, init
from cnnpar.optim.norms import norm
from cnnpar.training.loop import train
from cnnpar.training.state import TrainState
from tests.helpers.made_runs import LAYERS, Nobody, in_process, made_run, trained
from tests.helpers.random_workers import RandomWorkers, served

LIMITS: list[dict[str, float]] = [{"clip_value": 0.03}, {"clip_norm": 0.05}, {"clip_value": 0.02, "clip_norm": 0.1}]
BOTH = pytest.mark.parametrize("limits", LIMITS, ids=["value", "norm", "both"])


def settings(limits: dict[str, float]) -> Config:
    """Return the settings of `made_run` with these limits, and with batch normalisation, which has buffers."""
    return resolve(
        {
            "model": {"layers": [LAYERS[0], {"type": "batchnorm2d"}, *LAYERS[1:]]},
            "augment": {"ratio": 4, "shift": 1},
            "train": {"epochs": 2, "batch_size": 50, "microbatch": 8, "seed": 7, **limits},
        }
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@BOTH
def test_clipped_gradient_agrees_with_pytorch(limits: dict[str, float], scale: float, dtype: type[np.floating]) -> None:
    """Several parameters have one norm in common; `clip_value` comes before `clip_norm`."""
    torch = pytest.importorskip("torch")
    rng, count = np.random.default_rng(0), 48
    mean = (rng.standard_normal(60) * scale).astype(dtype)
    theirs = [torch.nn.Parameter(torch.zeros(20, dtype=torch.from_numpy(mean).dtype)) for _ in range(3)]
    for parameter, part in zip(theirs, np.split(mean, 3), strict=True):
        parameter.grad = torch.from_numpy(part.copy())
    if "clip_value" in limits:
        torch.nn.utils.clip_grad_value_(theirs, limits["clip_value"])
    if "clip_norm" in limits:
        torch.nn.utils.clip_grad_norm_(theirs, limits["clip_norm"])
    expected = np.concatenate([parameter.grad.numpy() for parameter in theirs])

    gradient_sum = mean * dtype(count)
    divisor = clip(settings(limits).train, gradient_sum, count)
    np.testing.assert_allclose(gradient_sum / dtype(divisor), expected, rtol=1e-12 if dtype == np.float64 else 1e-6)


@given(
    seed=st.integers(0, 2**32),
    scale=st.floats(1e-20, 1e20),
    count=st.integers(1, 10**6),
    value=st.floats(1e-3, 1e3),
    length=st.floats(1e-3, 1e3),
)
def test_clipped_gradient_is_within_limits_or_unchanged(
    seed: int, scale: float, count: int, value: float, length: float
) -> None:
    before = (np.random.default_rng(seed).standard_normal(30) * scale).astype(np.float32)
    after = before.copy()
    divisor = clip(Train(clip_value=value, clip_norm=length), after, count)
    mean = after.astype(np.float64) / divisor
    assert np.abs(mean).max() <= value * (1 + 1e-6)
    assert norm(mean) <= length * (1 + 1e-12)
    if np.abs(before).max() <= value * count:
        assert after.tobytes() == before.tobytes()
        if norm(before) / count <= length * (1 - 1e-9) - 1e-6:
            assert divisor == count


def test_gradient_is_not_read_without_limits() -> None:
    nothing: Any = None
    assert clip(Train(), nothing, 48) == 48


@BOTH
def test_worker_count_leaves_clipped_weights_unchanged(limits: dict[str, float]) -> None:
    wanted = settings(limits)
    _, work, data = made_run(settings=wanted)
    alone = trained(wanted, work, in_process(work, data)).digest
    for workers in (1, 3, 5):
        server = served(RandomWorkers(work, data, Random(workers)), workers)
        assert trained(wanted, work, server).digest == alone
    assert trained(settings({}), work, in_process(work, data)).digest != alone


def test_limits_never_reached_leave_weights_unchanged() -> None:
    digests = set()
    unreached: list[dict[str, float]] = [{}, {"clip_value": 1e30}, {"clip_norm": 1e30}]
    for limits in unreached:
        wanted = settings(limits)
        _, work, data = made_run(settings=wanted)
        digests.add(trained(wanted, work, in_process(work, data)).digest)
    assert len(digests) == 1


def test_buffers_are_not_clipped() -> None:
    parameters, buffers = set(), set()
    for limits in [{}, *LIMITS]:
        wanted = settings(limits)
        _, work, data = made_run(settings=wanted)
        network, server = work.network, in_process(work, data)
        state = TrainState(network.init(7), init(wanted.optimizer, network.layout.trained))
        train(wanted, work, server, state, Nobody(), lambda: True)  # one step
        parameters.add(state.parameters[: network.layout.trained].tobytes())
        buffers.add(state.parameters[network.layout.trained :].tobytes())
    assert (len(parameters), len(buffers)) == (4, 1)
