"""Measure training samples per second of cnnpar and of PyTorch DDP, on the same cores and in turns.

    python -m scripts.bench.throughput [--json] [--seconds 4] [--repeats 3] [--networks small,bn,cifar]
                                       [--batch 128,512]

cnnpar runs its whole training loop, `cnnpar.training.loop.train`: it draws batches, normalises uint8 images, computes
gradients, reduces and updates; in this process, and with one and two workers on the direct transport. PyTorch
(scripts/bench/peer_ddp.py) trains the same network from the same starting weights, with the same batch and update
rule: in one process, and under DDP with gloo in two; in both memory layouts, eager and compiled. Its images are
normalised ahead. Every process has one thread. Without PyTorch (`pip install '.[bench]'`) cnnpar is measured alone.

cnnpar computes in microbatches of the size that suits the network, as PyTorch counts as its best variant; with two
workers it is measured with the default size, 16, too. Batch normalisation is over a microbatch here, and there over a
process's share of the batch: at batch 128 the same 64 samples.

Printed for each network and batch: the rates (median, and each repeat), and their ratios: of the medians over the
repeats, and beside it the median of the ratios within each repeat, which a machine that is busy for a while disturbs
less. `scaling_ceiling` is two separate runs at once over one: what the two cores can do together without an engine.

Aims: two workers over DDP with two processes at least 2.0 (small, bn) and 1.3 (cifar 128); two workers over one at
least 1.9 (small 128).
"""

import os
import sys
from statistics import median
from typing import Any

from cnnpar.config.sections import Train
from scripts.bench.contestants import VARIANTS, Peers, cnnpar_rate, side_by_side
from scripts.bench.networks import TASKS
from scripts.harness import Report, integers, make_parser, names_among

NONE, ONE, TWO = "cnnpar, in process", "cnnpar, 1 worker", "cnnpar, 2 workers"
DEFAULT = "cnnpar, 2 workers, default microbatch"
APART = "cnnpar, 2 separate runs in process"
WORKERS = {NONE: 0, ONE: 1, TWO: 2, DEFAULT: 2}
AIMS = {  # ratios, at least
    "ratio_small_128": 2.0,
    "ratio_small_512": 2.0,
    "ratio_bn_128": 2.0,
    "ratio_bn_512": 2.0,
    "ratio_cifar_128": 1.3,
    "scaling_2": 1.9,
}

Rates = dict[str, list[float]]  # of each contestant, samples per second in every repeat
Ratio = tuple[float, float]  # of the medians, and the median of those within each repeat


class Match:
    """All contestants on one network and batch size."""

    def __init__(self, network: str, batch: int, peers: dict[int, Peers]) -> None:
        """`peers`: groups of PyTorch processes, by how many they are."""
        self.network, self.batch = network, batch
        self.rates: Rates = {}
        self.rules: dict[str, str] = {}  # the kind of SGD that PyTorch's trial found faster
        self.failures: dict[str, str] = {}  # variants that raised an error, and the error
        self._peers = peers
        self._variants = {processes: list(VARIANTS) for processes in peers}

    def repeat(self, seconds: float) -> None:
        """Measure every contestant once; those whose ratio is wanted one after the other."""
        self._measure_own(NONE, seconds)
        self._measure_peers(1, seconds)
        self._measure_own(ONE, seconds)
        self._note(APART, side_by_side(self.network, self.batch, TASKS[self.network].microbatch, seconds))
        self._measure_own(TWO, seconds)
        self._measure_peers(2, seconds)
        self._measure_own(DEFAULT, seconds)

    def best(self, processes: int) -> str | None:
        """Name the PyTorch variant of the highest median; None without PyTorch."""
        contestants = [_name(processes, variant) for variant in self._variants.get(processes, ())]
        return max(contestants, key=lambda name: median(self.rates[name]), default=None)

    def ratios(self) -> dict[str, Ratio]:
        """Compare contestants; a ratio to PyTorch is left out where PyTorch is."""
        place = f"{self.network}_{self.batch}"
        suffix = "".join(f"_{part}" for part in (self.network, self.batch) if part not in ("small", 128))
        pairs = {
            f"ratio_{place}": (TWO, self.best(2)),
            f"ratio_alone_{place}": (NONE, self.best(1)),
            f"ratio_default_microbatch_{place}": (DEFAULT, self.best(2)),
            f"scaling_2{suffix}": (TWO, ONE),
            f"scaling_ceiling{suffix}": (APART, NONE),
            f"scaling_ddp{suffix}": (self.best(2), self.best(1)),
        }
        return {name: self._ratio(over, under) for name, (over, under) in pairs.items() if over and under}

    def show(self) -> None:
        """Print rates and ratios."""
        print(f"\n{self.network}, batch {self.batch}: samples/s, median of the repeats, and each")
        for name, rates in self.rates.items():
            each = " ".join(f"{rate:,.0f}" for rate in rates)
            print(f"  {name:<44} {median(rates):>8,.0f}   {each}   {self.rules.get(name, '')}".rstrip())
        for name, reason in self.failures.items():
            print(f"  {name:<44} failed: {reason}")
        for name, (of_medians, within) in self.ratios().items():
            print(f"  {name:<44} {of_medians:>8.2f}   {within:.2f} within repeats")

    def _ratio(self, over: str, under: str) -> Ratio:
        a, b = self.rates[over], self.rates[under]
        return median(a) / median(b), median(x / y for x, y in zip(a, b, strict=True))

    def _measure_own(self, name: str, seconds: float) -> None:
        microbatch = Train().microbatch if name == DEFAULT else TASKS[self.network].microbatch
        self._note(name, cnnpar_rate(self.network, self.batch, WORKERS[name], microbatch, seconds))

    def _measure_peers(self, processes: int, seconds: float) -> None:
        if processes not in self._peers:
            return
        for variant in list(self._variants[processes]):
            name = _name(processes, variant)
            answer = self._peers[processes].measure(self.network, self.batch, variant, seconds)
            if "error" in answer:
                self.failures[name] = answer["error"]
                self.rates.pop(name, None)
                self._variants[processes].remove(variant)
                continue
            self._note(name, answer["rate"])
            self.rules[name] = answer["rule"]

    def _note(self, name: str, rate: float) -> None:
        self.rates.setdefault(name, []).append(rate)
        load = os.getloadavg()[0]
        print(f"{self.network} {self.batch}: {name}: {rate:,.0f}/s (load {load:.1f})", file=sys.stderr)


def _name(processes: int, variant: str) -> str:
    return f"DDP, 2 processes, {variant}" if processes == 2 else f"PyTorch, 1 process, {variant}"


def measure(matches: list[Match], repeats: int, seconds: float, peers: dict[int, Peers]) -> dict[str, float]:
    """Have the matches take turns; CPU seconds that each group of PyTorch processes used while it waited."""
    try:
        for _ in range(repeats):
            for match in matches:
                match.repeat(seconds)
        return {f"{processes} processes": group.idle for processes, group in peers.items()}
    finally:
        for group in peers.values():
            group.close()


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--networks", type=names_among(TASKS), default="small,bn,cifar", help=f"some of: {', '.join(TASKS)}"
    )
    parser.add_argument("--batch", type=integers, default="128,512", help="global batch sizes")
    options = parser.parse_args()

    report = Report()
    torch = "torch" in report.machine
    if not torch:
        print("PyTorch is not installed, so cnnpar is measured alone: `pip install '.[bench]'`")
    peers = {processes: Peers(processes) for processes in ((1, 2) if torch else ())}
    matches = [Match(network, batch, peers) for network in options.networks for batch in options.batch]
    idle = measure(matches, options.repeats, options.seconds, peers)
    rates: dict[str, dict[int, Rates]] = {}
    ratios: dict[str, Ratio] = {}
    for match in matches:
        match.show()
        rates.setdefault(match.network, {})[match.batch] = match.rates
        ratios |= match.ratios()
    if torch:
        print(f"\nCPU seconds that PyTorch's processes used while waiting: {sum(idle.values()):.2f}")
    for name, least in AIMS.items():
        if name in ratios:
            report.check(name, ratios[name][0], "at least", least)
    results: dict[str, Any] = {
        **{name: pair[0] for name, pair in ratios.items()},
        "within_repeats": {name: pair[1] for name, pair in ratios.items()},
        "samples_per_second": rates,
        "failures": {f"{match.network} {match.batch}": match.failures for match in matches},
    }
    return report.end(results, options.json)


if __name__ == "__main__":
    sys.exit(main())
