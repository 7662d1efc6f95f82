"""The network: layers in order, on one flat vector of parameters, and of buffers behind them.

The vector is what crosses processes, what optimizers update and what checkpoints hold; `Layout` says which part of it
is `conv1.weight`. A network holds no parameters, only workspaces that it reuses from batch to batch: it serves one
thread at a time, and a result depends on nothing but the arguments.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

from cnnpar import rng as random_streams
from cnnpar.config.choices import CrossEntropy, Loss
from cnnpar.config.sections import Config
from cnnpar.errors import InputError
from cnnpar.nn import confusion, losses
from cnnpar.nn.chain import Chain, Generators
from cnnpar.nn.functions import Matrix
from cnnpar.nn.layers import Buffer, Layer, Softmax
from cnnpar.nn.layout import layout, segments
from cnnpar.nn.loops import interface
from cnnpar.nn.shapes import Array
from cnnpar.nn.sums import Sums
from cnnpar.nn.tables import check_sizes, layers_from_tables
from cnnpar.nn.workspace import Scratch, Workspace

Labels = NDArray[np.integer[Any]]
Second = tuple[Labels, NDArray[np.float64]]

_MOST_PARAMETERS = 2**31
_LOSS = CrossEntropy()
_KEPT_SIZES = 4  # numbers of samples whose workspaces are kept: training, its last microbatch, evaluation


class Network:
    """Layers in order, from images (n, H, W, C) to the loss of what it makes of them."""

    def __init__(
        self,
        layers: Sequence[Layer],
        input_shape: tuple[int, int, int],
        dtype: DTypeLike,
        loss: Loss,
        freeze: Sequence[str],
    ) -> None:
        """For layers that fit each other; see `from_tables`."""
        self.layers = tuple(layers)
        self.input_shape = input_shape
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._loss = loss
        # The loss takes logits, and has a softmax of its own.
        self.chain = Chain(layers[:-1] if layers and isinstance(layers[-1], Softmax) else layers, input_shape)
        self.classes = self.chain.shapes[-1][0]
        self.layout = layout(self.chain, freeze)
        shares = [(entry, buffer.share) for entry, buffer in zip(self.layout.buffers, self._buffers(), strict=True)]
        self._shares = np.array(
            [share for entry, share in shares for _ in range(math.prod(entry.shape))], self.dtype
        )  # of each number behind the parameters
        moving = segments([entry for entry in self.layout.buffers if entry.name not in self.layout.frozen])
        trained = self.layout.trained
        self._moving = [slice(part.start - trained, part.stop - trained) for part, _ in moving]  # of these numbers
        self._kept: dict[int, list[Workspace]] = {}  # by number of samples: a workspace for each layer
        self._scratch = Scratch()  # what they all need for a moment only

    def __getstate__(self) -> dict[str, Any]:
        """All but the workspaces: a copy makes its own, whose arrays then lie in memory as they must."""
        return {**self.__dict__, "_kept": {}, "_scratch": Scratch()}

    @classmethod
    def from_tables(
        cls,
        tables: Sequence[Mapping[str, Any]],
        input_shape: tuple[int, int, int],
        classes: int,
        dtype: DTypeLike = np.float32,
        loss: Loss = _LOSS,
        freeze: Sequence[str] = (),
    ) -> "Network":
        """The network that a configuration's `model.layers` describe, for images (H, W, C), and its loss.

        `freeze`: patterns of what keeps its bits (cnnpar/nn/layout.py); a layer that does as a whole normalises as in
        evaluation. Raises InputError that names the layer and what is wrong: its type, a key, or a shape that does not
        fit.
        """
        network = cls(layers_from_tables(tables, input_shape, classes), input_shape, dtype, loss, freeze)
        if isinstance(loss, CrossEntropy) and len(loss.class_weights) not in (0, classes):
            raise InputError(
                f"loss.class_weights: {len(loss.class_weights)} numbers, but there are {classes} classes; one for each"
            )
        if network.layers and isinstance(network.layers[-1], Softmax) and not isinstance(loss, CrossEntropy):
            raise InputError(
                f"layer {len(network.layers)} ({network.layers[-1].name}): a softmax at the end goes with the loss "
                f"cross_entropy, and this one is {loss.__struct_config__.tag}; leave the layer out"
            )
        if not 0 < network.layout.trained <= _MOST_PARAMETERS:
            raise InputError(
                f"the network has {network.layout.trained:,} parameters, but needs 1 to {_MOST_PARAMETERS:,}; "
                "check its layers, their `channels` and `units`"
            )
        check_sizes(network.layers, input_shape)
        return network

    @classmethod
    def from_config(cls, config: Config, input_shape: tuple[int, int, int], classes: int) -> "Network":
        """The network of a configuration, with its loss and what of it is frozen. Raises as `from_tables`."""
        return cls.from_tables(config.model.layers, input_shape, classes, loss=config.loss, freeze=config.model.freeze)

    def tables(self) -> list[dict[str, Any]]:
        """The layers as plain tables with every setting filled in; `from_tables` makes the same network of them."""
        encoded = msgspec.json.encode(self.layers)  # and back: pairs are lists, as in files, with which tables compare
        return msgspec.json.decode(encoded, type=list[dict[str, Any]])

    def init(self, seed: int) -> Array:
        """Starting parameters and buffers (size,). Each parameter has a random stream, keyed by seed and place."""
        vector = np.empty(self.layout.size, self.dtype)
        views = self.layout.views(vector)
        for index, (layer, parameters) in enumerate(zip(self.chain.layers, self.chain.parameters, strict=True)):
            for number, (name, parameter) in enumerate(parameters.items()):
                views[f"{layer.name}.{name}"][...] = parameter.draw(random_streams.initial_values(seed, index, number))
        for entry, buffer in zip(self.layout.buffers, self._buffers(), strict=True):
            views[entry.name][...] = buffer.start
        return vector

    def update_buffers(self, buffers: Array, sums: Array, count: int) -> None:
        """Move the buffers, in place, by their shares to the means of a batch: `sums`, over `count` samples."""
        for part in self._moving:
            own = buffers[part]
            own += self._shares[part] * (sums[part] / buffers.dtype.type(count) - own)

    def loss_and_gradient(
        self,
        parameters: Array,
        images: Array,
        labels: Labels,
        rng: Generators | None,
        out: Array,
        second: Second | None = None,
    ) -> Sums:
        """Sums over the samples of `images` (n, H, W, C); gradient and statistics, likewise, overwrite `out` (size,).

        They are 0 for what is frozen. `rng` gives a random layer (dropout), by its index, its generator; None means
        that nothing is random. `second`: other labels (n,), and the shares (n,) that `labels` have, for images that are
        mixed of two. Not a number in, not a number out: nothing is clipped.
        """
        if not len(images):
            out.fill(0)
            return Sums(0.0, 0, 0)
        with np.errstate(all="ignore"):
            work = self._workspaces(len(images), parameters)
            for layer_work, g in zip(work, self._views(out), strict=True):
                layer_work.g = g
            logits = self._forward(images, work, True, rng)
            sums, gradient = self._judge(logits, labels, second)
            self.chain.backward(gradient.astype(self.dtype), work, wanted=False)
            for part, _ in self.layout.still:
                out[part] = 0
        return sums

    def loss(self, parameters: Array, images: Array, labels: Labels, out: Array | None = None) -> Sums:
        """Sums over the samples of `images` (n, H, W, C), as in evaluation: without dropout.

        What else is counted (cnnpar/nn/confusion.py) overwrites `out`, where that has room for it.
        """
        if not len(images):
            return Sums(0.0, 0, 0)
        with np.errstate(all="ignore"):
            logits = self._forward(images, self._workspaces(len(images), parameters), False, None)
            if out is not None and len(out):
                confusion.count(logits, labels, out)
            return self._judge(logits, labels)[0]

    def probabilities(self, parameters: Array, images: Array) -> NDArray[np.float64]:
        """The probability of each class for each image, (n, classes), as the loss has it."""
        if not len(images):
            return np.zeros((0, self.classes))
        with np.errstate(all="ignore"):
            logits = self._forward(images, self._workspaces(len(images), parameters), False, None)
            return losses.probabilities(self._loss, logits)

    def _forward(self, images: Array, work: list[Workspace], training: bool, rng: Generators | None) -> Array:
        """The logits (n, classes)."""
        x = np.empty((*images.shape[1:3], len(images), images.shape[3]), self.dtype)
        x[...] = images.transpose(1, 2, 0, 3)
        return self.chain.forward(x, work, training, rng)

    def _judge(self, logits: Array, labels: Labels, second: Second | None = None) -> tuple[Sums, Matrix]:
        """Sums over the samples, and the loss's gradient.

        The largest logit is the answer; of equal ones the first; not a number is never right. Of two labels, that of
        the larger share is.
        """
        targets = losses.one_hot(labels, self.classes)
        if second is not None:
            others, shares = second
            targets *= shares[:, np.newaxis]
            targets += losses.one_hot(others, self.classes) * (1 - shares)[:, np.newaxis]
            labels = np.where(shares >= 0.5, labels, others)
        value, gradient = losses.loss(self._loss, logits, targets)
        right = (logits.argmax(axis=1) == labels) & ~np.isnan(logits).any(axis=1)
        return Sums(value, int(right.sum()), len(labels)), gradient

    def _buffers(self) -> list[Buffer]:
        return [buffer for buffers in self.chain.buffers for buffer in buffers.values()]

    def _views(self, vector: Array) -> list[dict[str, Array]]:
        """For every layer, its parameters and buffers by their names within the layer."""
        views = self.layout.views(vector)
        return [
            {name: views[f"{layer.name}.{name}"] for name in (*parameters, *buffers)}
            for layer, parameters, buffers in zip(
                self.chain.layers, self.chain.parameters, self.chain.buffers, strict=True
            )
        ]

    def _workspaces(self, samples: int, parameters: Array) -> list[Workspace]:
        """Those of the layers for this number of samples, holding the parameters."""
        work = self._kept.pop(samples, None)
        if work is None:
            work = self.chain.workspaces(self._scratch, interface.best(self.dtype, sum(self.chain.products)))
            for own, layer, p in zip(work, self.chain.layers, self._views(parameters), strict=True):
                own.frozen = frozenset(name for name in p if f"{layer.name}.{name}" in self.layout.frozen)
            while len(self._kept) >= _KEPT_SIZES:
                del self._kept[next(iter(self._kept))]
        self._kept[samples] = work  # the one used longest ago is first
        for own, p in zip(work, self._views(parameters), strict=True):
            own.p = p
        return work
