"""Write the nodes and weights of an ONNX graph, layer by layer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from onnx import NodeProto, TensorProto, helper, numpy_helper

from cnnpar.nn.shapes import Array, Shape


class Graph:
    """Nodes in the order in which they run, and the constants that they take."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append a node, which is named as its output, and return that name."""
        self.nodes.append(helper.make_node(op, list(inputs), [output], output, **attributes))
        return output

    def constant(self, name: str, values: ArrayLike, dtype: DTypeLike = np.float32) -> str:
        """Add a constant, and return its name."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype), name))
        return name


class Place:
    """The part of a graph that one layer fills.

    Names begin with the layer's and have a dot after it, as those of its parameters do: conv1.weight, conv1.y. So none
    is that of an input or an output of the graph.
    """

    def __init__(self, graph: Graph, name: str, shape: Shape, arrays: Mapping[str, Array]) -> None:
        """Take the layer's full name, the shape of its input, (H, W, C) or (features,), and all arrays by name."""
        self.graph = graph
        self.name = name
        self.shape = shape
        self.arrays = arrays
        self._count = 0

    @property
    def image(self) -> bool:
        """Tell whether the input is (N, C, H, W), and not (N, features)."""
        return len(self.shape) == 3

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append a node, and return the name of its output."""
        self._count += 1
        return self.graph.node(op, inputs, f"{self.name}.y{'' if self._count == 1 else self._count}", **attributes)

    def constant(self, key: str, values: ArrayLike, dtype: DTypeLike = np.float32) -> str:
        """Add a constant of the layer, and return its name."""
        return self.graph.constant(f"{self.name}.{key}", values, dtype)

    def array(self, key: str, axes: Sequence[int] | None = None) -> str:
        """Add a parameter or buffer of the layer, its axes in another order if given, and return its name."""
        values = self.arrays[f"{self.name}.{key}"]
        return self.constant(key, values if axes is None else values.transpose(axes))

    def has(self, key: str) -> bool:
        """Tell whether the layer has a parameter or buffer of that name."""
        return f"{self.name}.{key}" in self.arrays
