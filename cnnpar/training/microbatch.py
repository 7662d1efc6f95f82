"""The work of a run: loss and gradient of a microbatch, a pure function of its place in the run and the parameters."""

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

EVALUATION_MICROBATCHES = 64  # in one step of an evaluation, to keep many workers busy


@dataclass(frozen=True)
class Training:
    """The work of a run: draws a microbatch, augments and normalises it, and passes it through the network."""

    network: Network
    preprocessing: Preprocessing
    augment: Augment
    train: Train
    samples: Mapping[Kind, int]  # size of each data set
    balance: bool = False  # an epoch shows all classes equally often
    data: Mapping[Kind, Dataset] = field(default_factory=dict)

    def with_data(self, data: Mapping[Kind, Dataset]) -> "Training":
        """Return the same work with its samples, which workers get on their own, once a node."""
        return replace(self, data=dict(data))

    @property
    def size(self) -> int:
        """Number of float32 in the parameter vector: parameters, and buffers behind them."""
        return self.network.layout.size

    @property
    def libraries(self) -> frozenset[str]:
        """Names of packages besides numpy whose version decides the bits."""
        return self.network.libraries

    def load_loops(self) -> None:
        """Load the compiled loops that the network and the augmentation take."""
        self.network.load_loops()
        if self.samples.get(Kind.TRAIN):
            self._augmenter.load_loops(self.network.input_shape)

    @cached_property
    def _augmenter(self) -> Augmenter:
        return Augmenter(self.augment, self.train, self.preprocessing.mean)

    @cached_property
    def _balance(self) -> Balance:
        return Balance(self.train.seed, self.data[Kind.TRAIN].labels, self.epoch_samples)

    @cached_property
    def epoch_samples(self) -> int:
        """Number of samples in one epoch, shifted copies included."""
        return self._augmenter.epoch_size(self.samples[Kind.TRAIN])

    @cached_property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps in one epoch."""
        return steps_per_epoch(self.epoch_samples, self.train.batch_size)

    @property
    def smallest_microbatch(self) -> int:
        """Number of samples in the smallest microbatch of an epoch: the last one of a full or of the last batch."""
        batches = {min(self.train.batch_size, self.epoch_samples), self.epoch_samples % self.train.batch_size} - {0}
        return min(size % self.train.microbatch or self.train.microbatch for size in batches)

    def _batch(self, step: Step) -> tuple[int, int]:
        """Return the range (start, stop) of a step's samples, as positions in its epoch or data set."""
        if step.kind is Kind.TRAIN:
            length, total = self.train.batch_size, self.epoch_samples
        else:
            # The last piece is shorter; those behind it are empty.
            length, total = EVALUATION_MICROBATCHES * self.train.microbatch, self.samples.get(step.kind, 0)
        return step.number * length, min((step.number + 1) * length, total)

    def microbatches(self, step: Step) -> int:
        """Return the number of microbatches of the step; 0 past the end of an evaluation."""
        start, stop = self._batch(step)
        return microbatch_count(max(stop - start, 0), self.train.microbatch)

    def length(self, step: Step) -> int:
        """Return the length of the vector of a microbatch: a gradient in training, counts in the test, else nothing."""
        return {Kind.TRAIN: self.size, Kind.VALIDATION: 0, Kind.TEST: confusion.size(self.network.classes)}[step.kind]

    def following(self, step: Step) -> Step | None:
        """Return the next step of the same kind; None after the last one of an evaluation."""
        # An evaluation is never the following step of training: it comes once an epoch, and not of every run.
        after = step._replace(number=step.number + 1)
        if step.kind is Kind.TRAIN and after.number == self.steps_per_epoch:
            return Step(Kind.TRAIN, step.epoch + 1, 0)
        return after if self.microbatches(after) else None

    def prepare(self, step: Step, microbatch: int) -> tuple[NDArray[np.float32], NDArray[np.int64] | Targets]:
        """Return the normalised images, (n, H, W, C) float32, of a microbatch, and their labels, (n,) int64.

        Where images are mixed, targets take the place of labels.
        """
        data = self.data[step.kind]
        start, stop = self._batch(step)
        first = start + microbatch * self.train.microbatch
        last = min(first + self.train.microbatch, stop)
        if step.kind is Kind.TRAIN:
            batch = batch_indices(self.train.seed, step.epoch, step.number, self.epoch_samples, self.train.batch_size)
            indices = batch[first - start : last - start]  # (n,) int64, in 0..epoch_samples-1
            shown = self._balance[step.epoch] if self.balance else None
            images, targets = self._augmenter.take(data.images, data.labels, indices, step.epoch, shown)
            return self.preprocessing.normalise(images), targets
        return self.preprocessing.normalise(data.images[first:last]), data.labels[first:last]

    def compute(self, step: Step, microbatch: int, prepared: Prepared, parameters: Vector, out: Vector) -> Sums:
        """Return loss sum and hits of a microbatch, and overwrite `out`: gradient sum, or counts (nn/confusion.py).

        `parameters`: (size,) float32; `out`: (length(step),) float32.
        """
        images, targets = prepared  # (n, H, W, C) float32, and (n,) int64 or targets
        labels, second = targets, None
        if isinstance(targets, Targets):
            # Mixed images have two labels each, and the share of the first one.
            labels, second = targets.labels, (targets.others, targets.shares)
        if step.kind is not Kind.TRAIN:
            return self.network.loss(parameters, images, labels, out)
        # Dropout depends on the step of the run and the microbatch, so any worker draws the same mask.
        place = step.epoch * self.steps_per_epoch + step.number
        generators = partial(rng.dropout, self.train.seed, place, microbatch)  # by layer
        return self.network.loss_and_gradient(parameters, images, labels, generators, out, second)
