"""All compiled loops of the package, and for each the shapes of real networks that it is measured with.

A new loop is found by itself, and needs a function of its name below: tests/scripts/test_loops.py misses it.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import cnnpar
from cnnpar.nn.shapes import Array
from cnnpar.nn.windows import Windows, window_count

_RANDOM = np.random.default_rng(0)
_GAP = 144  # numbers between the points of Winograd's tiles, as in the engine
_BAND = 100_000  # numbers of windows and outputs that the engine has in a cache at a time


class Loop(NamedTuple):
    """A compiled loop: its name, `module.function` as in this file, and numba's dispatcher."""

    name: str
    compiled: Any


class Case(NamedTuple):
    """Arguments of a loop; and what it must move at least: the arrays that it reads, and those that it writes."""

    what: str
    arguments: tuple[Any, ...]
    read: tuple[Any, ...]
    written: tuple[Any, ...]

    @property
    def numbers(self) -> int:
        """Return the size of the largest array."""
        return int(max(array.size for array in self.read + self.written))

    @property
    def moved(self) -> int:
        """Return the bytes that are read and written."""
        return int(sum(array.nbytes for array in self.read + self.written))

    @property
    def held(self) -> int:
        """Return the bytes of all arrays, which are fewer where one is read and written."""
        return int(sum({id(array): array.nbytes for array in self.read + self.written}.values()))


def loops() -> list[Loop]:
    """Load all loops that the package has: the functions, in any of its files, that `compiling.loop` decorates."""
    root = Path(cnnpar.__file__).parent
    found = []
    for path in sorted(root.rglob("*.py")):
        if "\n@loop(" not in path.read_text(encoding="utf-8"):
            continue
        module = import_module(".".join(("cnnpar", *path.relative_to(root).with_suffix("").parts)))
        # Functions that are compiled into others have no signatures of their own.
        names = [name for name, value in vars(module).items() if getattr(value, "nopython_signatures", None)]
        found += [Loop(f"{path.stem}.{name}", getattr(module, name)) for name in names]
    return found


def cases_of(loop: Loop) -> Iterator[Case]:
    """Yield the cases of a loop, one at a time, as they take memory. KeyError: it has none."""
    return _CASES[loop.name]()


_CASES: dict[str, Callable[[], Iterator[Case]]] = {}


def _cases(*loops: str) -> Callable[[Callable[[str], Iterator[Case]]], Callable[[str], Iterator[Case]]]:
    """Say whose cases a generator yields; it is given the name of the loop without that of its module."""

    def keep(generator: Callable[[str], Iterator[Case]]) -> Callable[[str], Iterator[Case]]:
        for name in loops:
            _CASES[name] = lambda name=name: generator(name.rpartition(".")[2])  # type: ignore[misc]
        return generator

    return keep


class _Images(NamedTuple):
    """Images in a network: a microbatch of maps (height, width, channels)."""

    height: int
    width: int
    channels: int
    samples: int

    def __str__(self) -> str:
        return f"{self.height} x {self.width} x {self.channels}, {self.samples} samples"

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels * self.samples

    @property
    def values(self) -> Array:
        return _random(*self.shape)


_DIGITS, _SMALL, _SMALL16 = _Images(8, 8, 16, 16), _Images(28, 28, 16, 64), _Images(28, 28, 16, 16)
_SECOND, _CIFAR, _MOBILE = _Images(14, 14, 32, 64), _Images(32, 32, 32, 16), _Images(16, 16, 64, 16)
_MAPS = _DIGITS, _SMALL16, _SMALL, _SECOND, _CIFAR


def _random(*shape: int) -> Array:
    return _RANDOM.standard_normal(shape).astype(np.float32)


@_cases("numba_pixels.windows")
def _windows(_: str) -> Iterator[Case]:
    """Windows as of a first convolution of 16 channels, as many rows as the engine takes at a time."""
    for images, size, stride in (
        (_Images(8, 8, 1, 16), 3, 1),
        (_Images(28, 28, 1, 16), 3, 1),
        (_Images(28, 28, 1, 64), 3, 1),
        (_Images(28, 28, 1, 64), 5, 1),
        (_Images(28, 28, 2, 64), 3, 1),
        (_Images(32, 32, 3, 16), 3, 1),
        (_Images(32, 32, 3, 64), 3, 1),
        (_Images(32, 32, 3, 16), 5, 1),
        (_Images(64, 64, 3, 16), 3, 2),
        (_Images(32, 32, 4, 16), 3, 1),
    ):
        columns, elements = window_count(images.width, size, stride), size * size * images.channels
        rows = max(
            1, min(window_count(images.height, size, stride), _BAND // (columns * images.samples * (elements + 17)))
        )
        x = _random(stride * (rows - 1) + size, *images.shape[1:])
        out = _random(elements + 1, rows * columns * images.samples)
        arguments = x, 0, size, size, images.channels, stride, stride, (rows, columns), out
        yield Case(f"{images}, {size} x {size} / {stride}", arguments, (x,), (out[:-1],))


@_cases("numba_pixels.maxpool", "numba_pixels.extremes")
def _pooling(name: str) -> Iterator[Case]:
    for images, size, stride in ((_DIGITS, 2, 2), (_SMALL16, 2, 2), (_SMALL, 2, 2), (_CIFAR, 2, 2), (_SECOND, 3, 2)):
        x = images.values
        out, winner = _pooled(images, size, stride)
        what = f"{images}, {size} x {size} / {stride}"
        if name == "maxpool":
            yield Case(what, (x, size, size, stride, stride, True, out, winner), (x,), (out, winner))
        else:
            sign = np.sign(_random(x.shape[2]))
            yield Case(what, (x, sign, size, size, stride, stride, out, winner), (x, sign), (out, winner))


@_cases("numba_pixels.maxpool_gradient", "numba_pixels.extremes_gradient")
def _pooling_gradients(name: str) -> Iterator[Case]:
    for images in (_DIGITS, _SMALL16, _SMALL, _CIFAR):
        dx, x = images.values, images.values
        dy, winner = _pooled(images, 2, 2)
        winner[...] = _RANDOM.integers(0, 4, winner.shape)
        if name == "maxpool_gradient":
            yield Case(f"{images}, 2 x 2 / 2", (dy, winner, 2, 2, 2, 2, False, dx), (dy, winner), (dx,))
        else:
            scale, shift = _random(2, dx.shape[2])
            arguments = dy, winner, x, scale, shift, 2, 2, 2, 2, dx
            yield Case(f"{images}, 2 x 2 / 2", arguments, (dy, winner, x, scale, shift), (dx,))
    if name == "maxpool_gradient":
        dx = _SECOND.values
        dy, winner = _pooled(_SECOND, 3, 2)
        yield Case(f"{_SECOND}, 3 x 3 / 2", (dy, winner, 3, 3, 2, 2, True, dx), (dy, winner, dx), (dx,))


def _pooled(images: _Images, size: int, stride: int) -> tuple[Array, Any]:
    """Return room for pooled images and for the numbers of the winners."""
    count = [window_count(side, size, stride) for side in images.shape[:2]]
    return _random(*count, images.shape[2]), np.zeros((*count, images.shape[2]), np.uint8)


@_cases("numba_pixels.relu_gradient")
def _relu(_: str) -> Iterator[Case]:
    for images in _MAPS:
        dy, y, out = (images.values.ravel() for _ in range(3))
        yield Case(str(images), (dy, y, out), (dy, y), (out,))


@_cases("numba_pixels.moments")
def _moments(_: str) -> Iterator[Case]:
    """Forward of a map with itself, backward of two."""
    for images in _MAPS:
        x, y, out = images.values, images.values, np.empty((2, images.shape[2]))
        yield Case(str(images), (x, y, out), (x, y), (out,))
        yield Case(f"{images}, squares", (x, x, out), (x,), (out,))


@_cases("numba_pixels.affine", "numba_pixels.affine_gradient")
def _affine(name: str) -> Iterator[Case]:
    for images in _MAPS:
        x, out = images.values, images.values
        slope, scale, shift = _random(3, images.shape[2])
        if name == "affine":
            yield Case(str(images), (x, scale, shift, True, out), (x, scale, shift), (out,))
        else:
            dy = images.values
            yield Case(str(images), (dy, x, slope, scale, shift, out), (dy, x, slope, scale, shift), (out,))


@_cases("numba_depthwise.depthwise", "numba_depthwise.depthwise_gradient")
def _depthwise(name: str) -> Iterator[Case]:
    for images, size, stride, dilation in (
        (_Images(32, 32, 32, 16), 3, 1, 1),
        (_Images(16, 16, 64, 64), 3, 1, 1),
        (_Images(8, 8, 128, 16), 3, 1, 1),
        (_Images(16, 16, 64, 16), 3, 2, 1),
        (_Images(16, 16, 64, 16), 3, 1, 2),
        (_Images(16, 16, 64, 16), 5, 1, 1),
    ):
        dy, kernel = images.values, _random(size, size, images.shape[2])
        strides, dilations = (stride, stride), (dilation, dilation)
        span = Windows((0, 0), strides, images.shape[:2], dilations).span((size, size))
        x = _random(*span, images.shape[2])
        what = f"{images}, {size} x {size} / {stride}" + (f", dilation {dilation}" if dilation > 1 else "")
        if name == "depthwise":
            yield Case(what, (x, kernel, strides, dilations, dy), (x, kernel, dy), (dy,))
        else:
            yield Case(what, (x, dy, strides, dilations, kernel), (x, dy), (kernel,))


@_cases(
    "numba_winograd.input_points",
    "numba_winograd.input_gradients",
    "numba_winograd.outputs",
    "numba_winograd.gradient_points",
)
def _winograd(name: str) -> Iterator[Case]:
    """Tiles of 4 x 4 outputs of a kernel of 3 x 3, those that the engine has in a cache at a time."""
    for images, rows in (
        (_SMALL16, 4),
        (_Images(14, 14, 16, 64), 1),
        (_SECOND, 1),
        (_CIFAR, 1),
        (_Images(8, 8, 128, 16), 1),
    ):
        columns = -(-images.width // 4)
        place = 4, 4, rows, columns
        points = _random(36, rows * columns * images.shape[2] + _GAP)
        own = points[:, : rows * columns * images.shape[2]]
        maps = _random(*images.shape)
        seen = maps[: 4 * rows + (2 if "input" in name else 0)]  # the rows of pixels that take part
        what = f"{images}, {rows} of {-(-images.height // 4)} rows of tiles"
        if name == "input_points":
            yield Case(what, (maps, 0, -1, *place, points), (seen,), (own,))
        elif name == "input_gradients":
            yield Case(what, (points, 0, -1, *place, maps), (own, seen), (seen,))
        elif name == "gradient_points":
            yield Case(what, (maps, 0, *place, points), (seen,), (own,))
        else:
            bias = _random(images.shape[2])
            yield Case(what, (points, bias, 0, *place, maps), (own, bias), (seen,))


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


@_cases(*(f"compiled.{name}" for name in _RULES))
def _rules(name: str) -> Iterator[Case]:
    """Update rules: of the parameters of `cifar`, and of a network of millions."""
    count, numbers, written = _RULES[name]
    for size in (300_000, 2_500_000):
        vectors = tuple(np.abs(_random(size)) for _ in range(count))
        values = (np.float32(1), *(np.float32(0.5),) * numbers)
        yield Case(f"{size:,} parameters", (*vectors, *values), vectors, tuple(vectors[i] for i in written))


@_cases("numba_warp.bilinear", "numba_warp.bilinear_floats")
def _warp(name: str) -> Iterator[Case]:
    """Images that are turned a little, as in augmentation."""
    for images in (_Images(28, 28, 1, 64), _Images(32, 32, 3, 64)):
        height, width, channels, samples = images
        dtype = np.uint8 if name == "bilinear" else np.float32
        framed = _RANDOM.integers(0, 256, (samples, height + 3, width + 3, channels)).astype(dtype)
        out = np.empty((samples, height, width, channels), dtype)
        y, x = np.broadcast_arrays(*np.ogrid[:height, :width])
        angle = _RANDOM.uniform(-0.2, 0.2, (samples, 1, 1))
        rows = (np.cos(angle) * y + np.sin(angle) * x).astype(np.float32)
        columns = (np.cos(angle) * x - np.sin(angle) * y).astype(np.float32)
        yield Case(str(images), (framed, rows, columns, out), (framed, rows, columns), (out,))
