"""Measure what a microbatch costs, whatever its size, and what each of its samples costs.

    python -m scripts.bench.microbatch [--json] [--networks small,bn,cifar] [--isa native|avx2|avx512] [--repeats 20]

A worker's part of a step: it computes 64 samples on one thread, cut into microbatches of 16, 32 or 64, and adds their
gradients, as `cnnpar.parallel.compute` does; the inputs are prepared before. The sizes take turns of ten steps, of
which the median of wall-clock time counts; printed are medians over the turns. The constant part is what three more
microbatches cost, the difference between four of 16 and one of 64, divided by three: median of the differences within
each turn.

Aim: the constant part of small at most 0.15 ms.
"""

import sys
import time
from statistics import median

import numpy as np

from cnnpar.blas import use_one_thread
from cnnpar.config.sections import Augment, Train
from cnnpar.parallel.compute import Computer, slots_shape
from cnnpar.parallel.tree import Span
from cnnpar.parallel.work import Kind, Step
from cnnpar.training.microbatch import Training
from scripts import isa
from scripts.bench.networks import TASKS, make_data, make_network
from scripts.harness import Report, Table, make_parser, names_among

SAMPLES, SIZES = 64, (16, 32, 64)
STEPS = 10  # of a turn
WARM_UP = 3  # turns
MOST = {"small": 0.15}  # ms of the constant part


class Worker:
    """A worker's computing, without its process: steps of 64 samples in microbatches of one size."""

    def __init__(self, name: str, microbatch: int) -> None:
        """Make the network of a task, with its data and memory."""
        network, (data, preprocessing) = make_network(TASKS[name]), make_data(TASKS[name])
        settings = Train(batch_size=SAMPLES, microbatch=microbatch)
        work = Training(network, preprocessing, Augment(), settings, {Kind.TRAIN: len(data)})
        self._work = work.with_data({Kind.TRAIN: data})
        self._computer = Computer(self._work, np.empty(slots_shape(self._work), np.float32))
        self._parameters = network.init(0)
        self._step = 0

    def turn(self) -> float:
        """Compute ten steps; the median of their milliseconds."""
        return median(self.milliseconds() for _ in range(STEPS))

    def milliseconds(self) -> float:
        """Compute a step, and return how long that took."""
        step = Step(Kind.TRAIN, 0, self._step % self._work.steps_per_epoch)
        span = Span(0, self._work.microbatches(step))
        self._step += 1
        self._computer.prepare(step, span)
        began = time.perf_counter()
        self._computer.compute(step, span, self._parameters)
        return 1e3 * (time.perf_counter() - began)


def measure(name: str, repeats: int) -> dict[str, float]:
    """Measure the milliseconds of 64 samples by size of microbatch, and both parts of the cost."""
    workers = {size: Worker(name, size) for size in SIZES}
    turns = [{size: worker.turn() for size, worker in workers.items()} for _ in range(WARM_UP + repeats)]
    turns = turns[WARM_UP:]
    constant = median((turn[16] - turn[64]) / 3 for turn in turns)
    times = {f"of_{size}_ms": median(turn[size] for turn in turns) for size in SIZES}
    return {**times, "constant_ms": constant, "sample_ms": (times["of_64_ms"] - constant) / SAMPLES}


def main() -> int:
    parser = make_parser(__doc__)
    isa.add_option(parser)
    parser.add_argument("--networks", type=names_among(TASKS), default="small,bn,cifar")
    parser.add_argument("--repeats", type=int, default=20, help="turns")
    options = parser.parse_args()
    isa.restart_with(options.isa)
    use_one_thread()
    report, rows = Report(), {}
    print(f"ms of {SAMPLES} samples in microbatches of a size, and what each microbatch and each sample costs")
    table = Table("network  ", "     of 16", "     of 32", "     of 64", "constant", "a sample")
    for name in options.networks:
        row = rows[name] = measure(name, options.repeats)
        table.row(name, *(f"{value:.3f}" for value in list(row.values())[:-1]), f"{row['sample_ms']:.4f}")
        if name in MOST:
            report.check(f"constant part of a microbatch of {name}", row["constant_ms"], "at most", MOST[name], "ms")
    return report.end({"networks": rows}, options.json)


if __name__ == "__main__":
    sys.exit(main())
