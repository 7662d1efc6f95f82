"""Train in JAX, in one process: a peer that cnnpar is measured against.

    NPROC=2 python -m scripts.bench.peer_jax

throughput.py starts this process; peer_protocol.py says what it reads and prints. $NPROC is the number of XLA's
threads.

The peer has what makes it fast: normalised float32 images prepared ahead, a whole step as one compiled function,
whose parameters, momentum and buffers are donated, steps dispatched without waiting, no loss read before the end, and
pooling as the maximum over axes of a reshaped image: `lax.reduce_window` makes a step of `small` nearly three times as
long.
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

try:
    import jax
    import jax.numpy as jnp
except ModuleNotFoundError:
    sys.exit("scripts.bench.peer_jax needs JAX: pip install jax")

import numpy as np

from scripts.bench.jax_network import Values, arrays, mean_loss
from scripts.bench.networks import LEARNING_RATE, MOMENTUM, TASKS, make_network
from scripts.bench.peer_protocol import Action, batches, images_and_labels, measured_rate, serve
from scripts.harness import make_parser


class Peer:
    """The steps of this process: each is made when a job first needs it, and kept while task and batch stay."""

    def __init__(self) -> None:
        self._place: tuple[str, int] = "", 0  # task and batch
        self._steps: dict[str, Callable[[int], float]] = {}  # by variant

    def measure(self, task: str, batch: int, variant: str, seconds: float) -> dict[str, Any]:
        """Measure samples per second for about so many seconds."""
        if self._place != (task, batch):
            self._steps.clear()
            self._place = task, batch
        if variant not in self._steps:
            self._steps[variant] = _prepare(task, batch, variant == "channels-first")
        return {"rate": measured_rate(self._steps[variant], batch, seconds), "rule": ""}


def _prepare(task: str, batch: int, channels_first: bool) -> Callable[[int], float]:
    """Make a function that does training steps."""
    network = make_network(TASKS[task])
    parameters, buffers = arrays(network, network.init(0), channels_first)
    state = parameters, jax.tree.map(jnp.zeros_like, parameters), buffers
    rows, classes = images_and_labels(task, channels_first)
    images, labels = jnp.asarray(rows), jnp.asarray(classes.astype(np.int32))
    height, width, channels = network.input_shape
    shape = (batch, channels, height, width) if channels_first else (batch, height, width, channels)
    drawn = batches(len(rows), batch).astype(np.int32)
    loss = partial(mean_loss, network.tables())

    @partial(jax.jit, donate_argnums=0)
    def step(state: tuple[Values, Values, Values], images: jax.Array, labels: jax.Array, chosen: jax.Array) -> Any:
        parameters, momentum, buffers = state
        pixels, classes = images[chosen].reshape(shape), labels[chosen]
        (mean, buffers), gradient = jax.value_and_grad(
            lambda trained: loss({**trained, **buffers}, pixels, classes, channels_first), has_aux=True
        )(parameters)
        momentum = jax.tree.map(lambda v, g: MOMENTUM * v + g, momentum, gradient)
        parameters = jax.tree.map(
            lambda p, v, g: p - LEARNING_RATE * (g + MOMENTUM * v), parameters, momentum, gradient
        )
        return (parameters, momentum, buffers), mean

    position = 0

    def advance(steps: int) -> float:
        nonlocal position, state
        for _ in range(steps):
            state, mean = step(state, images, labels, drawn[position % len(drawn)])
            position += 1
        return float(mean)

    return advance


def main() -> None:
    make_parser(__doc__, json=False).parse_args()

    def start() -> Mapping[str, Action]:
        jnp.zeros(1).block_until_ready()  # starts XLA's threads
        return {"measure": Peer().measure}

    serve(start)


if __name__ == "__main__":
    main()
