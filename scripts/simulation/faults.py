"""The faults of one schedule: their kinds, how often each comes, and when."""

from random import Random
from typing import NamedTuple

from cnnpar.config.sections import Engine

# Faults of a job, or of a worker that was asked for: each has a probability of its own in each schedule.
OF_JOBS = (
    "loss before a job",
    "loss during a job",
    "loss after a job",
    "loss, and then its answer",
    "endless silence",
    "stall",
    "long delay",
    "answer twice",
)
OF_STARTS = ("refused start", "loss while starting", "start without end", "slow from the start")

# Ends of the cluster with all its workers, at a moment.
OF_CLUSTERS = (
    "cluster gone",
    "cluster gone between steps",
    "cluster gone while replacements start",
    "cluster gone again and again",
)

# When it is back: as a share of `cluster_timeout`.
OUTAGES = {
    "cluster back at once": (0.0, 0.0),
    "cluster back soon": (0.0, 0.2),
    "cluster back late": (0.5, 0.99),
    "cluster back too late": (1.4, 2.0),
    "cluster given up": (0.0, 0.99),
}

# Faults at a moment.
MOMENTS = (
    "slow worker",
    "fast again",
    "loss while idle",
    "several lost at once",
    "all lost at once",
    "every worker dies for a while",
    "more room",
    "less room",
    "server held up",
    "server slow",
    "long update",
    "stop",
    *OF_CLUSTERS,
)

# Consequences, which are counted too.
CONSEQUENCES = (
    "answer to an earlier job",
    "answer to an earlier step",
    "join in mid-step",
    "race",
    "probe",
    "worker given up",
    "worker replaced",
    "cluster gone before the first step",
    "cluster gone in an evaluation",
    "cluster gone twice in a step",
    "order that is lost with its cluster",
    "join after the end of its cluster",
    "loss after the end of its cluster",
    "answer after the end of its cluster",
)

KINDS = (*OF_JOBS, *OF_STARTS, *MOMENTS, *OUTAGES, *CONSEQUENCES)


class Faults(NamedTuple):
    """The faults of one schedule."""

    jobs: list[tuple[float, str]]  # (edge, kind): the kind whose edge is the first above a random number
    starts: list[tuple[float, str]]
    before: list[tuple[float, str]]  # (share of the time, kind) of moments while the first workers come
    moments: list[tuple[float, str]]  # and after that

    @classmethod
    def drawn(cls, random: Random) -> "Faults":
        """Draw a few kinds for a schedule, so that each comes alone and with others."""
        jobs = random.sample(OF_JOBS, random.choice((0, 1, 1, 1, 2, 3)))
        starts = random.sample(OF_STARTS, random.choice((0, 0, 0, 1, 1, 2)))
        before = random.choices(MOMENTS, k=random.choice((0, 0, 0, 0, 1)))
        moments = random.choices(MOMENTS, k=random.choice((0, 0, 1, 1, 2, 4)))
        return cls(
            _edges(random, jobs, 0.4 / (len(jobs) or 1)),
            _edges(random, starts, 0.3 / (len(starts) or 1)),
            [(random.random(), kind) for kind in before],
            [(random.random(), kind) for kind in moments],
        )

    def of_job(self, random: Random) -> str:
        """Draw the fault of a job; empty for none."""
        return _drawn(self.jobs, random)

    def of_start(self, random: Random) -> str:
        """Draw the fault of a worker that was asked for; empty for none."""
        return _drawn(self.starts, random)


def settings(random: Random) -> Engine:
    """Draw limits and timeouts: short ones, as the server looks at its scheduler every 0.2 s of virtual time."""
    most = random.randint(1, 8)
    fewest = most if random.random() < 0.6 else random.randint(1, most)
    return Engine(
        workers=most if fewest == most else f"{fewest}:{most}",
        min_workers=random.choice((0, 0, 0, random.randint(1, fewest))),
        max_worker_failures=random.choice((-1, -1, -1, -1, -1, random.randint(0, 4))),
        start_timeout=random.choice((2.0, 4.0)),
        cluster_timeout=random.choice((1.0, 2.0, 5.0)),
        step_timeout=random.choice((1.0, 2.0, 3.0)),
        deadline_factor=random.choice((1.0, 2.0, 4.0)),
        deadline_floor=random.choice((0.01, 0.1)),
        give_up_after=random.choice((0.1, 0.5, 1.0)),
    )


def _edges(random: Random, kinds: list[str], most: float) -> list[tuple[float, str]]:
    edge = 0.0
    edges = []
    for kind in kinds:
        edge += random.random() * most
        edges.append((edge, kind))
    return edges


def _drawn(edges: list[tuple[float, str]], random: Random) -> str:
    number = random.random() if edges else 0.0
    return next((kind for edge, kind in edges if number < edge), "")
