"""Layouts of weights in files: the name and the axes that each array of a network has there.

- "hwio": cnnpar's own: names such as `conv1.weight`, and the axes of `Model.parameters()`.
- "torch": a state dict of PyTorch modules of the same names: kernels (channels, C, H, W), dense weights (units,
  features), and batch normalisation's `weight`, `bias`, `running_mean`, `running_var`. PyTorch flattens an image as
  (C, H, W), so the features behind `flatten` have another order there.
- "keras": Keras' names, such as `conv1/kernel` and `batchnorm1/moving_variance`, which are the paths of the variables
  of a functional model; its axes are those of "hwio".
"""

from collections.abc import Sequence
from typing import NamedTuple, get_args

import numpy as np

from cnnpar.config.sections import Layout
from cnnpar.errors import InputError
from cnnpar.fingerprint import is_users
from cnnpar.nn.layers import Dense, Flatten, GroupNorm, Layer
from cnnpar.nn.network import Network
from cnnpar.nn.residual import Residual
from cnnpar.nn.shapes import Array, Shape

LAYOUTS: tuple[Layout, ...] = get_args(Layout)

_TORCH = {"scale": "weight", "shift": "bias", "mean": "running_mean", "variance": "running_var"}
_KERAS = {
    "weight": "kernel",
    "scale": "gamma",
    "shift": "beta",
    "mean": "moving_mean",
    "variance": "moving_variance",
}
# By the number of axes here: those of PyTorch, numbered as they are here. (H, W, C, channels) -> (channels, C, H, W)
TORCH_AXES: dict[int, tuple[int, ...]] = {1: (0,), 2: (1, 0), 3: (2, 0, 1), 4: (3, 2, 0, 1)}


class Twin(NamedTuple):
    """The twin of an array in another layout."""

    name: str
    shape: Shape
    parts: Shape  # the array's shape here, with the features of a flattened image as its three axes (H, W, C)
    axes: tuple[int, ...]  # of `parts`, in the order that they have there

    def written(self, values: Array) -> Array:
        """Return the values of an array of the network as the twin has them: contiguous, and of its shape."""
        return np.ascontiguousarray(values.reshape(self.parts).transpose(self.axes)).reshape(self.shape)

    def read(self, values: Array, shape: Shape) -> Array:
        """Return the twin's values for the array of the network, which is of `shape`."""
        there = values.reshape([self.parts[axis] for axis in self.axes])
        return there.transpose(np.argsort(self.axes)).reshape(shape)


def twins(network: Network, layout: Layout) -> dict[str, Twin]:
    """Return the twin of each parameter and buffer, by its name here, in the order of the network.

    Raises InputError, which names the layer, where PyTorch or Keras has no twin of it.
    """
    entries = (*network.layout.parameters, *network.layout.buffers)
    if layout == "hwio":
        return {entry.name: Twin(entry.name, entry.shape, *_same(entry.shape)) for entry in entries}
    found: dict[str, Twin] = {}
    end = _add(network.chain.layers, network.input_shape, None, "", layout, found)
    if end is not None:
        raise InputError("the network ends with a flattened image: PyTorch would have the classes in another order")
    return {entry.name: found[entry.name] for entry in entries}


def _add(
    layers: Sequence[Layer], shape: Shape, image: Shape | None, within: str, layout: Layout, found: dict[str, Twin]
) -> Shape | None:
    """Add the twins of layers whose input is of `shape`, and of those within them.

    `image`: the (H, W, C) of the flattened image whose features the input still has, in an order of their own in this
    layout; None if there is none. Returns that of the output.
    """
    for layer in layers:
        place = within + layer.name
        if is_users(type(layer)):
            raise InputError(f"{place}: a layer of your own, which the layout {layout} has no twin of; hwio takes it")
        if isinstance(layer, Residual):
            ends = [
                _add(inner, shape, image, f"{place}.{branch}." if branch else f"{place}.", layout, found)
                for branch, inner in layer.branches().items()
            ]
            if ends[0] != ends[1]:
                raise InputError(f"{place}: adds features of a flattened image to others, whose order PyTorch keeps")
            image = ends[0]
        else:
            if isinstance(layer, GroupNorm) and layer.groups > 1 and image is not None:
                raise InputError(f"{place}: its groups are neighbours in a flattened image, and PyTorch's are others")
            arrays = {name: part.shape for name, part in layer.parameters(shape).items()}
            arrays |= {name: part.shape for name, part in layer.buffers(shape).items()}
            for name, own in arrays.items():
                found[f"{place}.{name}"] = _twin(place, name, own, shape, image, layout)
            image = _flattened(layer, shape, image, layout)
        shape = layer.output_shape(shape)
    return image


def _flattened(layer: Layer, shape: Shape, image: Shape | None, layout: Layout) -> Shape | None:
    """Return the flattened image whose features the output of a layer has, given its input; see `_add`."""
    if isinstance(layer, Flatten) and len(shape) == 3:
        same_order = layout == "keras" or shape[2] == 1 or shape[:2] == (1, 1)
        return None if same_order else shape
    return None if isinstance(layer, Dense) else image  # what a dense layer gives has the order of its units


def _twin(place: str, name: str, shape: Shape, features: Shape, image: Shape | None, layout: Layout) -> Twin:
    """Return the twin of the array `name` of a layer, whose input is of the shape `features`."""
    if layout == "keras":
        return Twin(f"{place.replace('.', '/')}/{_KERAS.get(name, name)}", shape, *_same(shape))
    by_feature = image is not None and shape[:1] == features and name != "bias"
    parts = (*image, *shape[1:]) if by_feature and image is not None else shape
    axes = TORCH_AXES[len(parts)]
    there = tuple(parts[axis] for axis in axes)
    flat = (*there[:-3], shape[0]) if by_feature else there  # (units, C * H * W), or (C * H * W,)
    return Twin(f"{place}.{_TORCH.get(name, name)}", flat, parts, axes)


def _same(shape: Shape) -> tuple[Shape, tuple[int, ...]]:
    """Return parts and axes of a twin that is as the array itself."""
    return shape, tuple(range(len(shape)))
