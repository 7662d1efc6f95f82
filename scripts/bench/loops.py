"""Measure every compiled loop beside a plain copy of what it must move.

    python -m scripts.bench.loops [--isa native|avx2|avx512] [--json] [--loops maxpool,depthwise] [--seconds 0.2]

Each row is a loop with arrays of a real network, on one thread, again and again with the same arrays, so that they are
in the cache that they fit in: ns for each number of the largest array; GB/s of the bytes that must be moved, which are
all arrays read and all arrays written, each once; and the time over that of `numpy.copyto`, of arrays that take as
much memory, for as many bytes. Loop and copy take turns; a time is the lower quartile of all turns, in time of the
processor.

Aim: no loop takes more than 3 times the copy, unless a reason stands in this script, which is then printed.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from scripts.bench import loop_cases
from scripts.harness import Report, Table, make_parser
from scripts.isa import add_option, restart_with

MOST = 3.0  # times a copy
TURN = 2e-4  # seconds at least that a turn lasts, as clocks are not exact

# Loops that may take longer, and why.
REASONS = {
    "numba_depthwise.depthwise": "a product and a sum for each pixel of a window, 9 or 25 for a number",
    "numba_depthwise.depthwise_gradient": "as depthwise, and fewer numbers are moved, as none is written",
    "numba_pixels.windows": "with a stride above 1, runs of as many numbers as there are samples are copied, often 16",
    "numba_pixels.maxpool": "windows of 3 x 3 pixels: 9 comparisons for a number that is written",
    "numba_pixels.extremes": "as maxpool",
    "numba_pixels.moments": "two float64 for each float32: the conversion alone takes as long as a copy",
    "numba_warp.bilinear": "four neighbours at computed places for each pixel, without vectors; then rounded",
    "numba_warp.bilinear_floats": "as bilinear",
    "numba_winograd.input_points": "two transforms of 6 x 6 numbers, with an image in a cache between them",
    "numba_winograd.input_gradients": "as input_points",
    "numba_winograd.gradient_points": "as input_points",
}


def measured(case: loop_cases.Case, loop: Callable[..., Any], seconds: float) -> tuple[float, float]:
    """Return the seconds of a call of the loop, and of copies that move as many bytes, in as much memory."""
    source = np.ones(case.held // 2, np.uint8)
    target = np.zeros_like(source)
    ways: tuple[Callable[[], Any], ...] = (lambda: loop(*case.arguments)), (lambda: np.copyto(target, source))
    calls = [max(1, round(TURN / _turn(way, 3))) for way in ways]
    times: list[list[float]] = [[], []]
    until = time.perf_counter() + seconds
    while len(times[0]) < 5 or time.perf_counter() < until:
        for way, count, own in zip(ways, calls, times, strict=True):
            own.append(_turn(way, count))
    ours, copy = (float(np.percentile(own, 25)) for own in times)
    return ours, copy * case.moved / case.held


def _turn(way: Callable[[], Any], calls: int) -> float:
    """Return the processor's seconds of a call, after one that brings the arrays into the cache."""
    way()
    began = time.thread_time()
    for _ in range(calls):
        way()
    return (time.thread_time() - began) / calls


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--loops", metavar="NAME,...", help="only those, for example maxpool,depthwise")
    parser.add_argument("--seconds", type=float, default=0.2, help="for each row")
    add_option(parser)
    options = parser.parse_args()
    restart_with(options.isa)
    loops = loop_cases.loops()
    known = [loop.name.rpartition(".")[2] for loop in loops]
    chosen = options.loops.split(",") if options.loops else known
    if unknown := set(chosen) - set(known):
        parser.error(f"no loop {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    report = Report()
    rows: list[dict[str, Any]] = []
    table = Table(f"{'loop':<32}", f"{'arrays':<48}", "     us", "ns/number", " GB/s", "x copy")
    for loop in (loop for loop, name in zip(loops, known, strict=True) if name in chosen):
        for case in loop_cases.cases_of(loop):
            ours, copy = measured(case, loop.compiled, options.seconds)
            row = {"loop": loop.name, "case": case.what, "seconds": ours, "copy_seconds": copy, "over": ours / copy}
            rows.append({**row, "numbers": case.numbers, "bytes": case.moved})
            cells = f"{1e6 * ours:.1f}", f"{1e9 * ours / case.numbers:.3f}", f"{case.moved / ours / 1e9:.1f}"
            table.row(loop.name, f"{case.what:<48}", *cells, f"{ours / copy:.1f}")
    print()
    for name in dict.fromkeys(row["loop"] for row in rows):
        most = max(row["over"] for row in rows if row["loop"] == name)
        if name in REASONS:
            print(f"{name}, {most:.1f} times a copy: {REASONS[name]}")
        else:
            report.check(f"{name}, most over a copy", most, "at most", MOST)
    return report.end({"rows": rows}, options.json)


if __name__ == "__main__":
    sys.exit(main())
