"""The network: layers in order, and their parameters and buffers in one flat vector.

The vector crosses processes, is updated by optimizers, and is saved in checkpoints; `Layout` maps names such as
`conv1.weight` to its parts. A network holds no parameters, only workspaces that it reuses from batch to batch: it
serves one thread at a time, and its results depend on nothing but the arguments.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

from cnnpar import rng as random_streams
from cnnpar.config.choices import CrossEntropy, Loss
from cnnpar.config.sections import Config, Kernels
from cnnpar.errors import InputError
from cnnpar.nn import confusion, losses
from cnnpar.nn.chain import Chain, Generators
from cnnpar.nn.functions import Matrix
from cnnpar.nn.layers import Buffer, Layer, Softmax
from cnnpar.nn.layout import layout, segments
from cnnpar.nn.loops import interface
from cnnpar.nn.shapes import Array
from cnnpar.nn.sums import NOTHING, Sums
from cnnpar.nn.tables import check_numbers, check_sizes, layers_from_tables
from cnnpar.nn.textbook.choose import with_kernels
from cnnpar.nn.views import Views
from cnnpar.nn.workspace import Scratch, Workspace

Labels = NDArray[np.integer[Any]]
Second = tuple[Labels, NDArray[np.float64]]  # mixup: other labels (n,), and the shares (n,) of the first ones

_MOST_PARAMETERS = 2**31
_LOSS = CrossEntropy()
_KEPT_SIZES = 4  # numbers of samples with workspaces: microbatch and the last one, in training and evaluation


class Network:
    """Layers in order, from images (n, H, W, C) to logits (n, classes), with their loss and gradients."""

    def __init__(
        self,
        layers: Sequence[Layer],
        input_shape: tuple[int, int, int],
        dtype: DTypeLike,
        loss: Loss,
        freeze: Sequence[str],
        kernels: Kernels,
    ) -> None:
        """Take layers that fit each other; `from_tables` checks that they do."""
        self.layers = tuple(layers)
        self.input_shape = input_shape
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.kernels = kernels
        self._loss = loss
        # A softmax at the end is left out: the loss takes logits, and has its own.
        computed = layers[:-1] if layers and isinstance(layers[-1], Softmax) else layers
        self.chain = Chain(with_kernels(computed, kernels), input_shape)
        self.classes = self.chain.shapes[-1][0]
        self.layout = layout(self.chain, freeze)
        shares = [(entry, buffer.share) for entry, buffer in zip(self.layout.buffers, self._buffers(), strict=True)]
        self._shares = np.array(
            [share for entry, share in shares for _ in range(math.prod(entry.shape))], self.dtype
        )  # of each number of the buffers
        updated = segments([entry for entry in self.layout.buffers if entry.name not in self.layout.frozen])
        trained = self.layout.trained
        self._updated = [slice(part.start - trained, part.stop - trained) for part, _ in updated]  # of the buffers
        self._views = Views(self.layout, self.chain)
        self._kept: dict[int, list[Workspace]] = {}  # by number of samples: a workspace for each layer
        self._version, self._fixed = 0, cast("Array | None", None)  # of the parameters, and these if they are read-only
        self._scratch = Scratch()  # shared by all layers and numbers of samples, as they run in turns

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without workspaces: pickled, their arrays would neither be aligned nor share memory."""
        return {**self.__dict__, "_kept": {}, "_scratch": Scratch(), "_fixed": None}

    @classmethod
    def from_tables(
        cls,
        tables: Sequence[Mapping[str, Any]],
        input_shape: tuple[int, int, int],
        classes: int,
        dtype: DTypeLike = np.float32,
        loss: Loss = _LOSS,
        freeze: Sequence[str] = (),
        kernels: Kernels = "fast",
    ) -> "Network":
        """Return the network of a configuration's `model.layers`, for images (H, W, C), computed by `kernels`.

        `freeze`: patterns of parameters and buffers that are not trained (cnnpar/nn/layout.py); batch normalisation
        that is frozen as a whole normalises as in evaluation. Raises InputError that names the layer and what is wrong:
        its type, a key, or a shape that does not fit.
        """
        network = cls(layers_from_tables(tables, input_shape, classes), input_shape, dtype, loss, freeze, kernels)
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
        """Return the network of a new run's configuration, with its loss and frozen parts.

        Raises InputError as `from_tables`, and for settings that float32 does not hold.
        """
        model = config.model
        network = cls.from_tables(
            model.layers, input_shape, classes, loss=config.loss, freeze=model.freeze, kernels=model.kernels
        )
        check_numbers(network.layers)
        return network

    @property
    def libraries(self) -> frozenset[str]:
        """Names of packages besides numpy whose version decides the bits: part of the fingerprint of a run."""
        return self.chain.libraries

    def tables(self) -> list[dict[str, Any]]:
        """Return the layers as tables with every setting filled in; `from_tables` makes the same network of them."""
        encoded = msgspec.json.encode(self.layers)  # and back, so that pairs are lists, as in files
        return msgspec.json.decode(encoded, type=list[dict[str, Any]])

    def init(self, seed: int) -> Array:
        """Return initial parameters and buffers (size,). Each parameter has a random stream of its own."""
        vector = np.empty(self.layout.size, self.dtype)
        views = self.layout.views(vector)
        for index, (layer, parameters) in enumerate(zip(self.chain.layers, self.chain.parameters, strict=True)):
            for number, (name, parameter) in enumerate(parameters.items()):
                # Keyed by the indices of layer and parameter: other layers' sizes change nothing.
                views[f"{layer.name}.{name}"][...] = parameter.draw(random_streams.initial_values(seed, index, number))
        for entry, buffer in zip(self.layout.buffers, self._buffers(), strict=True):
            views[entry.name][...] = buffer.start
        return vector

    def update_buffers(self, buffers: Array, sums: Array, count: int) -> None:
        """Move the buffers, in place, by their shares towards the means of a batch: `sums` / `count` samples."""
        for part in self._updated:
            own = buffers[part]  # a view of numbers that are not frozen
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
        """Return the sums over the samples of `images` (n, H, W, C); write gradient and statistics to `out` (size,).

        These too are sums over the samples, and 0 for what is frozen. `rng` maps the index of a random layer (dropout)
        to its generator; None means that nothing is random. `second`: other labels (n,) and the shares (n,) of
        `labels`, for images mixed of two. NaN in the input gives NaN in the output.
        """
        if not len(images):
            out.fill(0)
            return NOTHING
        with np.errstate(all="ignore"):  # NaN and infinity are results here; training/loop.py looks for them
            work = self._workspaces(len(images), parameters)
            for layer_work, g in zip(work, self._views.of(out), strict=True):
                layer_work.g = g  # layers write straight to `out`
            logits = self._forward(images, work, True, rng)  # (n, classes)
            sums, gradient = self._loss_of_logits(logits, labels, second)
            self.chain.backward(gradient.astype(self.dtype), work, wanted=False)
            for part, _ in self.layout.frozen_segments:  # whatever layers wrote or left there
                out[part] = 0
        return sums

    def loss(self, parameters: Array, images: Array, labels: Labels, out: Array | None = None) -> Sums:
        """Return the sums over the samples of `images` (n, H, W, C), as in evaluation: without dropout.

        Write the confusion vector (cnnpar/nn/confusion.py) to `out`, unless that is None or empty.
        """
        if not len(images):
            return NOTHING
        with np.errstate(all="ignore"):
            logits = self.logits(parameters, images)
            if out is not None and len(out):
                confusion.count(logits, labels, out)
            return self._loss_of_logits(logits, labels)[0]

    def probabilities(self, parameters: Array, images: Array) -> NDArray[np.float64]:
        """Return the probabilities (n, classes) of images (n, H, W, C), by softmax or sigmoid as the loss has it."""
        if not len(images):
            return np.zeros((0, self.classes))
        with np.errstate(all="ignore"):
            return losses.probabilities(self._loss, self.logits(parameters, images))

    def load_loops(self) -> interface.Loops:
        """Return the loops that all passes take, loaded: a machine's first use of them compiles for seconds."""
        products = sum(self.chain.products) if self.kernels == "fast" else 0  # else plain numpy, all of it
        return interface.choose_loops(self.dtype, products)

    def logits(self, parameters: Array, images: Array) -> Array:
        """Return the logits (n, classes) of images (n, H, W, C), in memory that the next call may use again."""
        return self._forward(images, self._workspaces(len(images), parameters), False, None)

    def _forward(self, images: Array, work: list[Workspace], training: bool, rng: Generators | None) -> Array:
        """Return the logits (n, classes)."""
        x = np.empty((*images.shape[1:3], len(images), images.shape[3]), self.dtype)  # (H, W, N, C)
        x[...] = images.transpose(1, 2, 0, 3)
        return self.chain.forward(x, work, training, rng)

    def _loss_of_logits(self, logits: Array, labels: Labels, second: Second | None = None) -> tuple[Sums, Matrix]:
        """Return the sums over the samples, and the gradient of the loss with regard to the logits (n, classes).

        The answer is the class of the largest logit, the first one of equals. It is right if it is the label, or of two
        labels that of the larger share; logits with a NaN are never right.
        """
        targets = losses.one_hot(labels, self.classes)  # (n, classes)
        if second is not None:
            others, shares = second
            targets *= shares[:, np.newaxis]
            targets += losses.one_hot(others, self.classes) * (1 - shares)[:, np.newaxis]
            labels = np.where(shares >= 0.5, labels, others)  # (n,)
        value, gradient = losses.loss(self._loss, logits, targets)
        right = logits.argmax(axis=1) == labels
        if not math.isfinite(value):
            right &= ~np.isnan(logits).any(axis=1)
        return Sums(value, int(np.count_nonzero(right)), len(labels)), gradient

    def _buffers(self) -> list[Buffer]:
        return [buffer for buffers in self.chain.buffers for buffer in buffers.values()]

    def _workspaces(self, samples: int, parameters: Array) -> list[Workspace]:
        """Return the layers' workspaces for this number of samples, with views of the parameters in them."""
        work = self._kept.pop(samples, None)
        if work is None:
            work = self.chain.workspaces(self._scratch, self.load_loops())
            for own, layer, p in zip(work, self.chain.layers, self._views.of(parameters), strict=True):
                own.frozen = frozenset(name for name in p if f"{layer.name}.{name}" in self.layout.frozen)
            while len(self._kept) >= _KEPT_SIZES:  # the least recently used one goes
                del self._kept[next(iter(self._kept))]
        self._kept[samples] = work  # last in the dictionary
        if parameters is not self._fixed:  # an array that is read-only keeps its values, and what was made of them
            self._version += 1
            self._fixed = None if parameters.flags.writeable else parameters
        for own, p in zip(work, self._views.of(parameters), strict=True):
            own.p, own.version = p, self._version
        return work
