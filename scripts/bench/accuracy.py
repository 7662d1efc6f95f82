"""Measure how soon a recipe reaches which test accuracy, beside PyTorch with the same recipe on the same cores.

    python -m scripts.bench.accuracy [--json] [--config configs/mnist-fast.toml] [--seeds 5] [--peer-seeds 2]
                                     [--workers 2] [--isa native|avx2|avx512] [--every 4000] [--curves FILE.json]

Both train on the whole training set, as the configuration says, with seeds 0, 1, ... The clock starts with the first
step, and stands still while the accuracy on the test images is measured: after every so many samples, and at the end.
Nothing is chosen by them. PyTorch (scripts/bench/peer_recipe.py) runs under DDP in as many processes as cnnpar has
workers, or in one process with as many threads, and in the variant (memory layout, eager or compiled): whichever trains
one epoch fastest. `--peer-seeds 0` does without it.

Printed: for each accuracy the median time until it was reached, and by how many seeds; the accuracies at the end.
`--curves` adds all points to a file that scripts/bench/draw_accuracy.py draws.

Aims, of cnnpar alone:

configs/mnist-sprint.toml   99.0 % within 3 s by at least four of five seeds
configs/mnist-fast.toml     96.1 % within 1.5 s, 99.0 % within 5 s, 99.36 % within 30 s, each by at least four of five
                            seeds; at the end at least 99.50 %, in the mean, after at most 60 s
configs/mnist-best.toml     at least 99.70 % at the end, in the mean, after at most 20 minutes
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

from cnnpar.blas import use_one_thread
from cnnpar.config.resolve import read_toml, resolve
from cnnpar.config.sections import Config
from cnnpar.data.dataset import Splits
from cnnpar.data.load import load_splits
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.errors import InputError
from cnnpar.nn.network import Network
from cnnpar.nn.sums import Sums
from cnnpar.parallel.server import Server
from cnnpar.parallel.work import Kind
from cnnpar.training.loop import train
from cnnpar.training.microbatch import Training
from cnnpar.training.state import TrainState, first_state
from scripts import isa
from scripts.bench.contestants import Silent
from scripts.bench.peers import VARIANTS, Peers, ddp, torch
from scripts.harness import ROOT, Report, Stepper, Table, make_parser

MARKS = (0.961, 0.99, 0.9936, 0.995, 0.997)
SOON = {  # seconds within which four of five seeds reach an accuracy
    "mnist-sprint": {0.99: 3.0},
    "mnist-fast": {0.961: 1.5, 0.99: 5.0, 0.9936: 30.0},
}
MEAN_AIMS = {"mnist-fast": (0.995, 60.0), "mnist-best": (0.997, 1200.0)}  # accuracy at least, seconds at most

Curve = list[tuple[float, int, float]]  # seconds, samples, test accuracy


class Watch(Silent):
    """An observer that measures the test accuracy now and then, while its clock stands still."""

    def __init__(self, server: Server, every: int) -> None:
        """`every`: samples from one measurement to the next."""
        self.curve: Curve = []
        self._server, self._every = server, every
        self._began, self._paused = time.monotonic(), 0.0

    def clock(self) -> float:
        """Return the seconds of training."""
        return time.monotonic() - self._began - self._paused

    def step_done(self, state: TrainState, sums: Sums, rate: float) -> None:
        """Measure after every so many samples."""
        del rate
        if state.samples // self._every > (state.samples - sums.count) // self._every:
            self.test(state)

    def test(self, state: TrainState) -> None:
        """Add a point to the curve."""
        seconds, before = self.clock(), time.monotonic()
        with state.evaluation_weights() as weights:
            found = self._server.evaluate(weights, Kind.TEST).sums
        self.curve.append((seconds, state.samples, found.correct / found.count))
        self._paused += time.monotonic() - before


def train_and_test(config: Config, splits: Splits, every: int) -> tuple[Curve, str]:
    """Train cnnpar to the end; its curve and digest."""
    assert splits.test is not None
    preprocessing = Preprocessing.of(splits.train)
    network = Network.from_config(config, preprocessing.image_shape, len(preprocessing.class_names))
    data = {Kind.TRAIN: splits.train, Kind.TEST: splits.test}
    sizes = {kind: len(part) for kind, part in data.items()}
    work = Training(network, preprocessing, config.augment, config.train, sizes, config.data.balance)
    stepper = Stepper(config, work, data, first_state(config, network))
    server, state = stepper.server, stepper.state
    try:
        watch = Watch(server, every)
        train(config, work, server, state, watch, lambda: False)
        if watch.curve[-1][1] < state.samples:
            watch.test(state)
        return watch.curve, state.digest
    finally:
        stepper.close()


class Fastest(NamedTuple):
    """The way of training in PyTorch that is fastest over one epoch."""

    seconds: float
    peers: Peers
    variant: str

    def __str__(self) -> str:
        return f"{self.peers.group.title}, {self.variant}"


def fastest(peers: Sequence[Peers], tables: dict[str, Any]) -> Fastest:
    """Find PyTorch's fastest way; variants that fail are left out."""
    short = {**tables, "train": {**tables["train"], "epochs": 1}}
    ways = []
    for group in peers:
        for variant in VARIANTS:
            answer = group.ask({"action": "train", "tables": short, "variant": variant, "every": 10**9})
            if "curve" in answer:
                ways.append(Fastest(answer["curve"][-1][0], group, variant))
                print(f"{ways[-1]}: an epoch in {ways[-1].seconds:.2f} s", flush=True)
            else:
                print(f"{group.group.title}, {variant}: {answer['error']}", flush=True)
    if not ways:
        raise SystemExit("PyTorch cannot train this recipe, see above; --peer-seeds 0 does without it")
    return min(ways, key=lambda way: way.seconds)


def measure(
    tables: dict[str, Any], splits: Splits, seeds: int, every: int, peers: Sequence[Peers], peer_seeds: int
) -> tuple[dict[str, list[Curve]], str]:
    """Train with every seed; the curves, and PyTorch's fastest way."""
    curves: dict[str, list[Curve]] = {"cnnpar": []}
    way = fastest(peers, tables) if peers else None
    for seed in range(seeds):
        seeded = {**tables, "train": {**tables["train"], "seed": seed}}
        curve, digest = train_and_test(resolve(seeded), splits, every)
        curves["cnnpar"].append(curve)
        print(f"cnnpar seed {seed}: {curve[-1][2]:.2%} in {curve[-1][0]:.1f} s, weights {digest[:16]}", flush=True)
        if way and seed < peer_seeds:
            answer = way.peers.ask({"action": "train", "tables": seeded, "variant": way.variant, "every": every})
            curves.setdefault("PyTorch", []).append(answer["curve"])
            print(f"PyTorch seed {seed}: {answer['curve'][-1][2]:.2%} in {answer['curve'][-1][0]:.1f} s", flush=True)
    return curves, str(way) if way else ""


def summary(curves: list[Curve]) -> dict[str, Any]:
    """Return when each seed reached each mark, and its accuracy and seconds at the end."""
    reached = {
        f"{mark:.4f}": [next((seconds for seconds, _, accuracy in curve if accuracy >= mark), None) for curve in curves]
        for mark in MARKS
    }
    final = [curve[-1][2] for curve in curves]
    return {"reached_s": reached, "final": final, "final_mean": mean(final), "seconds": [c[-1][0] for c in curves]}


def show(rows: dict[str, dict[str, Any]]) -> None:
    """Print the table."""
    marks = [f"{f'{100 * mark:.2f} %':>13}" for mark in MARKS]
    table = Table("         ", *marks, "whole run", f"{'test accuracy, mean (each seed)':>45}")
    for who, row in rows.items():
        cells = []
        for times in row["reached_s"].values():
            reached = [seconds for seconds in times if seconds is not None]
            cells.append(f"{median(reached):.1f} s, {len(reached)}/{len(times)}" if reached else "-")
        each = " ".join(f"{100 * accuracy:.2f}" for accuracy in row["final"])
        table.row(who, *cells, f"{median(row['seconds']):.1f} s", f"{100 * row['final_mean']:.3f} % ({each})")


def check(report: Report, recipe: str, row: dict[str, Any]) -> None:
    """Hold cnnpar's numbers to the recipe's aims."""
    for mark, longest in SOON.get(recipe, {}).items():
        reached = [seconds is not None and seconds <= longest for seconds in row["reached_s"][f"{mark:.4f}"]]
        report.check(
            f"share of the seeds that reach {100 * mark:g} % within {longest:g} s", mean(reached), "at least", 0.8
        )
    if recipe in MEAN_AIMS:
        least, longest = MEAN_AIMS[recipe]
        report.check("test accuracy, mean", 100 * row["final_mean"], "at least", 100 * least, "%")
        report.check("whole run, median", median(row["seconds"]), "at most", longest, "s")


def main() -> int:
    parser = make_parser(__doc__)
    isa.add_option(parser)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "mnist-fast.toml")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peer-seeds", type=int, default=2, help="of PyTorch; 0: without it")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=int, default=4_000, help="samples from one look at the test images to the next")
    parser.add_argument("--curves", type=Path, help="JSON file to which the curves are added")
    options = parser.parse_args()
    isa.restart_with(options.isa)

    use_one_thread()
    report = Report()
    if options.peer_seeds and "torch" not in report.machine:
        parser.error("PyTorch is not installed: `pip install '.[bench]'`, or --peer-seeds 0")
    tables = read_toml(options.config)
    tables["engine"] = {**tables.get("engine", {}), "workers": options.workers}
    try:
        splits = load_splits(resolve(tables).data)
    except InputError as error:
        parser.error(str(error))
    groups = [torch(max(options.workers, 1)), *([ddp(options.workers)] if options.workers > 1 else [])]
    peers = [Peers(group) for group in groups] if options.peer_seeds else []
    try:
        curves, peer = measure(tables, splits, options.seeds, options.every, peers, options.peer_seeds)
    finally:
        for group in peers:
            group.close()
    rows = {who: summary(found) for who, found in curves.items()}
    print(f"\n{options.config.name}, {options.workers} workers: median time to a test accuracy, and for how many seeds")
    show(rows)
    if peer:
        print(f"PyTorch is: {peer}")
    if options.curves:
        known = json.loads(options.curves.read_text()) if options.curves.exists() else {}
        options.curves.write_text(json.dumps({**known, options.config.stem: curves}))
    check(report, options.config.stem, rows["cnnpar"])
    return report.end({"config": options.config.name, "peer": peer, **rows}, options.json)


if __name__ == "__main__":
    sys.exit(main())
