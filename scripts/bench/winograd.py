"""Measure convolutions of 3 x 3 by Winograd's minimal filtering beside a large product of matrices, on one thread.

    python -m scripts.bench.winograd [--json] [--isa native|avx2|avx512] [--repeats 60]

Rates are those of the definition: 2 operations for each weight and place at which it is used, three times that for
forward and backward with the gradients of kernel, bias and image. `share` is the rate of both passes, divided by that
of a product of two matrices of 2048 x 2048, which takes turns with them. Times are lower quartiles of wall-clock time.

Aims: at least 1.8 times the product with 32 channels and more, 1.3 times with 16 to 32.
"""

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cnnpar.blas import use_one_thread
from cnnpar.nn.conv import dispatch, winograd
from cnnpar.nn.loops.interface import NUMPY, compiled_loops
from cnnpar.nn.shapes import Array
from cnnpar.nn.windows import Windows
from cnnpar.nn.workspace import Workspace
from scripts import isa
from scripts.harness import Report, Table, make_parser

PRODUCT = 2048  # rows and columns of the large matrix product


class Case(NamedTuple):
    """Images of `size` x `size` pixels, and the channels of a convolution with as many outputs."""

    size: int
    samples: int
    depth: int
    channels: int

    def __str__(self) -> str:
        return f"{self.size} x {self.size}, {self.samples} samples, {self.depth} to {self.channels} channels"

    @property
    def operations(self) -> int:
        """Return the operations of a forward pass by the definition."""
        return 2 * 9 * self.size**2 * self.samples * self.depth * self.channels


CASES = (  # and the least share
    (Case(14, 16, 16, 32), 1.3),
    (Case(14, 64, 16, 32), 1.3),
    (Case(7, 64, 32, 64), 1.8),
    (Case(32, 32, 32, 32), 1.8),
    (Case(16, 32, 64, 64), 1.8),
)


def passes(case: Case) -> tuple[Callable[[], object], Callable[[], object]]:
    """Make the forward and the backward pass of a convolution as functions."""
    random, work = np.random.default_rng(0), Workspace(loops=compiled_loops() or NUMPY)

    def draw(*shape: int) -> Array:
        return random.standard_normal(shape, np.float32)

    side, windows = (case.size, case.size), Windows((-1, -1), (1, 1), (case.size, case.size))
    x, dy = draw(*side, case.samples, case.depth), draw(*side, case.samples, case.channels)
    kernel, bias = draw(3, 3, case.depth, case.channels), draw(case.channels)
    gradient, of_bias = np.empty_like(kernel), np.empty_like(bias)
    assert dispatch.way(side, kernel.shape, windows) is winograd
    return (
        lambda: dispatch.correlate(x, kernel, bias, windows, work),
        lambda: dispatch.gradients(x.shape, dy, kernel, gradient, of_bias, windows, True, work),
    )


def measure(case: Case, repeats: int) -> dict[str, float]:
    """Measure GFLOP/s of both passes and of the large product, in turns."""
    a = np.random.default_rng(0).standard_normal((PRODUCT, PRODUCT), np.float32)
    out, (forward, backward) = np.empty_like(a), passes(case)
    actions = {"forward": forward, "backward": backward}
    seconds: dict[str, list[float]] = {name: [] for name in (*actions, "product")}
    for turn in range(repeats):
        for name, action in actions.items():
            began = time.perf_counter()
            action()
            seconds[name].append(time.perf_counter() - began)
        if turn % 10 == 0:
            began = time.perf_counter()
            np.matmul(a, a, out=out)
            seconds["product"].append(time.perf_counter() - began)
    times = {name: float(np.percentile(own, 25)) for name, own in seconds.items()}
    count, product = case.operations, 2 * PRODUCT**3 / times["product"]
    both = 3 * count / (times["forward"] + times["backward"])
    rates = {"forward": count / times["forward"], "backward": 2 * count / times["backward"], "product": product}
    return {**{name: rate / 1e9 for name, rate in rates.items()}, "share": both / product}


def main() -> int:
    parser = make_parser(__doc__)
    isa.add_option(parser)
    parser.add_argument("--repeats", type=int, default=60)
    options = parser.parse_args()
    isa.restart_with(options.isa)
    use_one_thread()
    report, rows = Report(), {}
    print("GFLOP/s by the definition")
    table = Table(f"{'convolution of 3 x 3':<42}", "forward", "backward", "product", "share")
    for case, least in CASES:
        row = rows[str(case)] = measure(case, options.repeats)
        table.row(case, *(f"{row[name]:.0f}" for name in ("forward", "backward", "product")), f"{row['share']:.2f}")
        report.check(f"{case}, over the product", row["share"], "at least", least)
    return report.end({"cases": rows}, options.json)


if __name__ == "__main__":
    sys.exit(main())
