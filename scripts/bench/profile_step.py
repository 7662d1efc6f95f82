"""Where a step's time goes: a gradient's, layer by layer, on one core with one BLAS thread; and the engine's phases.

    python scripts/profile_step.py [--network NAME | --config FILE --shape H W C --classes N] [--microbatch 16]
                                   [--repeat 200] [--workers 2] [--batch 128] [--steps 300] [--json]

The network is one of bench_networks.py, or the configuration's `model.layers`; by default the one for the digits.
Times are CPU times, means over the fastest quarter of the steps, those that other work on the machine disturbed least.
MFLOP counts the products and sums of the definition, 2 for each weight and place that it is used at; a way that needs
fewer (cnnpar/nn/winograd.py) shows as a rate that may be above the machine's own.

The second table is of whole training steps, by `cnnpar.training.train`, with workers on the direct transport: medians
of wall time. `--workers 0` computes in this process.
"""

import argparse
import json
import time
from collections import defaultdict
from statistics import mean
from typing import Any, cast

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from cnnpar.config import Config
from cnnpar.nn.chain import Run
from cnnpar.nn.layers import Layer
from cnnpar.nn.network import Network
from cnnpar.settings import read, resolve
from scripts.bench.networks import TASKS, make_network, noise
from scripts.bench.profile_engine import profile, show


class Timed:
    """A layer that writes down how long its methods take, in seconds."""

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

    def milliseconds(self, steps: list[int], *methods: str) -> float:
        """Mean time of these methods together, in these steps."""
        return 1e3 * mean(sum(self.times[method][step] for method in methods if method in self.times) for step in steps)


def product_rate() -> float:
    """GFLOP/s of a product of two float32 matrices of 2048 x 2048, the best of ten: what this core can do."""
    a = np.random.default_rng(0).standard_normal((2048, 2048), np.float32)
    out, seconds = np.empty_like(a), []
    for _ in range(10):
        start = time.thread_time()
        np.matmul(a, a, out=out)
        seconds.append(time.thread_time() - start)
    return 2 * 2048**3 / min(seconds) / 1e9


def chosen(options: argparse.Namespace) -> Network:
    """The network that the options name."""
    if options.network:
        return make_network(TASKS[options.network])
    settings = resolve(read(options.config)) if options.config else Config()
    height, width, channels = options.shape
    return Network.from_tables(settings.model.layers, (height, width, channels), options.classes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--network", choices=sorted(TASKS), help="one of bench_networks.py")
    parser.add_argument("--config", help="TOML file; default: the network of cnnpar.config on 8 x 8 x 1")
    parser.add_argument("--shape", type=int, nargs=3, default=(8, 8, 1), metavar=("H", "W", "C"))
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--microbatch", type=int, default=16, help="samples at a time")
    parser.add_argument("--repeat", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2, help="of the second table")
    parser.add_argument("--batch", type=int, default=128, help="samples of its steps")
    parser.add_argument("--steps", type=int, default=300, help="it measures so many, after as many to warm up")
    parser.add_argument("--json", action="store_true", help="print the sums as one object, on the last line")
    options = parser.parse_args()
    network = chosen(options)

    samples = options.microbatch
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

    def fastest(seconds: list[float]) -> list[int]:
        return sorted(range(options.repeat), key=seconds.__getitem__)[: -(-options.repeat // 4)]

    with threadpool_limits(1):
        most = product_rate()
        for _ in range(10):
            step()
        seconds = [step() for _ in range(options.repeat)]
        alone = mean(seconds[place] for place in fastest(seconds))
        chain = network.chain
        timed = [Timed(run.layer) for run in chain.runs]
        runs = chain.runs
        chain.runs = [Run(run.place, cast("Layer", clock)) for run, clock in zip(runs, timed, strict=True)]
        seconds = [step() for _ in range(options.repeat)]
        chain.runs = runs
    steps = fastest(seconds)
    whole = 1e3 * mean(seconds[step] for step in steps)

    print(f"{'layers':<27} {'forward ms':>10} {'backward ms':>11} {'MFLOP':>8} {'GFLOP/s':>8} {'share':>6}")
    rest, total = whole, 0
    stops = [run.place for run in chain.runs[1:]] + [len(network.layers)]
    for run, stop, clock in zip(runs, stops, timed, strict=True):
        name = " ".join(layer.name for layer in network.layers[run.place : stop])
        count = sum(chain.products[run.place : stop])
        forward = clock.milliseconds(steps, "forward")
        backward = clock.milliseconds(steps, "backward")
        wanted = run is not chain.runs[0]  # nobody asks for the gradient of the images
        count *= 2 * samples * (2 + wanted)
        rate = f"{count / 1e6:8.1f} {count / (forward + backward) / 1e6:8.1f}" if count else " " * 17
        rest, total = rest - forward - backward, total + count
        print(f"{name:<27} {forward:10.3f} {backward:11.3f} {rate} {(forward + backward) / whole:6.1%}")
    print(f"{'the rest':<27} {'':>10} {rest:11.3f} {'':17} {rest / whole:6.1%}   (reading the clock included)")
    blas = ", ".join(f"{info['internal_api']} {info.get('architecture', '')}" for info in threadpool_info())
    results = {
        "images_per_second": samples / alone,
        "gflops": total / alone / 1e9,
        "product_gflops": most,
        "share": total / alone / 1e9 / most,
    }
    print(f"{samples} images in {1e3 * alone:.3f} ms: {samples / alone:,.0f} images/s on one core ({blas})")
    print(f"{results['gflops']:.1f} GFLOP/s, {results['share']:.1%} of the {most:.1f} of a product of 2048 x 2048")
    data = noise(network.input_shape, network.classes)
    phases = profile(network, *data, options.batch, samples, options.workers, options.steps)
    show(phases, options.batch, options.workers)
    if options.json:
        print(json.dumps({**results, "engine_ms": phases}))


if __name__ == "__main__":
    main()
