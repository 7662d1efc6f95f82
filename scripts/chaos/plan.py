"""The plan of all runs: which faults are done to which, and when; drawn from a seed before anything begins."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from scripts.chaos.kinds import Kind

_CLUSTER_SHARE = 0.3  # of the faults that are possible both on a run's own Ray and on a cluster


@dataclass
class Fault:
    """One fault to be done to a run, and what came of it."""

    kind: Kind
    step: int  # that the run must have reached
    pause: float  # seconds from then
    seed: int  # of its own random choices
    moment: float = 0.0  # at which it was done
    trouble: str = ""  # in what way the run did not survive it
    skipped: str = ""  # why it was not done
    lost: float | None = None  # seconds


@dataclass
class Plan:
    """A run with its faults, and what came of it."""

    workers: str
    transport: str
    cluster: bool
    faults: list[Fault]
    digest: str = ""
    wrong: list[str] = field(default_factory=list)


def schedule(faults: int, runs: int, seed: int, kinds: Sequence[Kind], spacing: int) -> list[Plan]:
    """Deal out faults, about as many of each kind, to runs, `spacing` steps apart in the mean."""
    random = Random(seed)
    wanted: list[Kind] = []
    while len(wanted) < faults:
        wanted += random.sample(kinds, min(len(kinds), faults - len(wanted)))
    places: dict[bool, list[Kind]] = {False: [], True: []}
    for kind in wanted:
        either = kind.place == "both" and any(other.place == "cluster" for other in kinds)
        places[kind.place == "cluster" or (either and random.random() < _CLUSTER_SHARE)].append(kind)
    plans = []
    for cluster, those in places.items():
        random.shuffle(those)
        those.sort(key=lambda kind: kind.order)
        number = min(max(round(runs * len(those) / len(wanted)), 1), len(those))
        plans += [_plan(those[run::number], cluster, spacing, random) for run in range(number)]
    random.shuffle(plans)
    return plans


def _plan(kinds: Sequence[Kind], cluster: bool, spacing: int, random: Random) -> Plan:
    """Plan a run with one fault of each of these kinds, in random order where a kind allows it."""
    kinds = sorted(random.sample(kinds, len(kinds)), key=lambda kind: kind.order)
    direct = kinds[0].order < 0
    return Plan(
        workers="1:4" if cluster else random.choice("223"),
        transport="direct" if direct else random.choice(["direct", "direct", "ray"]),
        cluster=cluster,
        faults=[
            Fault(
                kind,
                step=round(spacing * (place + random.uniform(0.15, 0.85))),
                pause=random.uniform(0.0, 0.1),
                seed=random.getrandbits(32),
            )
            for place, kind in enumerate(kinds)
        ],
    )
