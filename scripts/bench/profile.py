"""Measure where a step's time goes: a gradient's, layer by layer, on one core; and the engine's, phase by phase.

    python -m scripts.bench.profile [--network NAME | --config FILE --shape H W C --classes N] [--microbatch 16]
                                    [--repeat 200] [--workers 2] [--batch 128] [--steps 300]
                                    [--isa native|avx2|avx512] [--json]

The network is one of scripts/bench/networks.py, or the configuration's `model.layers`; by default the one for the
digits. The first table has CPU times with one BLAS thread: means over the fastest quarter of the steps, those that
other work on the machine disturbed least. MFLOP counts the products and sums of a layer's definition, 2 for each weight
and place at which it is used; Winograd's convolutions need fewer, and show as a rate that may be above that of a large
matrix product.

The second table is of whole training steps, by `cnnpar.training.loop.train`, with workers on the direct transport:
medians of wall-clock time. `--workers 0` computes in this process. There is no aim.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import mean
from typing import Any, cast

import numpy as np
from threadpoolctl import threadpool_limits

from cnnpar.config.resolve import read_toml, resolve
from cnnpar.config.sections import Config
from cnnpar.nn.chain import Run
from cnnpar.nn.layers import Layer
from cnnpar.nn.network import Network
from scripts import isa
from scripts.bench import profile_engine
from scripts.bench.networks import TASKS, make_network, noise
from scripts.harness import Report, Table, make_parser

WARM_UP_STEPS = 10
FASTEST = 4  # one of so many steps counts
PRODUCT = 2048  # rows and columns of the large matrix product


class Timed:
    """A layer whose methods note how long they take, in seconds."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.times: dict[str, list[float]] = defaultdict(list)

    def __getattr__(self, method: str) -> Any:
        if not callable(getattr(self.layer, method)):
            return getattr(self.layer, method)

        def call(*arguments: Any) -> Any:
            start = time.thread_time()
            result = getattr(self.layer, method)(*arguments)
            self.times[method].append(time.thread_time() - start)
            return result

        return call

    def milliseconds(self, steps: list[int], method: str) -> float:
        """Return the mean time of a method in these steps; 0 if it was never called."""
        return 1e3 * mean(self.times[method][step] if method in self.times else 0.0 for step in steps)


def product_rate() -> float:
    """Measure GFLOP/s of a product of two large float32 matrices, the best of ten: the most that this core can do."""
    a = np.random.default_rng(0).standard_normal((PRODUCT, PRODUCT), np.float32)
    out, seconds = np.empty_like(a), []
    for _ in range(10):
        start = time.thread_time()
        np.matmul(a, a, out=out)
        seconds.append(time.thread_time() - start)
    return 2 * PRODUCT**3 / min(seconds) / 1e9


def chosen(options: argparse.Namespace) -> Network:
    """Make the network that the options name."""
    if options.network:
        return make_network(TASKS[options.network])
    settings = resolve(read_toml(options.config)) if options.config else Config()
    height, width, channels = options.shape
    return Network.from_tables(settings.model.layers, (height, width, channels), options.classes)


def stepper(network: Network, samples: int) -> Callable[[], float]:
    """Make a function that computes a gradient of so many samples, and returns the seconds of CPU time."""
    random = np.random.default_rng(0)
    parameters = network.init(0)
    gradient = np.empty_like(parameters)
    images = random.standard_normal((samples, *network.input_shape), np.float32)
    labels = random.integers(0, network.classes, samples)
    generators = {index: np.random.Generator(np.random.Philox(index)) for index in range(len(network.layers))}

    def step() -> float:
        start = time.thread_time()
        network.loss_and_gradient(parameters, images, labels, generators.__getitem__, gradient)
        return time.thread_time() - start

    return step


def fastest(seconds: list[float]) -> list[int]:
    """Return the numbers of the fastest steps."""
    return sorted(range(len(seconds)), key=seconds.__getitem__)[: -(-len(seconds) // FASTEST)]


def profile_layers(network: Network, samples: int, repeat: int) -> dict[str, float]:
    """Measure and print a gradient's time layer by layer; rates over the whole gradient, measured without clocks."""
    chain = network.chain
    runs = chain.runs
    timed = [Timed(run.layer) for run in runs]
    step = stepper(network, samples)
    with threadpool_limits(1):
        most = product_rate()
        for _ in range(WARM_UP_STEPS):
            step()
        seconds = [step() for _ in range(repeat)]
        alone = mean(seconds[place] for place in fastest(seconds))
        chain.runs = [Run(run.place, cast("Layer", clock)) for run, clock in zip(runs, timed, strict=True)]
        seconds = [step() for _ in range(repeat)]
        chain.runs = runs
    steps = fastest(seconds)
    whole = 1e3 * mean(seconds[step] for step in steps)

    table = Table(f"{'layers':<27}", "forward, ms", "backward, ms", "   MFLOP", "GFLOP/s", " share")
    rest, total = whole, 0
    stops = [run.place for run in runs[1:]] + [len(network.layers)]
    for run, stop, clock in zip(runs, stops, timed, strict=True):
        name = " ".join(layer.name for layer in network.layers[run.place : stop])
        forward, backward = (clock.milliseconds(steps, method) for method in ("forward", "backward"))
        passes = 2 + (run is not runs[0])  # the gradient of the images is not computed
        count = 2 * samples * passes * sum(chain.products[run.place : stop])
        rate = (f"{count / 1e6:.1f}", f"{count / (forward + backward) / 1e6:.1f}") if count else ("", "")
        rest, total = rest - forward - backward, total + count
        table.row(name, f"{forward:.3f}", f"{backward:.3f}", *rate, f"{(forward + backward) / whole:.1%}")
    table.row("the rest, reading clocks", "", f"{rest:.3f}", "", "", f"{rest / whole:.1%}")
    gflops = total / alone / 1e9
    print(f"\n{samples} images in {1e3 * alone:.3f} ms: {samples / alone:,.0f} images/s on one core")
    print(f"{gflops:.1f} GFLOP/s, {gflops / most:.1%} of the {most:.1f} of a product of {PRODUCT} x {PRODUCT}\n")
    return {
        "images_per_second": samples / alone,
        "gflops": gflops,
        "product_gflops": most,
        "share": gflops / most,
    }


def main() -> int:
    parser = make_parser(__doc__)
    isa.add_option(parser)
    parser.add_argument("--network", choices=sorted(TASKS), help="one of scripts/bench/networks.py")
    parser.add_argument("--config", help="TOML file; default: the network of cnnpar.config.sections on 8 x 8 x 1")
    parser.add_argument("--shape", type=int, nargs=3, default=(8, 8, 1), metavar=("H", "W", "C"))
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--microbatch", type=int, default=16, help="samples at a time")
    parser.add_argument("--repeat", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2, help="of the second table")
    parser.add_argument("--batch", type=int, default=128, help="samples of its steps")
    parser.add_argument("--steps", type=int, default=300, help="it measures so many, after as many to warm up")
    options = parser.parse_args()
    isa.restart_with(options.isa)
    network = chosen(options)

    report = Report()
    results = profile_layers(network, options.microbatch, options.repeat)
    data = noise(network.input_shape, network.classes)
    phases = profile_engine.profile(network, *data, options.batch, options.microbatch, options.workers, options.steps)
    profile_engine.show(phases, options.batch, options.workers)
    return report.end({**results, "engine_ms": phases}, options.json)


if __name__ == "__main__":
    sys.exit(main())
