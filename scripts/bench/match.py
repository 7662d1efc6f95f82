"""A match of throughput.py: cnnpar and its peers on one network and batch size, by turns."""

import os
import sys
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from cnnpar.config.sections import Train
from scripts.bench.contestants import Loop, SideBySide, make_loop
from scripts.bench.networks import TASKS
from scripts.bench.peers import Group, Peers

NONE, ONE, TWO = "cnnpar, in process", "cnnpar, 1 worker", "cnnpar, 2 workers"
DEFAULT = "cnnpar, 2 workers, default microbatch"
APART = "cnnpar, 2 separate runs in process"
WORKERS = {NONE: 0, ONE: 1, TWO: 2, DEFAULT: 2}
CORES = 2
SLOW = 0.7  # of the group's fastest: slower variants are measured once


class Ratio(NamedTuple):
    """How many times as fast one contestant is as another."""

    of_medians: float
    within_repeats: float  # median of the ratios of each repeat
    over: str  # the other


class Match:
    """All contestants on one network and batch size."""

    def __init__(self, network: str, batch: int, peers: Sequence[Peers], variants: dict[str, list[str]]) -> None:
        """`variants`: those of each library that are worth measuring on this network; slow ones are taken out."""
        self.network, self.batch = network, batch
        self.rates: dict[str, list[float]] = {}  # of each contestant, samples per second in every repeat
        self.rules: dict[str, str] = {}  # the kind of SGD that PyTorch's trial found faster
        self.failures: dict[str, str] = {}  # variants that raised an error, and the error
        self._peers, self._variants = peers, variants
        self._own: dict[str, Loop | SideBySide] = {}

    def play(self, repeats: int, seconds: float) -> None:
        """Measure everybody so many times; those whose ratio is wanted one after the other."""
        together, alone = ([peer for peer in self._peers if _cores(peer.group) == count] for count in (CORES, 1))
        try:
            for _ in range(repeats):
                self._measure_own(ONE, seconds)
                self._measure_own(TWO, seconds)
                self._measure_peers(together, seconds)
                self._measure_own(DEFAULT, seconds)
                self._measure_own(APART, seconds)
                self._measure_own(NONE, seconds)
                self._measure_peers(alone, seconds)
        finally:
            for contestant in self._own.values():
                contestant.close()

    def best(self, groups: Sequence[Group]) -> str | None:
        """Name the contestant of these groups with the highest median; None where none ran."""
        complete = len(self.rates[ONE])
        names = [
            name
            for group in groups
            for name in (_name(group, variant) for variant in group.variants)
            if len(self.rates.get(name, ())) == complete
        ]
        return max(names, key=lambda name: median(self.rates[name]), default=None)

    def ratios(self) -> dict[str, Ratio]:
        """Compare contestants; a ratio to peers is left out where they are."""
        groups = [peer.group for peer in self._peers]
        best, best_alone = (self.best([group for group in groups if _cores(group) == count]) for count in (CORES, 1))
        pairs = {
            "ratio": (TWO, best),
            "ratio_default_microbatch": (DEFAULT, best),
            "ratio_alone": (NONE, best_alone),
            "scaling_2": (TWO, ONE),
            "scaling_ceiling": (APART, NONE),
        }
        return {name: self._ratio(over, under) for name, (over, under) in pairs.items() if under}

    def show(self) -> None:
        """Print rates and ratios."""
        print(f"\n{self.network}, batch {self.batch}: samples/s, median of the repeats, and each")
        for name, rates in self.rates.items():
            each = " ".join(f"{rate:,.0f}" for rate in rates)
            print(f"  {name:<50} {median(rates):>8,.0f}   {each}   {self.rules.get(name, '')}".rstrip())
        for name, reason in self.failures.items():
            print(f"  {name:<50} failed: {reason}")
        for name, ratio in self.ratios().items():
            beside = f"{ratio.within_repeats:.2f} within repeats   over {ratio.over}"
            print(f"  {name:<50} {ratio.of_medians:>8.2f}   {beside}", flush=True)

    def _ratio(self, over: str, under: str) -> Ratio:
        a, b = self.rates[over], self.rates[under]
        return Ratio(median(a) / median(b), median(x / y for x, y in zip(a, b, strict=True)), under)

    def _measure_own(self, name: str, seconds: float) -> None:
        if name not in self._own:
            microbatch = Train(batch_size=self.batch).microbatch if name == DEFAULT else TASKS[self.network].microbatch
            if name == APART:
                self._own[name] = SideBySide(self.network, self.batch, microbatch)
            else:
                self._own[name] = make_loop(self.network, self.batch, WORKERS[name], microbatch)
        self._note(name, self._own[name].rate(seconds))

    def _measure_peers(self, peers: Sequence[Peers], seconds: float) -> None:
        for peer in peers:
            variants = self._variants[peer.group.library]
            last: dict[str, float] = {}
            for variant in list(variants):
                name = _name(peer.group, variant)
                answer = peer.measure(self.network, self.batch, variant, seconds)
                if "error" in answer:
                    self.failures[name] = answer["error"]
                    self.rates.pop(name, None)
                    continue
                last[variant] = answer["rate"]
                self._note(name, answer["rate"])
                self.rules[name] = answer["rule"]
            least = SLOW * max(last.values(), default=0.0) if len(self.rates[ONE]) == 1 else 0.0
            variants[:] = [variant for variant, rate in last.items() if rate >= least]

    def _note(self, name: str, rate: float) -> None:
        self.rates.setdefault(name, []).append(rate)
        load = os.getloadavg()[0]
        print(f"{self.network} {self.batch}: {name}: {rate:,.0f}/s (load {load:.1f})", file=sys.stderr)


def _cores(group: Group) -> int:
    return group.processes * group.threads


def _name(group: Group, variant: str) -> str:
    return f"{group.title}, {variant}"
