"""What the engine has computed: one microbatch as a pure function, and the values that come back.

`Work` is the seam between engine and numerics. The engine moves vectors of `size` floats out and back and knows
nothing of layers; `Training` is the work of a run, and a benchmark may bring its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property, partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnpar import rng
from cnnpar.config.sections import Augment, Train
from cnnpar.data.augment.augmenter import Augmenter
from cnnpar.data.augment.mixup import Targets
from cnnpar.data.balance import Balance
from cnnpar.data.batches import batch_indices, steps_per_epoch
from cnnpar.data.dataset import Dataset
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.nn import confusion
from cnnpar.nn.network import Network
from cnnpar.nn.sums import Sums
from cnnpar.parallel.plan import Node

Vector = NDArray[np.float32]
Prepared = Any  # the inputs of one microbatch; only the work that made them looks inside

EVALUATION_MICROBATCHES = 64  # in one step of an evaluation


class Kind(IntEnum):
    """What a step is for."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


class Step(NamedTuple):
    """One step of the engine: a batch of an epoch, or a piece of an evaluation."""

    kind: Kind
    epoch: int
    number: int


class Block(NamedTuple):
    """The value of one node as a worker returns it; what else it has lies in buffer number `slot`."""

    node: Node
    slot: int
    sums: Sums


class Work(Protocol):
    """A pure function of (parameters, step, microbatch), cut into a part without and a part with parameters."""

    @property
    def size(self) -> int:
        """Floats in the parameter vector, and in a gradient."""

    def with_data(self, data: Mapping[Kind, Dataset]) -> "Work":
        """The same work, able to `prepare` inputs; without, it is small and can be sent to workers."""

    def microbatches(self, step: Step) -> int:
        """Leaves of the step's reduction tree."""

    def length(self, step: Step) -> int:
        """Floats that a microbatch yields besides its sums: `size` for a gradient, or as many as it counts; 0: none."""

    def following(self, step: Step) -> Step | None:
        """The step that will most likely come next, if any."""

    def prepare(self, step: Step, microbatch: int) -> Prepared:
        """The inputs of a microbatch; needs no parameters, so it may be done ahead."""

    def compute(self, step: Step, microbatch: int, prepared: Prepared, parameters: Vector, out: Vector) -> Sums:
        """The sums over one microbatch; what else it yields overwrites `out`, of shape (length(step),)."""


@dataclass(frozen=True)
class Training:
    """The work of a run: draw a microbatch, vary it, normalise it, and ask the network."""

    network: Network
    preprocessing: Preprocessing
    augment: Augment
    train: Train
    samples: Mapping[Kind, int]  # size of each data set
    balance: bool = False  # whether an epoch shows all classes equally often
    data: Mapping[Kind, Dataset] = field(default_factory=dict)

    def with_data(self, data: Mapping[Kind, Dataset]) -> "Training":
        """The same work with the samples, which workers get apart, once per node."""
        return replace(self, data=data)

    @property
    def size(self) -> int:
        """Parameters of the network."""
        return self.network.layout.size

    @cached_property
    def _augmenter(self) -> Augmenter:
        return Augmenter(self.augment, self.train, self.preprocessing.mean)

    @cached_property
    def _balance(self) -> Balance:
        return Balance(self.train.seed, self.data[Kind.TRAIN].labels, self.epoch_samples)

    @cached_property
    def epoch_samples(self) -> int:
        """Samples of one epoch, shifted copies included."""
        return self._augmenter.epoch_size(self.samples[Kind.TRAIN])

    @cached_property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        return steps_per_epoch(self.epoch_samples, self.train.batch_size)

    @property
    def smallest_microbatch(self) -> int:
        """Samples of the smallest microbatch of an epoch."""
        batches = {min(self.train.batch_size, self.epoch_samples), self.epoch_samples % self.train.batch_size} - {0}
        return min(size % self.train.microbatch or self.train.microbatch for size in batches)

    def _batch(self, step: Step) -> tuple[int, int]:
        """First and last + 1 position, within its epoch or data set, of the samples of a step."""
        if step.kind is Kind.TRAIN:
            length, total = self.train.batch_size, self.epoch_samples
        else:
            length, total = EVALUATION_MICROBATCHES * self.train.microbatch, self.samples.get(step.kind, 0)
        return step.number * length, min((step.number + 1) * length, total)

    def microbatches(self, step: Step) -> int:
        """Leaves of the step's reduction tree; 0 past the end of an evaluation."""
        start, stop = self._batch(step)
        return max(-((start - stop) // self.train.microbatch), 0)

    def length(self, step: Step) -> int:
        """A gradient in training, counts in the test."""
        return {Kind.TRAIN: self.size, Kind.VALIDATION: 0, Kind.TEST: confusion.size(self.network.classes)}[step.kind]

    def following(self, step: Step) -> Step | None:
        """The next batch of the same kind; evaluations start when they are asked for."""
        after = step._replace(number=step.number + 1)
        if step.kind is Kind.TRAIN and after.number == self.steps_per_epoch:
            return Step(Kind.TRAIN, step.epoch + 1, 0)
        return after if self.microbatches(after) else None

    def prepare(self, step: Step, microbatch: int) -> tuple[NDArray[np.float32], NDArray[np.int64] | Targets]:
        """Normalised images (n, H, W, C) of a microbatch and their labels (n,); targets, where images are mixed."""
        data = self.data[step.kind]
        start, stop = self._batch(step)
        first = start + microbatch * self.train.microbatch
        last = min(first + self.train.microbatch, stop)
        if step.kind is Kind.TRAIN:
            batch = batch_indices(self.train.seed, step.epoch, step.number, self.epoch_samples, self.train.batch_size)
            indices = batch[first - start : last - start]
            shown = self._balance[step.epoch] if self.balance else None
            images, targets = self._augmenter.take(data.images, data.labels, indices, step.epoch, shown)
            return self.preprocessing.normalise(images), targets
        return self.preprocessing.normalise(data.images[first:last]), data.labels[first:last]

    def compute(self, step: Step, microbatch: int, prepared: Prepared, parameters: Vector, out: Vector) -> Sums:
        """Loss, hits, and the gradient sum or counts (cnnpar/nn/confusion.py) of a microbatch."""
        images, targets = prepared
        labels, second = targets, None
        if isinstance(targets, Targets):
            labels, second = targets.labels, (targets.others, targets.shares)
        if step.kind is not Kind.TRAIN:
            return self.network.loss(parameters, images, labels, out)
        place = step.epoch * self.steps_per_epoch + step.number
        generators = partial(rng.dropout, self.train.seed, place, microbatch)  # by layer
        return self.network.loss_and_gradient(parameters, images, labels, generators, out, second)
