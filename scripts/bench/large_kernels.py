"""Measure convolution with large kernels: by Fourier transforms, and by the engine's other ways.

    python -m scripts.bench.large_kernels [--json] [--kernels 5,7,9,11,15,21,31] [--repeats 5] [--samples 16]
                                          [--isa native|avx2|avx512]

Each row is a convolution with padding "same", forward and backward with all gradients, of float32 and on one thread:
the shortest of the repeats in milliseconds, of the ways taken in turns, for a second at least. `other` is the fastest
of the ways that are possible: bands, Winograd's and im2col. `products` is what `fourier.suits` decides by: products of
the definition for a pixel of what the windows span. `error` is the largest difference of output or gradients, relative
to the largest number of each. A star marks rows where the engine takes the Fourier transforms.

Aims: where they are taken they are faster, in every row; and no row of at least 9 x 9 pixels where they would be
faster by half is left to the others.
"""

import sys
import time
from collections.abc import Callable

import numpy as np

from cnnpar.blas import use_one_thread
from cnnpar.nn.conv import banded, dispatch, fourier, im2col, winograd
from cnnpar.nn.loops import interface
from cnnpar.nn.shapes import Array, Shape
from cnnpar.nn.windows import Windows
from cnnpar.nn.workspace import Scratch, Workspace
from scripts import isa
from scripts.harness import Report, Table, integers, make_parser

SHAPES = ((14, 1, 8), (28, 1, 16), (32, 3, 32), (64, 3, 32), (14, 32, 64), (28, 16, 32), (32, 64, 64))  # side, C, K
ENOUGH, LARGE = 1.5, 9
LEAST_SECONDS = 1.0  # short passes are repeated for as long


class Case:
    """One convolution of an odd number of pixels: its arrays, and a pass by each way."""

    def __init__(self, side: int, depth: int, channels: int, taps: int, samples: int) -> None:
        random = np.random.default_rng(0)
        self.x = random.standard_normal((side, side, samples, depth)).astype(np.float32)
        self.kernel = random.standard_normal((taps, taps, depth, channels)).astype(np.float32)
        self.dy = random.standard_normal((side, side, samples, channels)).astype(np.float32)
        self.windows = Windows((-(taps // 2),) * 2, (1, 1), (side, side))
        self.products = (side * taps / (side + taps - 1)) ** 2
        self.taken = fourier.suits(self.kernel.shape, self.windows)

    def others(self) -> list[dispatch.Way]:
        """Return the ways that a network could take besides Fourier transforms."""
        return possible(self.x.shape, self.kernel.shape, self.windows)

    def passes(self, way: dispatch.Way) -> Callable[[], list[Array]]:
        """Return a function that computes output and gradients, in memory that it keeps as a network does."""
        loops = interface.compiled_loops() or interface.NUMPY
        work, gradient, dx = Workspace(Scratch(), loops), np.empty_like(self.kernel), np.empty_like(self.x)

        def compute() -> list[Array]:
            y = way.correlate(self.x, self.kernel, None, self.windows, work)
            if way in (winograd, fourier):
                dx.fill(0)
                (winograd if way is winograd else fourier).gradients(self.dy, gradient, None, self.windows, work, dx)
                return [y, gradient, dx]
            way.gradients(self.dy, gradient, None, self.windows, work)
            flipped = np.ascontiguousarray(self.kernel[::-1, ::-1].swapaxes(2, 3))
            back = possible(self.dy.shape, flipped.shape, self.windows)[0]
            return [y, gradient, back.correlate(self.dy, flipped, None, self.windows, work.part("back"))]

        return compute


def possible(shape: Shape, kernel: Shape, windows: Windows) -> list[dispatch.Way]:
    """Return the ways besides Fourier transforms, for images (H, W, ...), in the engine's order of preference."""
    suits = {banded: banded.suits(shape[:2], kernel, windows), winograd: winograd.suits(kernel, windows)}
    return [way for way in (banded, winograd, im2col) if suits.get(way, True)]


def difference(found: list[Array], expected: list[Array]) -> float:
    """Return the largest difference of some arrays, each relative to its largest number."""
    pairs = zip(found, expected, strict=True)
    return max(float(np.abs(ours - theirs).max() / np.abs(theirs).max()) for ours, theirs in pairs)


def milliseconds(passes: list[Callable[[], list[Array]]], repeats: int) -> list[float]:
    """Return the shortest time of each pass; they take turns, after one that counts for none."""
    times: list[list[float]] = [[] for _ in passes]
    until = time.perf_counter() + LEAST_SECONDS
    while len(times[0]) <= repeats or time.perf_counter() < until:
        for compute, own in zip(passes, times, strict=True):
            began = time.perf_counter()
            compute()
            own.append(1e3 * (time.perf_counter() - began))
    return [min(own[1:]) for own in times]


def main() -> int:
    parser = make_parser(__doc__)
    isa.add_option(parser)
    parser.add_argument("--kernels", type=integers, default=[5, 7, 9, 11, 15, 21, 31], metavar="5,7,...")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, default=16, help="of a microbatch")
    options = parser.parse_args()
    isa.restart_with(options.isa)
    use_one_thread()
    report, rows = Report(), []
    table = Table(
        "image       ", "kernel", "channels", "products", "other     ", "ms     ", "Fourier", "factor", "error  "
    )
    for side, depth, channels in SHAPES:
        for taps in (taps for taps in options.kernels if taps <= side):
            case = Case(side, depth, channels, taps, options.samples)
            ways = [fourier, *case.others()]
            passes = [case.passes(way) for way in ways]
            error = difference(passes[0](), passes[-1]())
            ours, *others = milliseconds(passes, options.repeats)
            best = min(others)
            name = ways[1 + others.index(best)].__name__.rpartition(".")[2]
            row = {"side": side, "depth": depth, "channels": channels, "kernel": taps, "taken": case.taken}
            rows.append({**row, "products": case.products, "other_ms": best, "fourier_ms": ours, "error": error})
            products = f"{case.products:.0f}{' *' if case.taken else ''}"
            cells = name, f"{best:.2f}", f"{ours:.2f}", f"{best / ours:.1f}", f"{error:.0e}"
            table.row(f"{side} x {side} x {depth}", taps, channels, products, *cells)
    factors = [(row["other_ms"] / row["fourier_ms"], row["taken"], row["kernel"]) for row in rows]
    report.check("least factor where they are taken", min(f for f, taken, _ in factors if taken), "at least", 1)
    left = [factor for factor, taken, taps in factors if not taken and taps >= LARGE]
    report.check("largest factor where they are not, from 9 x 9 on", max(left, default=0), "at most", ENOUGH)
    report.check("largest error", max(row["error"] for row in rows), "at most", 1e-5)
    return report.end({"rows": rows}, options.json)


if __name__ == "__main__":
    sys.exit(main())
