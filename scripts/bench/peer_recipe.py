"""Train by a recipe in PyTorch, for accuracy.py: what peer_ddp.py does for {"action": "train"}.

Network, starting weights, order of samples, augmentation, learning rates and batch are cnnpar's own, made by the same
code; each process takes its share of a batch. Batch normalisation is PyTorch's, over the share of a process. The
clock stands still while the test accuracy is measured, and starts after a first step, so that compiling does not
count.
"""

import copy
import time
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from cnnpar.config.choices import SGD, CrossEntropy
from cnnpar.config.resolve import resolve
from cnnpar.config.sections import Config
from cnnpar.data.augment.augmenter import Augmenter
from cnnpar.data.augment.mixup import Targets
from cnnpar.data.batches import batch_indices, steps_per_epoch
from cnnpar.data.dataset import Dataset
from cnnpar.data.load import load_splits
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.nn.network import Network
from cnnpar.optim.schedules import learning_rate

EVALUATED = 1000  # images at a time


class Recipe:
    """A configuration of cnnpar that PyTorch can train by: SGD and cross-entropy."""

    def __init__(self, tables: dict[str, Any], layout: torch.memory_format, rank: int, processes: int) -> None:
        config = resolve(tables)
        assert isinstance(config.optimizer, SGD)
        assert isinstance(config.loss, CrossEntropy)
        self.config: Config = config
        self.rule: SGD = config.optimizer
        self.smoothing = config.loss.label_smoothing
        splits = load_splits(config.data)
        assert splits.test is not None
        self.data: Dataset = splits.train
        self.preprocessing = Preprocessing.of(splits.train)
        self.augmenter = Augmenter(config.augment, config.train, self.preprocessing.mean)
        self.size = self.augmenter.epoch_size(len(self.data))  # of an epoch, in samples
        self.test = self._tensor(self.preprocessing.normalise(splits.test.images), layout)
        self.test_labels = torch.from_numpy(splits.test.labels)
        self.network = Network.from_tables(
            config.model.layers, self.preprocessing.image_shape, len(self.preprocessing.class_names)
        )
        self.layout, self.rank, self.processes = layout, rank, processes

    def batch(self, epoch: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Make this process's share of a batch."""
        train = self.config.train
        whole = batch_indices(train.seed, epoch, number, self.size, train.batch_size)
        own = np.array_split(whole, self.processes)[self.rank]
        images, labels = self.augmenter.take(self.data.images, self.data.labels, own, epoch)
        assert not isinstance(labels, Targets)
        return self._tensor(self.preprocessing.normalise(images), self.layout), torch.from_numpy(labels)

    @staticmethod
    def _tensor(images: Any, layout: torch.memory_format) -> torch.Tensor:
        """Turn images (n, H, W, C) into (n, C, H, W) in the layout."""
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout)


def train(recipe: Recipe, twin: nn.Module, compiled: bool, every: int) -> list[tuple[float, int, float]]:
    """Train together with the other processes.

    Returns seconds, samples and test accuracy after every so many samples, and at the end.
    """
    config, rule = recipe.config, recipe.rule
    twin = twin.to(memory_format=recipe.layout)
    model: nn.Module = torch.compile(twin, dynamic=False) if compiled else twin  # type: ignore[assignment, unused-ignore]
    steps = steps_per_epoch(recipe.size, config.train.batch_size)
    total = steps * config.train.epochs
    start = copy.deepcopy(twin.state_dict())
    for number in (0, steps - 1):  # the last batch is shorter
        model(recipe.batch(0, number)[0]).sum().backward()  # compiles
    twin.zero_grad()
    twin.load_state_dict(start)
    if recipe.processes > 1:
        model = nn.parallel.DistributedDataParallel(
            model, broadcast_buffers=False, gradient_as_bucket_view=True, static_graph=True
        )
    optimizer = torch.optim.SGD(
        twin.parameters(), rule.learning_rate, rule.momentum, 0, rule.weight_decay, rule.nesterov, fused=True
    )
    averaged = copy.deepcopy(twin) if config.train.ema_decay else twin
    curve: list[tuple[float, int, float]] = []
    spent, samples, began = 0.0, 0, time.perf_counter()
    for step in range(total):
        epoch, number = divmod(step, steps)
        images, labels = recipe.batch(epoch, number)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config.schedule, rule.learning_rate, step, steps, total)
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(images), labels, label_smoothing=recipe.smoothing).backward()
        optimizer.step()
        if averaged is not twin:
            _follow(averaged, twin, min(config.train.ema_decay, (1 + step) / (10 + step)))
        before, samples = samples, min(samples + config.train.batch_size, (epoch + 1) * recipe.size)
        if samples // every > before // every or step == total - 1:
            spent += time.perf_counter() - began
            curve.append((spent, samples, _accuracy(averaged, recipe)))
            if recipe.processes > 1:
                dist.barrier()
            began = time.perf_counter()
    return curve


def _follow(averaged: nn.Module, twin: nn.Module, decay: float) -> None:
    """Move the exponential moving averages of parameters and buffers."""
    for kept in (nn.Module.parameters, nn.Module.buffers):
        pairs = [(a, b) for a, b in zip(kept(averaged), kept(twin), strict=True) if a.is_floating_point()]
        with torch.no_grad():
            torch._foreach_lerp_([a for a, _ in pairs], [b for _, b in pairs], 1 - decay)


def _accuracy(twin: nn.Module, recipe: Recipe) -> float:
    """Measure the share of the test images that is classified correctly."""
    twin.eval()
    parts = zip(recipe.test.split(EVALUATED), recipe.test_labels.split(EVALUATED), strict=True)
    with torch.no_grad():
        correct = sum(int((twin(images).argmax(1) == labels).sum()) for images, labels in parts)
    twin.train()
    return correct / len(recipe.test_labels)
