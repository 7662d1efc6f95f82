"""The work of a run: the loss and gradient of one microbatch, from its place in the run and the parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

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
from cnnpar.nn.shapes import Vector
from cnnpar.nn.sums import Sums
from cnnpar.parallel.tree import microbatch_count
from cnnpar.parallel.work import Kind, Prepared, Step

EVALUATION_MICROBATCHES = 64  # in one step of an evaluation


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
        return replace(self, data=dict(data))

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
        return microbatch_count(max(stop - start, 0), self.train.microbatch)

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
