"""How soon a recipe reaches which test accuracy, beside PyTorch DDP with the same recipe on the same cores.

    python scripts/bench_accuracy.py [--json] [--config configs/mnist-fast.toml] [--seeds 5] [--peer-seeds 2]
                                     [--workers 2] [--every 12000] [--curves FILE.json]

Both train on the whole training set, as the configuration says, with seeds 0, 1, ...; the clock starts with the first
step and stands still while the test images are looked at, after every so many samples and at the end. Nothing is
chosen by them. PyTorch (scripts/peer_recipe.py) has as many processes as cnnpar has workers, and the variant (memory
layout, eager or compiled) that trains one epoch fastest. `--curves` adds the courses to a file that
scripts/draw_accuracy.py draws.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

from cnnpar import settings
from cnnpar.config import Config
from cnnpar.data.dataset import Splits
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.data.sources import load
from cnnpar.nn.network import Network, Sums
from cnnpar.parallel.fingerprint import use_one_thread
from cnnpar.parallel.server import Server
from cnnpar.parallel.start import start
from cnnpar.parallel.work import Kind, Training
from cnnpar.state import TrainState, first_state
from cnnpar.training import train
from scripts.bench.contestants import Peers, Silent
from scripts.bench.throughput import VARIANTS

MARKS = (0.961, 0.99, 0.9936, 0.995, 0.997)

Curve = list[tuple[float, int, float]]  # seconds, samples, test accuracy


class Watch(Silent):
    """Tests a run now and then, while its clock stands still."""

    def __init__(self, server: Server, every: int) -> None:
        self.curve: Curve = []
        self._server, self._every = server, every
        self._began, self._paused = time.monotonic(), 0.0

    def clock(self) -> float:
        """Seconds of training."""
        return time.monotonic() - self._began - self._paused

    def step_done(self, state: TrainState, sums: Sums, rate: float) -> None:
        """Test after every so many samples."""
        del rate
        if state.samples // self._every > (state.samples - sums.count) // self._every:
            self.test(state)

    def test(self, state: TrainState) -> None:
        """One more point of the curve."""
        seconds, before = self.clock(), time.monotonic()
        with state.judged() as weights:
            found = self._server.evaluate(weights, Kind.TEST).sums
        self.curve.append((seconds, state.samples, found.correct / found.count))
        self._paused += time.monotonic() - before


def course(config: Config, splits: Splits, every: int) -> tuple[Curve, str]:
    """A whole run of cnnpar, and its digest."""
    assert splits.test is not None
    preprocessing = Preprocessing.of(splits.train)
    network = Network.from_config(config, preprocessing.image_shape, len(preprocessing.class_names))
    data = {Kind.TRAIN: splits.train, Kind.TEST: splits.test}
    sizes = {kind: len(part) for kind, part in data.items()}
    work = Training(network, preprocessing, config.augment, config.train, sizes, config.data.balance)
    server = start(config.engine, work, data, lambda text: print(text, file=sys.stderr), lambda: False)
    try:
        state = first_state(config, network)
        watch = Watch(server, every)
        train(config, network, work.steps_per_epoch, False, server, state, watch, lambda: False, watch.clock)
        if watch.curve[-1][1] < state.samples:
            watch.test(state)
        return watch.curve, state.digest
    finally:
        server.close()


def best_variant(peers: Peers, tables: dict[str, Any]) -> str:
    """The fastest over one epoch; a variant that cannot be had is left out."""
    short = {**tables, "train": {**tables["train"], "epochs": 1}}
    seconds = {}
    for variant in VARIANTS:
        answer = peers.ask({"action": "train", "tables": short, "variant": variant, "every": 10**9})
        if "curve" in answer:
            seconds[variant] = answer["curve"][-1][0]
            print(f"PyTorch {variant}: an epoch in {seconds[variant]:.2f} s", flush=True)
        else:
            print(f"PyTorch {variant}: {answer['error']}", flush=True)
    return min(seconds, key=lambda variant: seconds[variant])


def row(who: str, curves: list[Curve]) -> dict[str, Any]:
    """When the marks were reached, over the seeds, and what came out; printed as a line of the table."""
    cells, found = [], {}
    for mark in MARKS:
        times = [next((seconds for seconds, _, accuracy in curve if accuracy >= mark), None) for curve in curves]
        reached = [seconds for seconds in times if seconds is not None]
        found[f"{mark:.4f}"] = times
        cells.append(f"{median(reached):5.1f} s {len(reached)}/{len(curves)}" if reached else "    - ")
    final = [curve[-1][2] for curve in curves]
    spent = [curve[-1][0] for curve in curves]
    listed = " ".join(f"{100 * accuracy:.2f}" for accuracy in final)
    print(f"{who:<10}" + "".join(f"{cell:>13}" for cell in cells) + f"{median(spent):8.1f} s  {listed}")
    return {"reached_s": found, "final": final, "final_mean": mean(final), "seconds": spent}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, default=Path(__file__).parents[2] / "configs" / "mnist-fast.toml")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peer-seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=int, default=12_000)
    parser.add_argument("--curves", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    use_one_thread()
    tables = settings.read(options.config)
    tables["engine"] = {**tables.get("engine", {}), "workers": options.workers}
    peers = Peers(options.workers) if options.peer_seeds else None
    curves: dict[str, list[Curve]] = {"cnnpar": []}
    splits = load(settings.resolve(tables).data)
    variant = best_variant(peers, tables) if peers else ""
    for seed in range(options.seeds):
        seeded = {**tables, "train": {**tables["train"], "seed": seed}}
        curve, digest = course(settings.resolve(seeded), splits, options.every)
        curves["cnnpar"].append(curve)
        print(f"cnnpar seed {seed}: {curve[-1][2]:.2%} in {curve[-1][0]:.1f} s, weights {digest[:16]}", flush=True)
        if peers and seed < options.peer_seeds:
            answer = peers.ask({"action": "train", "tables": seeded, "variant": variant, "every": options.every})
            curves.setdefault("PyTorch", []).append(answer["curve"])
            print(f"PyTorch seed {seed}: {answer['curve'][-1][2]:.2%} in {answer['curve'][-1][0]:.1f} s", flush=True)
    if peers:
        peers.close()
    heads = "".join(f"{f'{100 * mark:.2f} %':>13}" for mark in MARKS)
    print(f"\n{options.config.name}, {options.workers} workers: median time to a test accuracy, and for how many seeds")
    print(f"{'':<10}{heads}{'all':>10}  test accuracies at the end, %")
    rows = {who: row(who, found) for who, found in curves.items()}
    for who, found in rows.items():
        print(f"{who}: {100 * found['final_mean']:.3f} % in the mean")
    if variant:
        print(f"PyTorch is {variant}, DDP with {options.workers} processes")
    if options.curves:
        known = json.loads(options.curves.read_text()) if options.curves.exists() else {}
        options.curves.write_text(json.dumps({**known, options.config.stem: curves}))
    if options.json:
        print(json.dumps({"config": options.config.name, "peer": variant, **rows}))


if __name__ == "__main__":
    main()
