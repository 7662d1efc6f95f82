"""Networks of cnnpar in JAX: a pass over the tables of layers, with parameters and buffers by cnnpar's names."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

try:
    import jax
    import jax.numpy as jnp
    from jax import lax
except ModuleNotFoundError:
    sys.exit("scripts.bench.jax_network needs JAX: pip install jax")

from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Array, pair
from cnnpar.nn.windows import pad_sizes

Values = dict[str, jax.Array]
Table = Mapping[str, Any]

_AXES = {False: ("NHWC", "HWIO", "NHWC"), True: ("NCHW", "OIHW", "NCHW")}


def arrays(network: Network, vector: Array, channels_first: bool) -> tuple[Values, Values]:
    """Copy cnnpar's parameters (size,), in the layout's order of axes; parameters and buffers by name."""
    trained = {entry.name for entry in network.layout.parameters}
    parts: tuple[Values, Values] = {}, {}
    for name, view in network.layout.views(vector).items():
        kernel = channels_first and view.ndim == 4
        parts[name not in trained][name] = jnp.array(view.transpose(3, 2, 0, 1) if kernel else view)
    return parts


class Pass:
    """One forward pass of a batch in training."""

    def __init__(self, values: Values, channels_first: bool) -> None:
        """`values`: parameters and buffers."""
        self.values = values
        self.moved: Values = {}  # buffers as they are afterwards
        self.axes = _AXES[channels_first]
        self.first = channels_first

    def run(self, tables: Sequence[Table], x: jax.Array, prefix: str = "") -> jax.Array:
        """Return the output of a chain of layers. Raises AttributeError for a layer it lacks."""
        for table in tables:
            layer = getattr(self, f"_{table['type']}")
            x = layer(table, x, f"{prefix}{table['name']}.")
        return x

    def _conv2d(self, table: Table, x: jax.Array, name: str) -> jax.Array:
        kernel, stride, dilation = (pair(table[key]) for key in ("kernel", "stride", "dilation"))
        sides = x.shape[2:] if self.first else x.shape[1:3]
        spans = [(taps - 1) * step + 1 for taps, step in zip(kernel, dilation, strict=True)]
        padding = table["padding"]
        sizes = padding if not isinstance(padding, str | int) else (padding, padding)
        zeros = [pad_sizes(*axis) for axis in zip(sides, spans, stride, sizes, strict=True)]
        weight = self.values[f"{name}weight"]
        y = lax.conv_general_dilated(x, weight, stride, zeros, None, dilation, self.axes, table["groups"])
        return y + self._by_channel(self.values[f"{name}bias"]) if table["bias"] else y

    def _batchnorm2d(self, table: Table, x: jax.Array, name: str) -> jax.Array:
        places = (0, 2, 3) if self.first else (0, 1, 2)
        mean, square = x.mean(places), (x * x).mean(places)
        variance = square - mean * mean
        count = x.size // mean.size
        for key, seen in (("mean", mean), ("variance", variance * (count / (count - 1)))):
            old = self.values[f"{name}{key}"]
            self.moved[f"{name}{key}"] = old + table["momentum"] * (lax.stop_gradient(seen) - old)
        scale = self.values[f"{name}scale"] * lax.rsqrt(variance + table["epsilon"])
        return x * self._by_channel(scale) + self._by_channel(self.values[f"{name}shift"] - mean * scale)

    def _relu(self, _table: Table, x: jax.Array, _name: str) -> jax.Array:
        return jax.nn.relu(x)

    def _maxpool2d(self, table: Table, x: jax.Array, _name: str) -> jax.Array:
        """Pool without `lax.reduce_window`, whose gradient takes most of a step on a CPU."""
        assert pair(table["stride"]) == pair(table["size"])
        high, wide = pair(table["size"])
        height, width = x.shape[2:] if self.first else x.shape[1:3]
        rows, columns = height // high, width // wide
        if self.first:
            cut = x[:, :, : rows * high, : columns * wide]
            return cut.reshape(*x.shape[:2], rows, high, columns, wide).max((3, 5))
        cut = x[:, : rows * high, : columns * wide]
        return cut.reshape(len(x), rows, high, columns, wide, x.shape[3]).max((2, 4))

    def _globalavgpool2d(self, _table: Table, x: jax.Array, _name: str) -> jax.Array:
        return x.mean((2, 3) if self.first else (1, 2))

    def _flatten(self, _table: Table, x: jax.Array, _name: str) -> jax.Array:
        return (x.transpose(0, 2, 3, 1) if self.first else x).reshape(len(x), -1)  # cnnpar's order of features

    def _dense(self, _table: Table, x: jax.Array, name: str) -> jax.Array:
        return x @ self.values[f"{name}weight"] + self.values[f"{name}bias"]

    def _residual(self, table: Table, x: jax.Array, name: str) -> jax.Array:
        return self.run(table["layers"], x, name) + self.run(table["shortcut"], x, f"{name}shortcut.")

    def _by_channel(self, numbers: jax.Array) -> jax.Array:
        return numbers[:, None, None] if self.first else numbers


def mean_loss(
    tables: Sequence[Table], values: Values, images: jax.Array, labels: jax.Array, channels_first: bool
) -> Any:
    """Compute the mean cross-entropy of a batch, and the buffers as they are after it."""
    one = Pass(values, channels_first)
    logits = one.run(tables, images)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
    return -chosen.mean(), one.moved
