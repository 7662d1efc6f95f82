"""Measure training samples per second of cnnpar, of PyTorch and of JAX, on the same cores and in turns.

    python -m scripts.bench.throughput [--json] [--isa native|avx2|avx512] [--seconds 1.5] [--repeats 3]
                                       [--networks small,bn,cifar,resnet20] [--batch 128,512] [--peers torch,ddp,jax]

cnnpar runs its whole training loop, `cnnpar.training.loop.train`: it draws batches, normalises uint8 images, computes
gradients, reduces and updates; in this process, and with one and two workers on the direct transport, one thread each.

The peers train the same network from the same starting weights, with the same batch and update rule, on images that
are normalised ahead. On two cores: PyTorch in one process with two threads, PyTorch DDP with gloo in two processes of
one thread, and JAX in one process with two; on one core: PyTorch and JAX with one thread. PyTorch's variants are both
memory layouts, eager and compiled; JAX's are both layouts. scripts/bench/peer_ddp.py and peer_jax.py say what makes
them fast. A variant that is slower at first than 0.7 times the fastest is not measured again on that network: neither
in later repeats, nor in what follows with other processes, threads and batch sizes. Peers that are not installed
(`pip install '.[bench]'`) are left out. Each peer's processes are stopped by a signal while others are measured.

cnnpar computes in microbatches of the size that suits the network, as a peer's best variant counts; with two workers
it is measured with the default size, 16, too. Batch normalisation is over a microbatch here, over a process's share of
the batch under DDP, at batch 128 the same 64 samples, and over the whole batch in one process.

`--isa` makes everybody run as on a machine with that instruction set. JAX alone keeps some AVX-512 under `avx2`
(scripts/isa.py), which is to its good.

The first run on a machine takes minutes longer: PyTorch compiles, and keeps what it compiled.

Printed for each network and batch: the rates (median, and each repeat), and their ratios: of the medians over the
repeats, and beside it the median of the ratios within each repeat, which a machine that is busy for a while disturbs
less. `ratio` is two workers over the fastest of all peers on two cores, `ratio_alone` in process over the fastest on
one. `scaling_ceiling` is two separate runs at once over one: what the two cores can do together without an engine.

Aims: `ratio` at least 2.0 (small, bn), 1.8 (cifar) and 1.5 (resnet20); with the default microbatch 1.8 (small, bn) and
1.7 (cifar); two workers over one at least 1.8 (small 128) and 1.9 (small 512, cifar).
"""

import sys
from collections.abc import Sequence
from statistics import median
from typing import Any

from scripts import isa
from scripts.bench import peers as kinds
from scripts.bench.match import APART, CORES, DEFAULT, NONE, ONE, TWO, Match
from scripts.bench.networks import TASKS
from scripts.bench.peers import Group, Peers
from scripts.harness import Report, Table, integers, make_parser, names_among

PEERS: dict[str, tuple[Group, ...]] = {
    "torch": (kinds.torch(CORES), kinds.torch(1)),
    "ddp": (kinds.ddp(CORES),),
    "jax": (kinds.jax(CORES), kinds.jax(1)),
    "none": (),
}
AIMS = {  # ratios, at least, by network or by network and batch
    "ratio": {"small": 2.0, "bn": 2.0, "cifar": 1.8, "resnet20": 1.5},
    "ratio_default_microbatch": {"small": 1.8, "bn": 1.8, "cifar": 1.7},
    "scaling_2": {"small 128": 1.8, "small 512": 1.9, "cifar": 1.9},
}


def measure(matches: Sequence[Match], repeats: int, seconds: float, peers: Sequence[Peers]) -> dict[str, float]:
    """Play the matches one after the other, and show each; CPU seconds that each group used while it waited."""
    try:
        for match in matches:
            match.play(repeats, seconds)
            match.show()
        return {peer.group.title: peer.idle for peer in peers}
    finally:
        for peer in peers:
            peer.close()


def start(names: Sequence[str]) -> list[Peers]:
    """Start the peers of these names; those that are not installed are named, and left out."""
    groups = [group for name in names for group in PEERS[name]]
    for library in sorted({group.library for group in groups if not group.installed}):
        print(f"{library} is not installed, so it is not measured: `pip install '.[bench]'`")
    return [Peers(group) for group in groups if group.installed]


def show(matches: Sequence[Match], groups: Sequence[Group]) -> None:
    """Print the table of all matches: medians, of each group the best variant's, and ratios."""
    print()
    table = Table(f"{'samples/s, medians':<40}", *(f"{match.network} {match.batch:<4}" for match in matches))
    for name in (NONE, ONE, TWO, DEFAULT, APART):
        table.row(name, *(f"{median(match.rates[name]):,.0f}" for match in matches))
    for group in groups:
        found = [(match, match.best([group])) for match in matches]
        table.row(group.title, *(f"{median(match.rates[best]):,.0f}" if best else "" for match, best in found))
    ratios = [match.ratios() for match in matches]
    for name in ratios[0]:
        table.row(name, *(f"{ratio[name].of_medians:.2f}" if name in ratio else "" for ratio in ratios))


def check(report: Report, match: Match) -> None:
    """Hold a match's ratios to the aims."""
    place = f"{match.network} {match.batch}"
    for name, ratio in match.ratios().items():
        aims = AIMS.get(name, {})
        least = aims.get(place, aims.get(match.network))
        if least is not None:
            report.check(f"{name} {place}", ratio.of_medians, "at least", least)


def main() -> int:
    parser = make_parser(__doc__)
    isa.add_option(parser)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--networks", type=names_among(TASKS), default=",".join(TASKS), help="some of: %(default)s")
    parser.add_argument("--batch", type=integers, default="128,512", help="global batch sizes")
    parser.add_argument("--peers", type=names_among(PEERS), default="torch,ddp,jax", help=f"of: {', '.join(PEERS)}")
    options = parser.parse_args()
    isa.restart_with(options.isa)

    report = Report()
    peers = start(options.peers)
    matches = []
    for network in options.networks:
        variants = {peer.group.library: list(peer.group.variants) for peer in peers}
        matches += [Match(network, batch, peers, variants) for batch in options.batch]
    idle = measure(matches, options.repeats, options.seconds, peers)
    show(matches, [peer.group for peer in peers])
    if peers:
        print(f"\nCPU seconds that peers used while waiting: {sum(idle.values()):.2f}")
    for match in matches:
        check(report, match)
    results: dict[str, Any] = {
        f"{match.network} {match.batch}": {
            "ratios": {name: ratio._asdict() for name, ratio in match.ratios().items()},
            "samples_per_second": match.rates,
            "failures": match.failures,
        }
        for match in matches
    }
    return report.end({**results, "idle_cpu_s": idle}, options.json)


if __name__ == "__main__":
    sys.exit(main())
