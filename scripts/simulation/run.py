"""Simulate runs under random faults in virtual time, and check the engine's promises in each.

    python -m scripts.simulation.run [--schedules 10000] [--seed 0] [--processes 1] [--json]
    python -m scripts.simulation.run --seed 4711 --replay

The server, its scheduler, the measured speeds and the reduction tree are the real ones; the workers are simulated, and
what happens to them follows from the seed: delays, deaths, stalls, duplicates, rescalings, and ends of the cluster with
all its workers, which comes back, late or never, or is given up for a worker in this process. Checked in each schedule:
every step has left the same bits as a serial run, every epoch has seen each sample exactly once, and the promises of
scripts/simulation/watch.py, such as no wait without a deadline, and progress while a worker lives.

Printed: how often each kind of fault came, and how the runs ended. A schedule that breaks a promise is printed with its
seed; `--replay` prints all that happens in that one. Aim: no broken promise.
"""

import sys
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from random import Random
from time import perf_counter
from typing import NamedTuple

from cnnpar.errors import RunError, Stopped
from cnnpar.parallel.server import Server
from scripts.harness import Report, make_parser
from scripts.simulation.cluster import ClusteredWorkers
from scripts.simulation.faults import KINDS, settings
from scripts.simulation.watch import Broken, Watch
from scripts.simulation.work import SHAPES, beginning, made, trained
from scripts.simulation.workers import Trace

BATCH = 500  # schedules that a process takes at a time
SHOWN = 20  # broken schedules


class Outcome(NamedTuple):
    """Outcome of one schedule."""

    ending: str  # done, stopped, or failed and why
    kinds: Counter[str]  # what happened, and how often


def simulate(seed: int, trace: Trace | None = None) -> Outcome:
    """Simulate one schedule. Raises an error of any kind when a promise is broken."""
    random = Random(seed)
    work, records = made(random.randrange(SHAPES))
    engine = settings(random)
    watch = Watch(engine)
    if trace:
        trace(0.0, f"schedule {seed}: {engine}")
    workers = ClusteredWorkers(work, engine, random, watch, trace)
    time = workers.time
    server = Server(work, workers, engine, lambda _: None, lambda: time.now >= watch.stopped_at, time.clock)
    watch.schedule = server._scheduler
    parameters = beginning()
    before = parameters.tobytes()
    ending = "done"
    try:
        server.open()
        parameters = server.adopt(parameters)
        for expected, record in zip(records, trained(work, server, parameters), strict=True):
            if record != expected:
                raise Broken(f"a step has left other bits than the serial run: {record} instead of {expected}")
            before = record.parameters
        watch.end(time.now)
        if not server.exact:
            raise Broken("the run is inexact by a worker that has computed nothing for it")
    except RunError as error:
        ending = f"failed: {watch.judge(str(error), time.now)}"
        if trace:
            trace(time.now, f"the run fails: {error}")
    except Stopped:
        ending = "stopped"
    if parameters.tobytes() != before:
        raise Broken("the parameters are not those after the last whole step")
    return Outcome(ending, workers.kinds)


class Tally(NamedTuple):
    """Counts of what happened in many schedules, and the broken ones."""

    endings: Counter[str]
    kinds: Counter[str]
    broken: list[tuple[int, str]]  # seed, and the promise


def simulate_all(seeds: range) -> Tally:
    """Simulate many schedules, and count what happened."""
    tally = Tally(Counter(), Counter(), [])
    for seed in seeds:
        try:
            outcome = simulate(seed)
        except Exception as error:
            tally.broken.append((seed, f"{type(error).__name__}: {error}"))
        else:
            tally.endings[outcome.ending] += 1
            tally.kinds.update(outcome.kinds)
    return tally


def simulate_in_processes(seeds: range, processes: int) -> Tally:
    """Simulate many schedules, shared among processes."""
    total = Tally(Counter(), Counter(), [])
    parts = [seeds[start : start + BATCH] for start in range(0, len(seeds), BATCH)]
    with ProcessPoolExecutor(processes) as pool:
        for tally in pool.map(simulate_all, parts):
            total.endings.update(tally.endings)
            total.kinds.update(tally.kinds)
            total.broken.extend(tally.broken)
    return total


def replay(seed: int) -> int:
    """Print what happens in one schedule. Returns the exit code."""
    try:
        outcome = simulate(seed, lambda now, text: print(f"{now:10.5f}  {text}"))
    except Exception:
        traceback.print_exc(file=sys.stdout)
        return 1
    print(outcome.ending)
    return 0


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--schedules", type=int, default=10_000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the first one; the others follow")
    parser.add_argument("--processes", type=int, default=1, help="that share the work")
    parser.add_argument("--replay", action="store_true", help="print what happens in the schedule of --seed")
    options = parser.parse_args()
    if options.replay:
        return replay(options.seed)

    report = Report()
    began = perf_counter()
    total = simulate_in_processes(range(options.seed, options.seed + options.schedules), options.processes)
    seconds = perf_counter() - began
    per_second = options.schedules / seconds

    for kind in KINDS:
        print(f"{kind:<64} {total.kinds[kind]:>12,}")
    print()
    for ending, count in sorted(total.endings.items()):
        print(f"{ending:<64} {count:>12,}")
    print(f"\n{options.schedules:,} schedules in {seconds:,.0f} s, {per_second:,.0f} a second")
    for seed, promise in total.broken[:SHOWN]:
        print(f"BROKEN: {promise}; python -m scripts.simulation.run --seed {seed} --replay")
    report.check("schedules that broke a promise", len(total.broken), "at most", 0)
    numbers = {"schedules": options.schedules, "seconds": seconds, "per_second": per_second}
    kinds = {kind: total.kinds[kind] for kind in KINDS}
    return report.end({**numbers, **total._asdict(), "kinds": kinds}, options.json)


if __name__ == "__main__":
    sys.exit(main())
