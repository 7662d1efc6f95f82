"""Simulates runs under random faults in virtual time, and checks what must hold in each.

    python scripts/simulate.py [--schedules 10000] [--seed 0] [--processes 1] [--json]
    python scripts/simulate.py --seed 4711 --replay

The server, its schedule, the measured speeds and the reduction tree are the real ones; the workers are simulated, and
what happens to them follows from the seed: --replay prints it for one seed. After each schedule: every step has left
the same bits as a serial run, every epoch has seen each sample exactly once, and what `simulation/watch.py` says has
held at every moment.
"""

import argparse
import json
import sys
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from random import Random
from time import perf_counter
from typing import NamedTuple

from cnnpar.errors import RunError, Stopped
from cnnpar.parallel.server import Server
from scripts.simulation.faults import KINDS, settings
from scripts.simulation.watch import Broken, Watch
from scripts.simulation.work import SHAPES, beginning, made, trained
from scripts.simulation.workers import Trace, Workers

BATCH = 500  # schedules that a process takes at a time


class Outcome(NamedTuple):
    """One schedule."""

    ending: str  # done, stopped, or failed and why
    kinds: Counter[str]  # what happened, and how often


def simulate(seed: int, trace: Trace | None = None) -> Outcome:
    """Raises an error of any kind when something is wrong."""
    random = Random(seed)
    work, records = made(random.randrange(SHAPES))
    engine = settings(random)
    watch = Watch(engine)
    if trace:
        trace(0.0, f"schedule {seed}: {engine}")
    workers = Workers(work, engine, random, watch, trace)
    time = workers.time
    server = Server(work, workers, engine, lambda _: None, lambda: time.now >= watch.stopped_at, time.clock)
    watch.schedule = server._schedule
    parameters = beginning()
    before = parameters.tobytes()
    ending = "done"
    try:
        server.open()
        parameters = server.home(parameters)
        for expected, record in zip(records, trained(work, server, parameters), strict=True):
            if record != expected:
                raise Broken(f"a step has left other bits than the serial run: {record} instead of {expected}")
            before = record.parameters
        watch.end(time.now)
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
    """Many schedules."""

    endings: Counter[str]
    kinds: Counter[str]
    broken: list[tuple[int, str]]  # seed, what is wrong


def simulate_all(seeds: range) -> Tally:
    """Counts of what happened."""
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


def replay(seed: int) -> int:
    """Print what happens in one schedule."""
    try:
        outcome = simulate(seed, lambda now, text: print(f"{now:10.5f}  {text}"))
    except Exception:
        traceback.print_exc(file=sys.stdout)
        return 1
    print(outcome.ending)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--schedules", type=int, default=10_000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the first one; the others follow")
    parser.add_argument("--processes", type=int, default=1, help="that share the work")
    parser.add_argument("--json", action="store_true", help="print all numbers as one object, on the last line")
    parser.add_argument("--replay", action="store_true", help="print what happens in the schedule of --seed")
    options = parser.parse_args()
    if options.replay:
        return replay(options.seed)

    began = perf_counter()
    seeds = range(options.seed, options.seed + options.schedules)
    total = Tally(Counter(), Counter(), [])
    with ProcessPoolExecutor(options.processes) as pool:
        for tally in pool.map(simulate_all, [seeds[start : start + BATCH] for start in range(0, len(seeds), BATCH)]):
            total.endings.update(tally.endings)
            total.kinds.update(tally.kinds)
            total.broken.extend(tally.broken)
    seconds = perf_counter() - began

    for kind in KINDS:
        print(f"{kind:<64} {total.kinds[kind]:>12,}")
    print()
    for ending, count in sorted(total.endings.items()):
        print(f"{ending:<64} {count:>12,}")
    print(f"\n{len(seeds):,} schedules in {seconds:,.0f} s, {len(seeds) / seconds:,.0f} a second")
    for seed, what in total.broken[:20]:
        print(f"BROKEN: {what}; python scripts/simulate.py --seed {seed} --replay")
    print(f"{len(total.broken):,} of them broke a promise")
    if options.json:
        numbers = {"schedules": len(seeds), "seconds": seconds, "per_second": len(seeds) / seconds}
        kinds = {kind: total.kinds[kind] for kind in KINDS}
        print(json.dumps(numbers | total._asdict() | {"kinds": kinds}))
    return 1 if total.broken else 0


if __name__ == "__main__":
    sys.exit(main())
