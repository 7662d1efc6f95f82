"""What faults cost: dead, silent and slow workers, and whole nodes that are lost.

    python scripts/bench_faults.py [--json] [--repeats 5] [--node-repeats 1] [--parts worker,straggler,node]

Each number is the median of the repeats. Linux only; wants a machine on which nothing else runs.

worker      From kill -9, or SIGSTOP, at a random moment of a step: seconds until the step is finished, until the worker
            is given up, and until another one has come in its place. The limit for the step is its usual time and
            half a second.
straggler   Samples per second of W workers of which one gets a tenth of the processor's time, over those of W-1 equal
            workers; both take turns. The limit is 0.75.
node        A Ray cluster of three nodes on this machine, one worker on the driver's node and two on the next; the third
            has room. All processes of the second node are killed, or stopped, as if the network to it were gone:
            seconds until the next step, until two workers have come on the third node, and until Ray itself says that
            the node is dead; with Ray's own health checks, and with quicker ones.
"""

import argparse
import json
import multiprocessing
import os
import signal
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

from cnnpar.config import Engine
from cnnpar.parallel.ray_settings import prepare_ray
from cnnpar.parallel.start import start
from cnnpar.parallel.work import Kind, Training
from cnnpar.settings import resolve
from scripts.bench.networks import TASKS, make_data, make_network
from scripts.chaos.nodes import NODE_CPUS, QUICK, Nodes
from scripts.chaos.processes import slow_down, workers

BATCH, MICROBATCH = 256, 16
USUAL_STEPS = 30  # whose median is the usual time
TURN_SECONDS = 4.0
EXTRA_SECONDS, SLOWEST = 0.5, 0.75  # the limits
STORE_BYTES = 30 << 20  # of a lane's samples
PATIENCE = 150.0  # seconds for anything to happen
SIGNALS = {"killed": signal.SIGKILL, "frozen": signal.SIGSTOP}


class Lane:
    """A server with its workers, and the steps that it does."""

    def __init__(self, number: int, address: str = "", roots: Iterable[int] = ()) -> None:
        """So many workers, on this process's own Ray or on a cluster of which `roots` are the raylets."""
        self._roots = tuple(roots) or (os.getpid(),)
        self.number = number
        self.notes: list[tuple[float, str]] = []
        settings = resolve({"train": {"batch_size": BATCH, "microbatch": MICROBATCH}})
        data, preprocessing = make_data(TASKS["small"])
        network = make_network(TASKS["small"])
        work = Training(network, preprocessing, settings.augment, settings.train, {Kind.TRAIN: len(data)})
        before = set(workers(self._roots))
        engine = Engine(workers=number, address=address)
        self.server = start(engine, work, {Kind.TRAIN: data}, self._note, lambda: False)
        self.crew = [one for one in workers(self._roots) if one not in before]
        self._parameters = self.server.home(network.init(0))
        self._steps_per_epoch = work.steps_per_epoch
        self._step = 0
        self.usual = 0.0  # seconds of a step
        self.warm_up()

    def _note(self, text: str) -> None:
        self.notes.append((time.monotonic(), text))

    def step(self) -> float:
        """One step; the moment at which it is finished."""
        self.server.gradient(self._parameters, 0, self._step % self._steps_per_epoch)
        self._step += 1
        return time.monotonic()

    def warm_up(self) -> None:
        """Some steps, whose time is the usual one."""
        moments = [self.step() for _ in range(USUAL_STEPS + 1)]
        self.usual = median(after - before for before, after in pairwise(moments))

    def rate(self, seconds: float) -> float:
        """Samples per second, for so many seconds."""
        began = ended = time.monotonic()
        steps = 0
        while ended - began < seconds:
            ended = self.step()
            steps += 1
        return steps * BATCH / (ended - began)

    def after(self, moment: float, word: str) -> list[float]:
        """Seconds from that moment to each of the notes with that word."""
        return [when - moment for when, text in self.notes if word in text and when > moment]

    def suffer(self, strike: Callable[[], object], delay: float, over: Callable[[float], bool]) -> tuple[float, float]:
        """Go on until `over`, called with the moment of `strike`, while that happens after so many seconds.

        Returns that moment, and the seconds from then to the end of the step during which it happened. Raises
        TimeoutError when it is not over after a while.
        """
        moments: list[float] = []

        def do() -> None:
            moments.append(time.monotonic())
            strike()

        timer = threading.Timer(delay, do)
        timer.start()
        until = time.monotonic() + PATIENCE
        finished: float | None = None
        while not moments or finished is None or not over(moments[0]):
            ended = self.step()
            if finished is None and moments and ended > moments[0]:
                finished = ended
            if ended > until:
                raise TimeoutError(f"not over after {PATIENCE:g} s: {self.notes}")
        return moments[0], finished - moments[0]


def worker_loss(number: int, repeats: int, how: str) -> dict[str, Any]:
    """One of so many workers is killed or frozen, again and again."""
    random = Random(0)
    start_ray(max(number, os.cpu_count() or 1))
    lane = Lane(number)
    rows: dict[str, list[float]] = {"usual": [], "step": [], "given_up": [], "replaced": []}
    for _ in range(repeats):
        crew = [one for one in workers([os.getpid()]) if one.computes]
        victim = random.choice(crew)
        lane.warm_up()
        rows["usual"].append(lane.usual)
        moment, step = lane.suffer(
            partial(victim.send, SIGNALS[how]),
            random.uniform(1.0, 5.0) * lane.usual,
            lambda moment: bool(lane.after(moment, "has come")),
        )
        rows["step"].append(step)
        rows["given_up"] += lane.after(moment, "given up")[:1] or lane.after(moment, "is lost")[:1]
        rows["replaced"].append(lane.after(moment, "has come")[0])
    lane.server.close()
    return {"workers": number, "how": how, "most_s": max(rows["step"])} | {
        f"{key}_s": median(values) for key, values in rows.items()
    }


def straggler(number: int, repeats: int) -> dict[str, Any]:
    """So many workers with a slow one among them, and one less of equal ones, in turns."""
    start_ray(2 * number - 1)
    whole, slowed = Lane(number - 1), Lane(number)
    rates: dict[str, list[float]] = {"equal": [], "slowed": []}
    seconds = (2 * repeats + 4) * 2 * TURN_SECONDS
    context = multiprocessing.get_context("spawn")
    hog = context.Process(target=slow_down, args=(slowed.crew[0], seconds), daemon=True)
    hog.start()
    slowed.rate(TURN_SECONDS)  # find out how fast it is
    for _ in range(repeats):
        rates["equal"].append(whole.rate(TURN_SECONDS))
        rates["slowed"].append(slowed.rate(TURN_SECONDS))
    hog.terminate()
    slowed.crew[0].send(signal.SIGCONT)
    whole.server.close()
    slowed.server.close()
    ratios = [slow / equal for equal, slow in zip(rates["equal"], rates["slowed"], strict=True)]
    return {
        "workers": number,
        "equal_samples_per_s": median(rates["equal"]),
        "slowed_samples_per_s": median(rates["slowed"]),
        "ratio": median(ratios),
        "ratios": ratios,
    }


def node_loss(how: str, environment: Mapping[str, str]) -> dict[str, float]:
    """A node of a cluster of this process's own is killed or frozen."""
    with tempfile.TemporaryDirectory(prefix="faults-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        nodes = Nodes(Path(folder), 1, environment)
        victim = nodes.add(NODE_CPUS)
        lane = Lane(1 + NODE_CPUS, nodes.address, nodes.raylets)
        nodes.add(NODE_CPUS)
        import ray  # which `Nodes` has prepared

        declared: list[float] = []

        def watch() -> None:
            while not declared:
                if any(not node["Alive"] for node in ray.nodes()):
                    declared.append(time.monotonic())
                time.sleep(0.05)

        threading.Thread(target=watch, daemon=True).start()
        moment, step = lane.suffer(
            partial(nodes.strike, victim, SIGNALS[how]),
            1.0,
            lambda moment: len(lane.after(moment, "has come")) >= NODE_CPUS and bool(declared),
        )
        result = {
            "usual_s": lane.usual,
            "step_s": step,
            "replaced_s": lane.after(moment, "has come")[NODE_CPUS - 1],
            "declared_dead_s": declared[0] - moment,
        }
        lane.server.close()
        nodes.forget(victim)
        nodes.close()
        return result


def start_ray(processors: int) -> None:
    """A Ray of this process's own, with room for more than one lane."""
    engine = Engine(workers=processors)
    prepare_ray(engine)
    from cnnpar.parallel.attach import attach  # imports ray, which reads what prepare_ray has set

    attach(engine, 2 * STORE_BYTES)


def alone(function: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
    """Its result, computed in a process of its own: Ray's settings are those of a process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(function, *arguments).result()


def measure_workers(repeats: int) -> list[dict[str, Any]]:
    """A row for each number of workers and each end."""
    print("\nworkers  one is  usual step  next step    most  given up  replaced")
    rows = []
    for number in (2, 3):
        for how in SIGNALS:
            row = alone(worker_loss, number, repeats, how)
            rows.append(row)
            line = "{workers:>7} {how:>7} {usual_s:>11.3f} {step_s:>10.3f} {most_s:>7.3f} {given_up_s:>9.1f}"
            line += " {replaced_s:>9.1f}"
            late = how == "killed" and row["step_s"] > row["usual_s"] + EXTRA_SECONDS
            print(line.format(**row), " MISSED the limit" * late, flush=True)
    return rows


def measure_stragglers(repeats: int) -> list[dict[str, Any]]:
    """A row for each number of workers."""
    print("\nworkers  one of them slow  one less, equal  ratio   samples/s")
    rows = []
    for number in (2, 3):
        row = alone(straggler, number, repeats)
        rows.append(row)
        line = "{workers:>7} {slowed_samples_per_s:>17,.0f} {equal_samples_per_s:>16,.0f} {ratio:>6.2f}"
        print(line.format(**row), " MISSED the limit" * (row["ratio"] < SLOWEST), flush=True)
    return rows


def measure_nodes(repeats: int) -> list[dict[str, Any]]:
    """A row for each end of a node and each way in which Ray looks after it."""
    print("\n| node | Ray's health checks | next step | workers replaced | Ray says that the node is dead |")
    print("| --- | --- | --- | --- | --- |")
    rows = []
    for checks, environment in (("its own", {}), ("quick", QUICK)):
        for how in SIGNALS:
            times = [alone(node_loss, how, environment) for _ in range(repeats)]
            row = {key: median(time[key] for time in times) for key in times[0]}
            rows.append({"how": how, "health_checks": checks, **row})
            numbers = [row[key] for key in ("step_s", "replaced_s", "declared_dead_s")]
            print("| {} | {} | {:.2f} s | {:.1f} s | {:.1f} s |".format(how, checks, *numbers), flush=True)
    return rows


PARTS = {"worker": measure_workers, "straggler": measure_stragglers, "node": measure_nodes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print all numbers as one object, on the last line")
    parser.add_argument("--repeats", type=int, default=5, help="of everything but the loss of nodes")
    parser.add_argument("--node-repeats", type=int, default=1, help="of each loss of a node: a minute or two")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS), help=", ".join(PARTS))
    options = parser.parse_args()

    load = os.getloadavg()[0]
    print(
        f"{len(os.sched_getaffinity(0))} cores, load {load:.1f}; batches of {BATCH}, seconds unless it says otherwise"
    )
    result: dict[str, Any] = {"load_before": load, "repeats": options.repeats}
    for part in options.parts:
        result[part] = PARTS[part](options.node_repeats if part == "node" else options.repeats)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
