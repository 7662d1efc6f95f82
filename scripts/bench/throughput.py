"""How many samples a second cnnpar trains on, beside PyTorch DDP on the same cores, in the same run.

    python scripts/bench_throughput.py [--json] [--seconds 4] [--repeats 3] [--networks small,bn,cifar]
                                       [--batch 128,512]

cnnpar: the loop of `cnnpar.training.train`, whole: it draws batches, normalises uint8 images, computes gradients,
reduces, updates; in this process, and with one and two workers on the direct transport. PyTorch (scripts/peer_ddp.py):
the same network from the same tables and starting weights, the same batch and update rule, alone in one process
and under DDP with gloo in two, in both memory layouts, eager and compiled; its images are normalised ahead.
Everybody has one thread per process. cnnpar computes in microbatches of the size that suits the network (`TASKS`), as
PyTorch counts as its best variant; with two workers it is measured with the default size, 16, too. Batch normalisation
is over a microbatch here and over a process' share of the batch there: at batch 128 the same 64 samples. Two runs in
processes of their own, at once and without an engine, show what these two cores can do together: `scaling_ceiling`.

Contestants take turns: each is measured once per repeat, while the others wait in a read or do not exist. A ratio
is one of medians over the repeats; beside it stands the median of the ratios within each repeat, which a machine
that is busy for a while disturbs less. PyTorch counts as its best variant, by the median.
"""

import argparse
import importlib.util
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from cnnpar.config import Train
from cnnpar.parallel.fingerprint import fingerprint
from scripts.bench.contestants import Peers, cnnpar_rate, side_by_side
from scripts.bench.networks import TASKS

NONE, ONE, TWO = "cnnpar, in process", "cnnpar, 1 worker", "cnnpar, 2 workers"
DEFAULT = "cnnpar, 2 workers, default microbatch"
APART = "cnnpar, 2 separate runs in process"
CNNPAR = {NONE: 0, ONE: 1, TWO: 2, DEFAULT: 2}  # and the number of workers
VARIANTS = [f"{layout} {mode}" for layout in ("channels-last", "channels-first") for mode in ("eager", "compiled")]
TARGETS = {
    "ratio_small_128": 2.0,
    "ratio_small_512": 2.0,
    "ratio_bn_128": 2.0,
    "ratio_bn_512": 2.0,
    "ratio_cifar_128": 1.3,
    "scaling_2": 1.9,
}
ENVIRONMENT = ("OPENBLAS_", "OMP_", "MKL_", "NPY_", "MALLOC_", "GLIBC_", "LD_PRELOAD", "RAY_", "TORCH")

Rates = dict[str, list[float]]  # of each contestant, samples per second in every repeat


class Match:
    """All contestants on one network and batch size."""

    def __init__(self, network: str, batch: int, peers: dict[int, Peers]) -> None:
        """`peers` by their number of processes."""
        self.network, self.batch = network, batch
        self.rates: Rates = {}
        self.rules: dict[str, str] = {}  # the kind of SGD that PyTorch's trial found faster
        self.failures: dict[str, str] = {}  # why a variant cannot be had
        self._peers = peers
        self._variants = {processes: list(VARIANTS) for processes in peers}

    def play(self, seconds: float) -> None:
        """One repeat. Those whose ratio is wanted come one after the other."""
        self._own(NONE, seconds)
        self._others(1, seconds)
        self._own(ONE, seconds)
        rate = side_by_side(self.network, self.batch, TASKS[self.network].microbatch, seconds)
        self._note(APART, rate)
        self._own(TWO, seconds)
        self._others(2, seconds)
        self._own(DEFAULT, seconds)

    def best(self, processes: int) -> str | None:
        """The PyTorch variant of the highest median."""
        names = [_name(processes, variant) for variant in self._variants.get(processes, ())]
        return max(names, key=lambda name: median(self.rates[name]), default=None)

    def ratio(self, over: str | None, under: str | None) -> tuple[float | None, float | None]:
        """Ratio of the medians, and median of the ratios within each repeat."""
        if over is None or under is None:
            return None, None
        a, b = self.rates[over], self.rates[under]
        return median(a) / median(b), median(x / y for x, y in zip(a, b, strict=True))

    def ratios(self) -> dict[str, tuple[float | None, float | None]]:
        """What the benchmark is for, by the names that --json prints."""
        place = f"{self.network}_{self.batch}"
        suffix = "".join(f"_{part}" for part in (self.network, self.batch) if part not in ("small", 128))
        return {
            f"ratio_{place}": self.ratio(TWO, self.best(2)),
            f"ratio_alone_{place}": self.ratio(NONE, self.best(1)),
            f"ratio_default_microbatch_{place}": self.ratio(DEFAULT, self.best(2)),
            f"scaling_2{suffix}": self.ratio(TWO, ONE),
            f"scaling_ceiling{suffix}": self.ratio(APART, NONE),
            f"scaling_ddp{suffix}": self.ratio(self.best(2), self.best(1)),
        }

    def _own(self, name: str, seconds: float) -> None:
        microbatch = Train().microbatch if name == DEFAULT else TASKS[self.network].microbatch
        self._note(name, cnnpar_rate(self.network, self.batch, CNNPAR[name], microbatch, seconds))

    def _others(self, processes: int, seconds: float) -> None:
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


def machine(torch: bool) -> dict[str, Any]:
    """What numbers depend on besides the code."""
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = models[0] if models else processor
    own = fingerprint()
    libraries = ["numpy", "numba", "ray", *(["torch"] if torch else [])]
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "simd": own["simd"],
        "blas": own["blas"],
        "system": platform.platform(),
        "python": platform.python_version(),
        **{library: version(library) for library in libraries},
        "environment": {name: text for name, text in os.environ.items() if name.startswith(ENVIRONMENT)},
        "load_before": os.getloadavg()[0],
    }


def show(match: Match) -> None:
    """The match as a table."""
    print(f"\n{match.network}, batch {match.batch}: samples/s, median of the repeats, and each")
    for name, rates in match.rates.items():
        each = " ".join(f"{rate:,.0f}" for rate in rates)
        print(f"  {name:<44} {median(rates):>8,.0f}   {each}   {match.rules.get(name, '')}".rstrip())
    for name, reason in match.failures.items():
        print(f"  {name:<44} cannot be had: {reason}")
    for name, (of_medians, paired) in match.ratios().items():
        if of_medians is not None:
            target = f"   target {TARGETS[name]:g}" if name in TARGETS else ""
            print(f"  {name:<44} {of_medians:>8.2f}   {paired:.2f} within repeats{target}")


def integers(text: str) -> list[int]:
    """Numbers with commas between them."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print all numbers as one object, on the last line")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--networks", default="small,bn,cifar", help=f"some of: {', '.join(TASKS)}")
    parser.add_argument("--batch", type=integers, default="128,512", help="global batch sizes")
    options = parser.parse_args()
    networks = options.networks.split(",")
    for name in networks:
        if name not in TASKS:
            parser.error(f"no network {name!r}; there are {', '.join(TASKS)}")

    torch = importlib.util.find_spec("torch") is not None
    about = machine(torch)
    for key, value in about.items():
        print(f"{key}: {value}")
    if not torch:
        print("PyTorch is not installed, so there is no peer: `pip install cnnpar[bench]`")
    peers = {processes: Peers(processes) for processes in ((1, 2) if torch else ())}
    matches = [Match(network, batch, peers) for network in networks for batch in options.batch]
    try:
        for _ in range(options.repeats):
            for match in matches:
                match.play(options.seconds)
        idle = {f"{processes} processes": group.idle for processes, group in peers.items()}
    finally:
        for group in peers.values():
            group.close()
    for match in matches:
        show(match)
    print(f"\nCPU seconds that PyTorch's processes used while waiting: {sum(idle.values()):.2f}")
    if options.json:
        ratios = {name: pair for match in matches for name, pair in match.ratios().items()}
        rates: dict[str, dict[int, Rates]] = {}
        for match in matches:
            rates.setdefault(match.network, {})[match.batch] = match.rates
        print(
            json.dumps(
                {
                    **{name: pair[0] for name, pair in ratios.items()},
                    "within_repeats": {name: pair[1] for name, pair in ratios.items()},
                    "samples_per_second": rates,
                    "failures": {f"{match.network} {match.batch}": match.failures for match in matches},
                    "targets": TARGETS,
                    "machine": about,
                }
            )
        )


if __name__ == "__main__":
    main()
