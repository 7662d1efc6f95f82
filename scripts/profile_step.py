"""Where one gradient's time goes, layer by layer, on one core with one BLAS thread.

    python scripts/profile_step.py [--config FILE] [--shape H W C] [--classes N] [--microbatch 16] [--repeat 200]

The network is the configuration's `model.layers`; without a file it is the default one, on 8 x 8 x 1. Times are
means over the fastest quarter of the steps, those that other work on the machine disturbed least. Operations are
those of the matrix products: 2 for each weight and place that it is used at.
"""

import argparse
import math
import time
from collections import defaultdict
from statistics import mean
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from cnnpar.config import Config
from cnnpar.nn.layers import Layer
from cnnpar.nn.network import Network
from cnnpar.settings import read, resolve


class Timed:
    """A layer that writes down how long its methods take, in seconds."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.times: dict[str, list[float]] = defaultdict(list)

    def __getattr__(self, method: str) -> Any:
        if not callable(getattr(self.layer, method)):
            return getattr(self.layer, method)

        def call(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = getattr(self.layer, method)(*arguments)
            self.times[method].append(time.perf_counter() - start)
            return result

        return call

    def milliseconds(self, steps: list[int], *methods: str) -> float:
        """Mean time of these methods together, in these steps."""
        return 1e3 * mean(sum(self.times[method][step] for method in methods if method in self.times) for step in steps)


def operations(network: Network, samples: int) -> list[int]:
    """For each layer, the multiplications and additions of its forward product, for all samples."""
    counts, shape = [], tuple(network.input_shape)
    for layer in network.layers:
        output = layer.output_shape(shape)
        weight = layer.parameters(shape).get("weight")
        places = math.prod(output[:-1])
        counts.append(2 * samples * places * math.prod(weight.shape) if weight else 0)
        shape = output
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", help="TOML file; default: the network of cnnpar.config on 8 x 8 x 1")
    parser.add_argument("--shape", type=int, nargs=3, default=(8, 8, 1), metavar=("H", "W", "C"))
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--microbatch", type=int, default=16, help="samples at a time")
    parser.add_argument("--repeat", type=int, default=200)
    options = parser.parse_args()
    settings = resolve(read(options.config)) if options.config else Config()
    height, width, channels = options.shape
    network = Network.from_tables(settings.model.layers, (height, width, channels), options.classes)

    samples = options.microbatch
    random = np.random.default_rng(0)
    parameters = network.init(0)
    gradient = np.empty_like(parameters)
    images = random.standard_normal((samples, height, width, channels), np.float32)
    labels = random.integers(0, options.classes, samples)
    generators = {index: np.random.Generator(np.random.Philox(index)) for index in range(len(network.layers))}

    def step() -> float:
        start = time.perf_counter()
        network.loss_and_gradient(parameters, images, labels, generators.__getitem__, gradient)
        return time.perf_counter() - start

    with threadpool_limits(1):
        for _ in range(10):
            step()
        layers = network.layers
        timed = [Timed(layer) for layer in layers]
        network.layers = tuple(timed)  # type: ignore[arg-type]
        seconds = [step() for _ in range(options.repeat)]
    steps = sorted(range(options.repeat), key=seconds.__getitem__)[: -(-options.repeat // 4)]
    whole = 1e3 * mean(seconds[step] for step in steps)

    print(f"{'layer':<12} {'forward ms':>10} {'backward ms':>11} {'GFLOP/s':>8} {'share':>6}")
    rest = whole
    for layer, clock, count in zip(layers, timed, operations(network, samples), strict=True):
        forward = clock.milliseconds(steps, "forward")
        backward = clock.milliseconds(steps, "gradients", "backward")
        products = sum(method in clock.times for method in ("forward", "gradients", "backward"))
        rate = f"{products * count / (forward + backward) / 1e6:8.1f}" if count else " " * 8
        rest -= forward + backward
        print(f"{layer.name:<12} {forward:10.3f} {backward:11.3f} {rate} {(forward + backward) / whole:6.1%}")
    print(f"{'the rest':<12} {'':>10} {rest:11.3f} {'':8} {rest / whole:6.1%}")
    blas = ", ".join(f"{info['internal_api']} {info.get('architecture', '')}" for info in threadpool_info())
    print(f"{samples} images in {whole:.3f} ms: {1e3 * samples / whole:,.0f} images/s on one core ({blas})")


if __name__ == "__main__":
    main()
