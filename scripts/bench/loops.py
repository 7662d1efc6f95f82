"""Measure every compiled loop beside a plain copy of what it must move.

    python -m scripts.bench.loops [--isa native|avx2|avx512] [--json] [--loops maxpool,depthwise] [--seconds 0.2]

Each row is a loop with arrays of a real network, on one thread, again and again with the same arrays, so that they are
in the cache that they fit in: ns for each number of the largest array; GB/s of the bytes that must be moved, which are
all arrays read and all arrays written, each once; and the time over that of `numpy.copyto`, of arrays that take as
much memory, for as many bytes. Loop and copy take turns; a time is the lower quartile of all turns, in time of the
processor.

Aim: no loop takes more than 3 times the copy, or more than the limit that loop_limits.py has for a case, with a reason.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from scripts.bench import loop_cases
from scripts.bench.loop_cases.case import Case
from scripts.bench.loop_limits import Limit, limit_of
from scripts.harness import Report, Table, make_parser
from scripts.isa import add_option, restart_with

TURN = 2e-4  # seconds at least that a turn lasts, as clocks are not exact


def measured(case: Case, loop: Callable[..., Any], seconds: float) -> tuple[float, float]:
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
            row: dict[str, Any] = {
                "loop": loop.name,
                "case": case.what,
                "seconds": ours,
                "copy_seconds": copy,
                "over": ours / copy,
            }
            rows.append({**row, "numbers": case.numbers, "bytes": case.moved})
            cells = f"{1e6 * ours:.1f}", f"{1e9 * ours / case.numbers:.3f}", f"{case.moved / ours / 1e9:.1f}"
            table.row(loop.name, f"{case.what:<48}", *cells, f"{ours / copy:.1f}")
    print()
    most: dict[Limit, float] = {}
    for row in rows:
        limit = limit_of(row["loop"], row["case"])
        most[limit] = max(most.get(limit, 0.0), row["over"])
    for limit, over in most.items():
        cases = f" ({limit.of})" if limit.of else ""
        report.check(f"{limit.loop}{cases}, most over a copy", over, "at most", limit.most)
    print()
    for limit in (limit for limit in most if limit.reason):
        print(f"{limit.loop} ({limit.of or 'all'}): {limit.reason}")
    return report.end({"rows": rows}, options.json)


if __name__ == "__main__":
    sys.exit(main())
