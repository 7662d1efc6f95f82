"""Measure what faults cost: killed, silent and slow workers, and whole nodes that are lost.

    python -m scripts.bench.faults [--json] [--repeats 5] [--node-repeats 1] [--parts worker,straggler,node,ray]

Each number is the median of the repeats. Linux only; run it on a machine that does nothing else.

worker      One of 2 or 3 workers gets SIGKILL or SIGSTOP at a random moment of a step: seconds until that step is
            finished, until the worker is given up, and until its replacement has come.
            Aim: after SIGKILL the step takes at most its usual time and half a second.
straggler   Samples per second of W workers of which one gets a tenth of the processor's time, over those of W - 1 equal
            workers; both take turns. Aim: at least 0.75.
node        A Ray cluster of three nodes on this machine: one worker on the driver's node, two on the second, and room
            on the third. All processes of the second node are killed, or stopped as if the network to it were gone:
            seconds until the next step, until two workers have come on the third node, and until Ray itself declares
            the node dead; with Ray's own health checks, and with quicker ones. No aim.
ray         Each process of a run's own Ray is killed, one after the other: the longest time without a finished step,
            and the steps that were done twice or never. Aim: at most Ray's own start and 3 seconds; no step.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from cnnpar.config.resolve import resolve
from cnnpar.parallel.work import Kind
from cnnpar.training.microbatch import Training
from cnnpar.training.state import first_state
from scripts.bench.networks import TASKS, make_data, make_network
from scripts.bench.ray_death import measure_ray
from scripts.chaos.nodes import NODE_CPUS, QUICK, Nodes
from scripts.chaos.processes import slow_down, workers
from scripts.harness import Report, Stepper, Table, make_parser, names_among

BATCH, MICROBATCH = 256, 16
USUAL_STEPS = 30  # whose median is the usual time
TURN_SECONDS = 4.0
MOST_EXTRA, LEAST_RATIO = 0.5, 0.75  # the aims: seconds; rate with a straggler over one without that worker
PATIENCE = 150.0  # seconds for anything to happen
CAME, GIVEN_UP, LOST = "has come", "given up", "is lost"  # in the engine's messages about a worker
SIGNALS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}


class Run:
    """A server with its workers, its steps, and the engine's messages with their moments."""

    def __init__(self, number: int, address: str = "", roots: Iterable[int] = ()) -> None:
        """Start so many workers: on this process's own Ray, or on a cluster of which `roots` are the raylets."""
        self._roots = tuple(roots) or (os.getpid(),)
        self.messages: list[tuple[float, str]] = []
        engine = {"workers": number, "address": address}
        settings = resolve({"train": {"batch_size": BATCH, "microbatch": MICROBATCH}, "engine": engine})
        data, preprocessing = make_data(TASKS["small"])
        network = make_network(TASKS["small"])
        work = Training(network, preprocessing, settings.augment, settings.train, {Kind.TRAIN: len(data)})
        before = set(workers(self._roots))
        self._stepper = Stepper(settings, work, {Kind.TRAIN: data}, first_state(settings, network), self._note)
        self.workers = [one for one in workers(self._roots) if one not in before]
        self.close = self._stepper.close
        self._steps_per_epoch = work.steps_per_epoch
        self._step = 0
        self.usual = 0.0  # seconds of a step
        self.warm_up()

    def _note(self, text: str) -> None:
        self.messages.append((time.monotonic(), text))

    def step(self) -> float:
        """Have a batch's gradient computed; the moment at which it is there."""
        self._stepper.gradient(self._step % self._steps_per_epoch)
        self._step += 1
        return time.monotonic()

    def warm_up(self) -> None:
        """Do some steps, and take their median for the usual time."""
        moments = [self.step() for _ in range(USUAL_STEPS + 1)]
        self.usual = median(after - before for before, after in pairwise(moments))

    def rate(self, seconds: float) -> float:
        """Measure samples per second, for so many seconds."""
        began = ended = time.monotonic()
        steps = 0
        while ended - began < seconds:
            ended = self.step()
            steps += 1
        return steps * BATCH / (ended - began)

    def after(self, moment: float, word: str) -> list[float]:
        """Return the seconds from a moment to each later message with a word in it."""
        return [when - moment for when, text in self.messages if word in text and when > moment]

    def strike(self, action: Callable[[], object], delay: float, over: Callable[[float], bool]) -> tuple[float, float]:
        """Do steps, and `action` after `delay` seconds, until `over` returns true for the moment of the action.

        Returns that moment, and the seconds from then to the end of the step during which it happened. Raises
        TimeoutError when it is not over after a while.
        """
        moments: list[float] = []

        def act() -> None:
            moments.append(time.monotonic())
            action()

        threading.Timer(delay, act).start()
        until = time.monotonic() + PATIENCE
        finished: float | None = None
        while not moments or finished is None or not over(moments[0]):
            ended = self.step()
            if finished is None and moments and ended > moments[0]:
                finished = ended
            if ended > until:
                raise TimeoutError(f"not over after {PATIENCE:g} s: {self.messages}")
        return moments[0], finished - moments[0]


def lose_worker(number: int, repeats: int, how: str) -> dict[str, Any]:
    """Kill or stop one of so many workers, again and again."""
    random = Random(0)
    run = Run(number)
    rows: dict[str, list[float]] = {"usual": [], "step": [], "given_up": [], "replaced": []}
    for _ in range(repeats):
        victim = random.choice([one for one in workers([os.getpid()]) if one.computes])
        run.warm_up()
        rows["usual"].append(run.usual)
        moment, step = run.strike(
            partial(victim.send, SIGNALS[how]),
            random.uniform(1.0, 5.0) * run.usual,
            lambda moment: bool(run.after(moment, CAME)),
        )
        rows["step"].append(step)
        rows["given_up"] += run.after(moment, GIVEN_UP)[:1] or run.after(moment, LOST)[:1]
        rows["replaced"].append(run.after(moment, CAME)[0])
    run.close()
    return {"workers": number, "how": how, "most_s": max(rows["step"])} | {
        f"{key}_s": median(values) for key, values in rows.items()
    }


def slow_worker(number: int, repeats: int) -> dict[str, Any]:
    """Measure the rate of so many workers with a slow one among them, and that of one less of equal ones, in turns."""
    equal, slowed = Run(number - 1), Run(number)
    rates: dict[str, list[float]] = {"equal": [], "slowed": []}
    seconds = (2 * repeats + 4) * 2 * TURN_SECONDS
    context = multiprocessing.get_context("spawn")
    brake = context.Process(target=slow_down, args=(slowed.workers[0], seconds), daemon=True)
    brake.start()
    slowed.rate(TURN_SECONDS)  # the scheduler finds out how fast each worker is
    for _ in range(repeats):
        rates["equal"].append(equal.rate(TURN_SECONDS))
        rates["slowed"].append(slowed.rate(TURN_SECONDS))
    brake.terminate()
    slowed.workers[0].send(signal.SIGCONT)
    equal.close()
    slowed.close()
    ratios = [slow / fast for fast, slow in zip(rates["equal"], rates["slowed"], strict=True)]
    return {
        "workers": number,
        "equal_samples_per_s": median(rates["equal"]),
        "slowed_samples_per_s": median(rates["slowed"]),
        "ratio": median(ratios),
        "ratios": ratios,
    }


def lose_node(how: str, environment: Mapping[str, str]) -> dict[str, float]:
    """Kill or stop a node of a cluster of this process's own."""
    with tempfile.TemporaryDirectory(prefix="faults-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        nodes = Nodes(Path(folder), environment)
        victim = nodes.add(NODE_CPUS)
        run = Run(1 + NODE_CPUS, nodes.address, nodes.raylets)
        nodes.add(NODE_CPUS)
        import ray  # which `Nodes` has prepared

        declared: list[float] = []

        def watch() -> None:
            while not declared:
                if any(not node["Alive"] for node in ray.nodes()):
                    declared.append(time.monotonic())
                time.sleep(0.05)

        threading.Thread(target=watch, daemon=True).start()
        moment, step = run.strike(
            partial(nodes.strike, victim, SIGNALS[how]),
            1.0,
            lambda moment: len(run.after(moment, CAME)) >= NODE_CPUS and bool(declared),
        )
        result = {
            "usual_s": run.usual,
            "step_s": step,
            "replaced_s": run.after(moment, CAME)[NODE_CPUS - 1],
            "declared_dead_s": declared[0] - moment,
        }
        run.close()
        nodes.forget(victim)
        nodes.close()
        return result


def alone(function: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
    """Call a function in a process of its own: Ray's settings are those of a process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(function, *arguments).result()


def measure_workers(repeats: int, report: Report) -> list[dict[str, Any]]:
    """Measure a row for each number of workers and each signal."""
    table = Table("workers", "one is ", "usual step", "step with the loss", "   most", "given up", "replaced after")
    rows = []
    for number in (2, 3):
        for how in SIGNALS:
            row = alone(lose_worker, number, repeats, how)
            rows.append(row)
            short = [f"{row[key]:.3f} s" for key in ("usual_s", "step_s", "most_s")]
            table.row(number, how, *short, *(f"{row[key]:.1f} s" for key in ("given_up_s", "replaced_s")))
            if how == "killed":
                name = f"one of {number} workers killed: the step, beyond its usual time"
                report.check(name, row["step_s"] - row["usual_s"], "at most", MOST_EXTRA, "s")
    return rows


def measure_stragglers(repeats: int, report: Report) -> list[dict[str, Any]]:
    """Measure a row for each number of workers."""
    table = Table("workers", "one of them slow, samples/s", "one less, equal, samples/s", "ratio")
    rows = []
    for number in (2, 3):
        row = alone(slow_worker, number, repeats)
        rows.append(row)
        rates = [f"{row[key]:,.0f}" for key in ("slowed_samples_per_s", "equal_samples_per_s")]
        table.row(number, *rates, f"{row['ratio']:.2f}")
        name = f"one of {number} workers slow, over {number - 1} equal"
        report.check(name, row["ratio"], "at least", LEAST_RATIO)
    return rows


def measure_nodes(repeats: int, _report: Report) -> list[dict[str, Any]]:
    """Measure a row for each signal and each kind of health checks."""
    table = Table("node   ", "Ray's health checks", "next step", "workers replaced", "Ray declares the node dead")
    rows = []
    for checks, environment in (("its own", {}), ("quick", QUICK)):
        for how in SIGNALS:
            times = [alone(lose_node, how, environment) for _ in range(repeats)]
            row = {key: median(time[key] for time in times) for key in times[0]}
            rows.append({"how": how, "health_checks": checks, **row})
            late = [f"{row[key]:.1f} s" for key in ("replaced_s", "declared_dead_s")]
            table.row(how, checks, f"{row['step_s']:.2f} s", *late)
    return rows


PARTS = {"worker": measure_workers, "straggler": measure_stragglers, "node": measure_nodes, "ray": measure_ray}


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="of everything but the loss of nodes")
    parser.add_argument("--node-repeats", type=int, default=1, help="of each loss of a node: a minute or two")
    parser.add_argument("--parts", type=names_among(PARTS), default=list(PARTS), help=", ".join(PARTS))
    options = parser.parse_args()

    report = Report()
    print(f"batches of {BATCH}; medians of {options.repeats} repeats, of the loss of nodes {options.node_repeats}")
    results: dict[str, Any] = {"repeats": options.repeats}
    for part in options.parts:
        print()
        results[part] = PARTS[part](options.node_repeats if part == "node" else options.repeats, report)
    return report.end(results, options.json)


if __name__ == "__main__":
    sys.exit(main())
