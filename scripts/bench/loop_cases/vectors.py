"""Cases of the loops over vectors, rows and images of a data set: activations, optimizers, augmentation."""

from collections.abc import Iterator

import numpy as np

from scripts.bench.loop_cases.case import RANDOM, Case, Images, cases, random

_NUMBERS = {"a map of 8 x 8 x 16": 16_384, "a map of 28 x 28 x 16": 200_704, "a map of 32 x 32 x 32": 524_288}

_ARRAYS = {  # of an activation: its arrays that are read, its number if it has one, and how many it writes
    "relu": (1, (), 1),
    "leaky_relu": (1, (0.1,), 1),
    "leaky_relu_gradient": (2, (0.1,), 1),
    "sigmoid": (1, (), 1),
    "sigmoid_gradient": (2, (), 1),
    "silu": (1, (), 2),
    "elu": (1, (1.0,), 2),
    "gelu": (1, (), 2),
}


@cases(*(f"numba_activations.{name}" for name in _ARRAYS))
def _activations(name: str) -> Iterator[Case]:
    """Maps of 16 samples."""
    read, numbers, written = _ARRAYS[name]
    for what, size in _NUMBERS.items():
        vectors = [random(size) for _ in range(read + written)]
        arguments = *vectors[:read], *map(np.float32, numbers), *vectors[read:]
        yield Case(f"{what}, 16 samples", arguments, tuple(vectors[:read]), tuple(vectors[read:]))


@cases("numba_activations.softmax", "numba_activations.softmax_gradient")
def _softmax(name: str) -> Iterator[Case]:
    """Probabilities of classes, and those of a map's pixels."""
    for rows, channels in ((64, 10), (64, 100), (16 * 16 * 16, 64)):
        read = tuple(random(rows, channels) for _ in range(2 if name == "softmax_gradient" else 1))
        out = random(rows, channels)
        yield Case(f"{rows:,} rows of {channels}", (*read, out), read, (out,))


_RULES = {  # vectors, numbers after the divisor, and which of the vectors are written
    "sgd": (2, 2, (0,)),
    "momentum": (3, 3, (0, 2)),
    "nesterov": (3, 3, (0, 2)),
    "adam": (4, 6, (0, 2, 3)),
    "rmsprop": (3, 4, (0, 2)),
    "rmsprop_momentum": (4, 5, (0, 2, 3)),
    "adagrad": (3, 3, (0, 2)),
    "lars": (3, 4, (0, 2)),
    "lamb": (4, 5, (1, 2, 3)),
}


@cases(*(f"compiled.{name}" for name in _RULES))
def _rules(name: str) -> Iterator[Case]:
    """Update rules: of the parameters of `cifar`, and of a network of millions."""
    count, numbers, written = _RULES[name]
    for size in (300_000, 2_500_000):
        vectors = tuple(np.abs(random(size)) for _ in range(count))
        values = (np.float32(1), *(np.float32(0.5),) * numbers)
        yield Case(f"{size:,} parameters", (*vectors, *values), vectors, tuple(vectors[i] for i in written))


@cases("numba_warp.bilinear", "numba_warp.bilinear_floats")
def _warp(name: str) -> Iterator[Case]:
    """Images that are turned a little, as in augmentation."""
    for images in (Images(28, 28, 1, 64), Images(32, 32, 3, 64)):
        height, width, channels, samples = images
        dtype = np.uint8 if name == "bilinear" else np.float32
        framed = RANDOM.integers(0, 256, (samples, height + 3, width + 3, channels)).astype(dtype)
        out = np.empty((samples, height, width, channels), dtype)
        y, x = np.broadcast_arrays(*np.ogrid[:height, :width])
        angle = RANDOM.uniform(-0.2, 0.2, (samples, 1, 1))
        rows = (np.cos(angle) * y + np.sin(angle) * x).astype(np.float32)
        columns = (np.cos(angle) * x - np.sin(angle) * y).astype(np.float32)
        yield Case(str(images), (framed, rows, columns, out), (framed, rows, columns), (out,))
