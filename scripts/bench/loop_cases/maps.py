"""Cases of the loops over maps, (height, width, channels of all samples): layers between the first and the last."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from cnnpar.nn.shapes import Array
from cnnpar.nn.windows import Windows, window_count
from scripts.bench.loop_cases.case import RANDOM, Case, Images, cases, random

_GAP = 144  # numbers between the points of Winograd's tiles, as in the engine
_BAND = 100_000  # numbers of windows and outputs that the engine has in a cache at a time

_DIGITS, _SMALL, _SMALL16 = Images(8, 8, 16, 16), Images(28, 28, 16, 64), Images(28, 28, 16, 16)
_SECOND, _CIFAR, _MOBILE = Images(14, 14, 32, 64), Images(32, 32, 32, 16), Images(16, 16, 64, 16)
_MAPS = _DIGITS, _SMALL16, _SMALL, _SECOND, _CIFAR


@cases("numba_pixels.windows")
def _windows(_: str) -> Iterator[Case]:
    """Windows as of a first convolution of 16 channels, as many rows as the engine takes at a time."""
    for images, size, stride in (
        (Images(8, 8, 1, 16), 3, 1),
        (Images(28, 28, 1, 16), 3, 1),
        (Images(28, 28, 1, 64), 3, 1),
        (Images(28, 28, 1, 64), 5, 1),
        (Images(28, 28, 2, 64), 3, 1),
        (Images(32, 32, 3, 16), 3, 1),
        (Images(32, 32, 3, 64), 3, 1),
        (Images(32, 32, 3, 16), 5, 1),
        (Images(64, 64, 3, 16), 3, 2),
        (Images(32, 32, 4, 16), 3, 1),
    ):
        columns, elements = window_count(images.width, size, stride), size * size * images.channels
        rows = max(
            1, min(window_count(images.height, size, stride), _BAND // (columns * images.samples * (elements + 17)))
        )
        x = random(stride * (rows - 1) + size, *images.shape[1:])
        out = random(elements + 1, rows * columns * images.samples)
        arguments = x, 0, size, size, images.channels, stride, stride, (rows, columns), out
        yield Case(f"{images}, {size} x {size} / {stride}", arguments, (x,), (out[:-1],))


@cases("numba_pixels.maxpool", "numba_pixels.extremes")
def _pooling(name: str) -> Iterator[Case]:
    for images, size, stride in ((_DIGITS, 2, 2), (_SMALL16, 2, 2), (_SMALL, 2, 2), (_CIFAR, 2, 2), (_SECOND, 3, 2)):
        x = images.values
        out, winner = _pooled(images, size, stride)
        what = f"{images}, {size} x {size} / {stride}"
        if name == "maxpool":
            yield Case(what, (x, size, size, stride, stride, True, out, winner), (x,), (out, winner))
        else:
            sign = np.sign(random(x.shape[2]))
            yield Case(what, (x, sign, size, size, stride, stride, out, winner), (x, sign), (out, winner))


@cases("numba_pixels.maxpool_gradient", "numba_pixels.extremes_gradient")
def _pooling_gradients(name: str) -> Iterator[Case]:
    for images in (_DIGITS, _SMALL16, _SMALL, _CIFAR):
        dx, x = images.values, images.values
        dy, winner = _pooled(images, 2, 2)
        winner[...] = RANDOM.integers(0, 4, winner.shape)
        if name == "maxpool_gradient":
            yield Case(f"{images}, 2 x 2 / 2", (dy, winner, 2, 2, 2, 2, False, dx), (dy, winner), (dx,))
        else:
            scale, shift = random(2, dx.shape[2])
            arguments = dy, winner, x, scale, shift, 2, 2, 2, 2, dx
            yield Case(f"{images}, 2 x 2 / 2", arguments, (dy, winner, x, scale, shift), (dx,))
    if name == "maxpool_gradient":
        dx = _SECOND.values
        dy, winner = _pooled(_SECOND, 3, 2)
        yield Case(f"{_SECOND}, 3 x 3 / 2", (dy, winner, 3, 3, 2, 2, True, dx), (dy, winner, dx), (dx,))


def _pooled(images: Images, size: int, stride: int) -> tuple[Array, Any]:
    """Return room for pooled images and for the numbers of the winners."""
    count = [window_count(side, size, stride) for side in images.shape[:2]]
    return random(*count, images.shape[2]), np.zeros((*count, images.shape[2]), np.uint8)


@cases("numba_pixels.relu_gradient")
def _relu(_: str) -> Iterator[Case]:
    for images in _MAPS:
        dy, y, out = (images.values.ravel() for _ in range(3))
        yield Case(str(images), (dy, y, out), (dy, y), (out,))


@cases("numba_pixels.moments")
def _moments(_: str) -> Iterator[Case]:
    """Forward of a map with itself, backward of two."""
    for images in _MAPS:
        x, y, out = images.values, images.values, np.empty((2, images.shape[2]))
        yield Case(str(images), (x, y, out), (x, y), (out,))
        yield Case(f"{images}, squares", (x, x, out), (x,), (out,))


@cases("numba_pixels.affine", "numba_pixels.affine_gradient")
def _affine(name: str) -> Iterator[Case]:
    for images in _MAPS:
        x, out = images.values, images.values
        slope, scale, shift = random(3, images.shape[2])
        if name == "affine":
            yield Case(str(images), (x, scale, shift, True, out), (x, scale, shift), (out,))
        else:
            dy = images.values
            yield Case(str(images), (dy, x, slope, scale, shift, out), (dy, x, slope, scale, shift), (out,))


@cases("numba_depthwise.depthwise", "numba_depthwise.depthwise_gradient")
def _depthwise(name: str) -> Iterator[Case]:
    for images, size, stride, dilation in (
        (Images(32, 32, 32, 16), 3, 1, 1),
        (Images(16, 16, 64, 64), 3, 1, 1),
        (Images(8, 8, 128, 16), 3, 1, 1),
        (Images(16, 16, 64, 16), 3, 2, 1),
        (Images(16, 16, 64, 16), 3, 1, 2),
        (Images(16, 16, 64, 16), 5, 1, 1),
    ):
        dy, kernel = images.values, random(size, size, images.shape[2])
        strides, dilations = (stride, stride), (dilation, dilation)
        span = Windows((0, 0), strides, images.shape[:2], dilations).span((size, size))
        x = random(*span, images.shape[2])
        what = f"{images}, {size} x {size} / {stride}" + (f", dilation {dilation}" if dilation > 1 else "")
        if name == "depthwise":
            yield Case(what, (x, kernel, strides, dilations, dy), (x, kernel, dy), (dy,))
        else:
            yield Case(what, (x, dy, strides, dilations, kernel), (x, dy), (kernel,))


@cases(
    "numba_winograd.input_points",
    "numba_winograd.input_gradients",
    "numba_winograd.outputs",
    "numba_winograd.gradient_points",
)
def _winograd(name: str) -> Iterator[Case]:
    """Tiles of 4 x 4 outputs of a kernel of 3 x 3, those that the engine has in a cache at a time."""
    for images, rows in (
        (_SMALL16, 4),
        (Images(14, 14, 16, 64), 1),
        (_SECOND, 1),
        (_CIFAR, 1),
        (Images(8, 8, 128, 16), 1),
    ):
        columns = -(-images.width // 4)
        place = 4, 4, rows, columns
        points = random(36, rows * columns * images.shape[2] + _GAP)
        own = points[:, : rows * columns * images.shape[2]]
        maps = random(*images.shape)
        seen = maps[: 4 * rows + (2 if "input" in name else 0)]  # the rows of pixels that take part
        what = f"{images}, {rows} of {-(-images.height // 4)} rows of tiles"
        if name == "input_points":
            yield Case(what, (maps, 0, -1, *place, points), (seen,), (own,))
        elif name == "input_gradients":
            yield Case(what, (points, 0, -1, *place, maps), (own, seen), (seen,))
        elif name == "gradient_points":
            yield Case(what, (maps, 0, *place, points), (seen,), (own,))
        else:
            bias = random(images.shape[2])
            yield Case(what, (points, bias, 0, *place, maps), (own, bias), (seen,))
