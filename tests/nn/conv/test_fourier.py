"""Convolution by Fourier transforms against im2col and scipy, where it is chosen, and what a run says of it."""

import subprocess
import sys
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import oaconvolve

from cnnpar.config.resolve import resolve
from cnnpar.config.sections import Engine
from cnnpar.fingerprint import differences, fingerprint
from cnnpar.nn.conv import dispatch, fourier, im2col, winograd
from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Array
from cnnpar.nn.windows import Windows
from cnnpar.nn.workspace import Workspace
from cnnpar.parallel.direct.transport import DirectTransport
from cnnpar.parallel.server import Server
from tests.helpers.made_runs import fail, in_process, made_run, opened, trained
from tests.helpers.plain_workers import Threads
from tests.helpers.tiny_runs import ROOT

LARGE: tuple[dict[str, Any], ...] = (
    {"type": "conv2d", "channels": 3, "kernel": 7, "padding": 3},
    {"type": "relu"},
    {"type": "upsample2d", "factor": 3},
    {"type": "conv2d", "channels": 2, "kernel": 9},
    {"type": "maxpool2d", "size": 4},
    {"type": "flatten"},
    {"type": "dense"},
)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """Draw sizes of convolutions: windows beyond the image on any side, fewer than fit, kernels of odd shapes."""
    sizes, taps, few, starts = st.integers(1, 12), st.integers(1, 8), st.integers(1, 3), st.integers(-5, 4)
    return {
        "shape": (draw(sizes), draw(sizes), draw(few), draw(few)),
        "kernel": (draw(taps), draw(taps), draw(few)),
        "start": (draw(starts), draw(starts)),
        "count": (draw(sizes), draw(sizes)),
    }


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_fourier_agrees_with_im2col_in_output_and_gradients(case: dict[str, Any]) -> None:
    shape, windows = case["shape"], Windows(case["start"], (1, 1), case["count"])
    weights, bias = random(*case["kernel"][:2], shape[3], case["kernel"][2], seed=1), random(case["kernel"][2], seed=3)
    x, dy = random(*shape), random(*windows.outputs, shape[2], case["kernel"][2], seed=2)
    memory, plain = Workspace(), Workspace()
    gradient, expected = np.empty_like(weights), np.empty_like(weights)
    dx, sums = np.full(shape, 7.0), np.empty((2, len(bias)))
    for scale in (np.nan, 1.0):  # the second pass in memory that held NaN
        y = fourier.correlate(x * scale, weights, bias, windows, memory)
        dx.fill(0)
        fourier.gradients(dy * scale, gradient, sums[0], windows, memory, dx)
    np.testing.assert_allclose(y, im2col.correlate(x, weights, bias, windows, plain), atol=1e-10)
    im2col.gradients(dy, expected, sums[1], windows, plain)
    np.testing.assert_allclose(gradient, expected, atol=1e-10)
    np.testing.assert_allclose(sums[0], sums[1])
    # y is linear in x: the gradient is the transpose.
    np.testing.assert_allclose(np.vdot(dx, x), np.vdot(dy, y - bias), rtol=1e-8, atol=1e-8)


def test_fourier_is_what_scipys_overlap_add_convolution_gives() -> None:
    x, weights = random(20, 23, 2, 3), random(9, 11, 3, 2, seed=1)
    y = fourier.correlate(x, weights, None, Windows((0, 0), (1, 1), (12, 13)), Workspace())
    for n, k in np.ndindex(2, 2):
        whole = sum(oaconvolve(x[:, :, n, c], weights[::-1, ::-1, c, k], mode="valid") for c in range(3))
        np.testing.assert_allclose(y[:, :, n, k], whole, atol=1e-10)


def test_float32_stays_float32_and_rounds_as_im2col_does() -> None:
    exact = random(24, 24, 2, 8), random(11, 11, 8, 4, seed=1)
    x, weights = (array.astype(np.float32) for array in exact)
    windows = Windows((-5, -5), (1, 1), (24, 24))
    true = im2col.correlate(x.astype(np.float64), weights.astype(np.float64), None, windows, Workspace())
    errors = []
    for way in (fourier, im2col):
        y = way.correlate(x, weights, None, windows, Workspace())
        assert y.dtype == np.float32
        errors.append(np.sqrt(np.mean((y - true) ** 2)))
    assert errors[0] < 3 * errors[1]


def test_fourier_suits_large_kernels_of_stride_1_alone() -> None:
    windows = Windows((-4, -4), (1, 1), (28, 28))
    assert fourier.suits((9, 9, 1, 16), windows)
    assert dispatch.way((28, 28), (9, 9, 1, 16), windows) is fourier
    for others in ({"stride": (2, 1)}, {"dilation": (1, 2)}, {"groups": 4}, {"outputs": (1, 1)}):
        assert not fourier.suits((9, 9, 4, 16), windows._replace(**others))
    assert not fourier.suits((5, 5, 64, 64), Windows((-2, -2), (1, 1), (10**6, 10**6)))
    assert dispatch.way((28, 28), (5, 5, 16, 16), Windows((-2, -2), (1, 1), (28, 28))) is winograd


@pytest.mark.parametrize(
    "layer", [{"type": "conv2d", "kernel": 9}, {"type": "convtranspose2d", "kernel": 16, "stride": 2}]
)
def test_only_networks_that_compute_with_scipy_name_it(layer: dict[str, Any]) -> None:
    end: list[dict[str, Any]] = [{"type": "flatten"}, {"type": "dense"}]
    block = {"type": "residual", "layers": [{"type": "conv2d", "channels": 1, "kernel": 11}]}
    for tables in ([{"channels": 4, **layer}, *end], [block, *end]):
        network = Network.from_tables(tables, (28, 28, 1), 3)
        assert network.libraries == {"scipy"}
        assert Network.from_tables(tables, (28, 28, 1), 3, kernels="numpy").libraries == set()
    small = Network.from_tables([{"channels": 4, **layer, "kernel": 5}, *end], (28, 28, 1), 3)
    assert small.libraries == set()
    own = fingerprint(network.libraries)
    assert own == {**fingerprint(), "scipy": scipy.__version__}
    assert differences(own, {**own, "scipy": "1.0"}) == f"scipy: 1.0 instead of {scipy.__version__}"


def test_worker_count_leaves_weights_unchanged_by_fourier() -> None:
    table = {"model": {"layers": LARGE}, "train": {"epochs": 1, "batch_size": 40, "microbatch": 8}}
    wanted, work, data = made_run(settings=resolve(table))
    assert work.libraries == {"scipy"}
    with closing(in_process(work, data)) as server:
        expected = trained(wanted, work, server).digest
    for count in (1, 3):
        engine = Engine(workers=count, deadline_floor=60.0)
        transport = DirectTransport(work, Threads(work, data, True, {}), engine.start_timeout)
        with closing(opened(Server(work, transport, engine, fail))) as server:
            assert trained(wanted, work, server).digest == expected


def test_scipy_is_imported_by_networks_of_large_kernels_alone() -> None:
    code = (
        "import sys, numpy as np\n"
        "from cnnpar.nn.network import Network\n"
        "def pass_through(kernel):\n"
        "    layers = [{'type': 'conv2d', 'channels': 2, 'kernel': kernel}, {'type': 'flatten'}, {'type': 'dense'}]\n"
        "    network = Network.from_tables(layers, (28, 28, 1), 3)\n"
        "    parameters = network.init(0)\n"
        "    network.loss(parameters, np.ones((2, 28, 28, 1), np.float32), np.array([0, 1]))\n"
        "pass_through(5)\n"
        "assert not [name for name in sys.modules if name.startswith('scipy')]\n"
        "pass_through(9)\n"
        "assert 'scipy.fft' in sys.modules and 'scipy.signal' not in sys.modules\n"
        "from threadpoolctl import threadpool_info\n"
        "assert {pool['num_threads'] for pool in threadpool_info() if pool['user_api'] == 'blas'} == {1}\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
