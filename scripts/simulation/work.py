"""The work of the simulated workers: sums that differ when a microbatch is missing, twice, out of order or outdated.

The gradient sum of a microbatch depends on the parameters, the epoch, the step and the microbatch, and its numbers are
such that float32 additions in another order give other bits. The hits of a microbatch are a number that has a digit
for each sample of the data set, so the hits of an epoch are all ones if every sample was seen exactly once.
"""

from collections.abc import Iterator
from functools import cache
from random import Random
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnpar.data.batches import batch_indices, steps_per_epoch
from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums, add_sums
from cnnpar.parallel.compute import slots_shape
from cnnpar.parallel.server import Evaluation, Value
from cnnpar.parallel.tree import Node, Tree, microbatch_count
from cnnpar.parallel.work import Kind, Prepared, Step
from scripts.harness import WithoutInputs

SHAPES = 500  # works that differ in batch size, microbatch, steps and samples
PIECE = 6  # microbatches in one step of an evaluation
_BEGINNING = np.array([-1.0, 0.1, 1.0], np.float32)
_BASE = 16  # of the number of hits: a sample may be seen 15 times before its digit overflows


class Levels(NamedTuple):
    """The values of all nodes of a step's reduction tree, by level and number."""

    vectors: list[NDArray[np.float32]]  # (nodes, size) for each level
    sums: list[list[Sums]]


class Record(NamedTuple):
    """The result of a step or an evaluation; the serial run and every schedule must agree in all of it."""

    gradient: bytes
    sums: Sums
    parameters: bytes  # after the update


class Engine(Protocol):
    """The part of a server that a run needs."""

    def gradient(self, parameters: Vector, epoch: int, number: int) -> Value:
        """Compute the sums of one batch."""

    def evaluate(self, parameters: Vector, kind: Kind) -> Evaluation:
        """Compute the sums of a data set."""


class SimulatedWork(WithoutInputs):
    """A work of 1 to 40 microbatches a batch and 2 to 6 steps, in epochs with a ragged end and an evaluation."""

    size = len(_BEGINNING)

    def __init__(self, shape: int) -> None:
        random = Random(shape)
        self.microbatch = random.randint(1, 3)
        self.most = round(40 ** random.random())
        self.batch = self.microbatch * self.most - random.randrange(self.microbatch)
        self.steps = random.randint(1, 3)
        self.epochs = -(-random.randint(2, 6) // self.steps)
        self.samples = self.batch * self.steps - random.randrange(self.batch)
        self.validation = random.choice([0, random.randint(1, 13)])
        self.slots, _ = slots_shape(self)
        self.asked = Step(Kind.TRAIN, 0, -1)  # the step that the server asked about last, which is under way
        self._seed = shape
        self._levels: dict[tuple[bytes, Step], Levels] = {}

    def microbatches(self, step: Step) -> int:
        """Return the leaves of the step; the server asks when it begins one."""
        self.asked = step
        return microbatch_count(len(self._samples_of(step)), self.microbatch)

    def length(self, step: Step) -> int:
        """Return the gradient's size in training, 0 in an evaluation."""
        return self.size if step.kind is Kind.TRAIN else 0

    def compute(self, step: Step, microbatch: int, prepared: Prepared, parameters: Vector, out: Vector) -> Sums:
        """Compute the values of one leaf."""
        del prepared
        levels = self.levels(step, parameters)
        out[:] = levels.vectors[0][microbatch]
        return levels.sums[0][microbatch]

    def levels(self, step: Step, parameters: Vector) -> Levels:
        """Compute the step's tree by its definition, level by level; kept, as it is a pure function."""
        key = parameters.tobytes(), step
        if key not in self._levels:
            self._levels[key] = self._compute(step, parameters)
        return self._levels[key]

    def blocks(self, step: Step, span: range, parameters: Vector, slots: Vector) -> list[tuple[Node, Vector, Sums]]:
        """Compute what a worker returns for a span; the vectors of a training step are written to its slots."""
        levels = self.levels(step, parameters)
        nodes = _nodes(span, len(levels.sums[0]))
        if step.kind is not Kind.TRAIN:
            return [(node, slots[0], levels.sums[node.level][node.number]) for node in nodes]
        for slot, node in enumerate(nodes):
            slots[slot] = levels.vectors[node.level][node.number]
        return [(node, slots[slot], levels.sums[node.level][node.number]) for slot, node in enumerate(nodes)]

    def _samples_of(self, step: Step) -> range:
        if step.kind is Kind.TRAIN:
            return range(step.number * self.batch, min((step.number + 1) * self.batch, self.samples))
        piece = PIECE * self.microbatch
        return range(step.number * piece, min((step.number + 1) * piece, self.validation * self.microbatch))

    def _compute(self, step: Step, parameters: Vector) -> Levels:
        random = np.random.default_rng([self._seed, *step])
        samples = np.asarray(self._samples_of(step))
        if step.kind is Kind.TRAIN:
            samples = batch_indices(self._seed, step.epoch, step.number, self.samples, self.batch)
        leaves = [samples[start : start + self.microbatch] for start in range(0, len(samples), self.microbatch)]
        noise = random.standard_normal((len(leaves), self.size), np.float32) * np.float32(1e3)
        vectors = [(noise * (np.float32(1.5) + np.sin(parameters))).astype(np.float32, copy=False)]
        level = [
            Sums(float(loss) * float(1.5 + np.sin(parameters[0])), sum(_BASE ** int(n) for n in leaf), len(leaf))
            for loss, leaf in zip(random.random(len(leaves)), leaves, strict=True)
        ]
        sums = [level]
        while len(level) > 1:
            vector = vectors[-1][0::2].copy()
            vector[: len(level) // 2] += vectors[-1][1::2]
            level = [add_sums(*level[n : n + 2]) if n + 1 < len(level) else level[n] for n in range(0, len(level), 2)]
            vectors.append(vector)
            sums.append(level)
        return Levels(vectors, sums)


class Serial:
    """A run without workers, by the tree's definition."""

    def __init__(self, work: SimulatedWork) -> None:
        self._work = work

    def gradient(self, parameters: Vector, epoch: int, number: int) -> Value:
        """Compute the root of one batch."""
        levels = self._work.levels(Step(Kind.TRAIN, epoch, number), parameters)
        return Value(levels.vectors[-1][0].copy(), levels.sums[-1][0])

    def evaluate(self, parameters: Vector, kind: Kind) -> Evaluation:
        """Add the roots of an evaluation's pieces."""
        total = Sums(0.0, 0, 0)
        for piece in range(-(-self._work.validation // PIECE)):
            total = add_sums(total, self._work.levels(Step(kind, 0, piece), parameters).sums[-1][0])
        return Evaluation(total, np.zeros(0, np.int64))


def beginning() -> Vector:
    """Return the parameters that a run begins with."""
    return _BEGINNING.copy()


def trained(work: SimulatedWork, engine: Engine, parameters: Vector) -> Iterator[Record]:
    """Train step by step; the parameters change in place. Raises AssertionError when an epoch lacks a sample."""
    for epoch in range(work.epochs):
        seen = 0
        for number in range(work.steps):
            gradient, sums = engine.gradient(parameters, epoch, number)
            seen += sums.correct
            received = gradient.tobytes()
            np.divide(gradient, np.float32(sums.count), out=gradient)
            parameters *= np.float32(0.5)
            parameters += gradient
            yield Record(received, sums, parameters.tobytes())
        if seen != _every(work.samples):
            raise AssertionError(f"epoch {epoch} has not seen every sample exactly once")
        if work.validation:
            sums = engine.evaluate(parameters, Kind.VALIDATION).sums
            if sums.correct != _every(work.validation * work.microbatch):
                raise AssertionError(f"the evaluation after epoch {epoch} has not seen every sample exactly once")
            yield Record(b"", sums, parameters.tobytes())


@cache
def made(shape: int) -> tuple[SimulatedWork, list[Record]]:
    """Make a work, and the records of its serial run."""
    work = SimulatedWork(shape)
    if work.steps != steps_per_epoch(work.samples, work.batch):
        raise AssertionError(f"work {shape} has other steps than its epochs")
    return work, list(trained(work, Serial(work), beginning()))


@cache
def _nodes(span: range, leaves: int) -> list[Node]:
    """Find the maximal aligned blocks of a span."""
    tree: Tree[None] = Tree(leaves, lambda _left, _right: None)
    for leaf in span:
        tree.put(Node(0, leaf), None)
    return [node for node, _ in tree]


@cache
def _every(samples: int) -> int:
    return sum(_BASE**sample for sample in range(samples))
