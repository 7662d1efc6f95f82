"""The loops of `cnnpar.nn.loops.interface` in numpy: the definition, and the version that needs no compiler.

Shapes: images (H, W, P); P = N * C numbers a pixel.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from cnnpar.nn.loops import winograd_formulas
from cnnpar.nn.shapes import Array, Indices, Pair, Statistics, Winner
from cnnpar.nn.windows import common, copy_pixels, window_pixels

# By the outputs of a tile along an axis.
_OUTPUTS: dict[int, Any] = {2: winograd_formulas.outputs2, 3: winograd_formulas.outputs3, 4: winograd_formulas.outputs4}
_GRADIENTS: dict[int, Any] = {
    2: winograd_formulas.gradients2,
    3: winograd_formulas.gradients3,
    4: winograd_formulas.gradients4,
}


def input_points(x: Array, top: int, left: int, down: int, across: int, rows: int, columns: int, out: Array) -> None:
    """Implement `Loops.input_points`."""
    points = _points(out, rows, columns, x.shape[2])  # (6, 6, rows, columns, P)
    image = _cut(x, top, left, (rows - 1) * down + 6, (columns - 1) * across + 6)  # all tiles, with zeros
    half = winograd_formulas.inputs(*(image[i : i + (rows - 1) * down + 1 : down] for i in range(6)))
    for i, row in enumerate(half):  # (rows, width, P): the values of all tiles at the point i of the vertical axis
        values = winograd_formulas.inputs(*(row[:, j : j + (columns - 1) * across + 1 : across] for j in range(6)))
        for j, value in enumerate(values):
            points[i, j] = value


def input_gradients(
    points: Array, top: int, left: int, down: int, across: int, rows: int, columns: int, out: Array
) -> None:
    """Implement `Loops.input_gradients`."""
    factors = _points(points, rows, columns, out.shape[2])  # (6, 6, rows, columns, P)
    for r in range(rows):
        # (6, width, P): tiles overlap, and are added from left to right, then rows of tiles from top to bottom.
        half = np.zeros((6, (columns - 1) * across + 6, out.shape[2]), out.dtype)
        for c in range(columns):
            for j, value in enumerate(winograd_formulas.input_gradients(*factors[:, :, r, c].swapaxes(0, 1))):
                half[:, c * across + j] += value
        whole = np.stack(winograd_formulas.input_gradients(*half))  # (6, width, P): a row of tiles as pixels
        (y, from_y), (x, from_x) = (
            common(size, start, count)
            for size, start, count in zip(out.shape, (top + r * down, left), whole.shape, strict=False)
        )
        out[from_y, from_x] += whole[y, x]


def outputs(
    products: Array, bias: Array, top: int, down: int, across: int, rows: int, columns: int, out: Array
) -> None:
    """Implement `Loops.outputs`."""
    half = _OUTPUTS[down](*_points(products, rows, columns, out.shape[2]))  # `down` arrays (6, rows, columns, P)
    for i, row in enumerate(half):
        target = out[top + i :: down][: row.shape[1]]  # (rows, W, P): row i of the outputs of each tile
        for j, value in enumerate(_OUTPUTS[across](*row)):
            place = target[:, j::across]  # fewer than (rows, columns, P) where tiles reach beyond the image
            place[...] = value[: place.shape[0], : place.shape[1]] + bias


def gradient_points(dy: Array, top: int, down: int, across: int, rows: int, columns: int, out: Array) -> None:
    """Implement `Loops.gradient_points`."""
    points = _points(out, rows, columns, dy.shape[2])
    image = _cut(dy, top, 0, rows * down, columns * across)
    # 6 arrays (rows, width, P)
    half = _GRADIENTS[down](*(image[i::down] for i in range(down)))
    for i, row in enumerate(half):
        for j, value in enumerate(_GRADIENTS[across](*(row[:, j::across] for j in range(across)))):
            points[i, j] = value


def windows(
    x: Array, row: int, height: int, width: int, depth: int, down: int, across: int, count: Pair, out: Array
) -> None:
    """Implement `Loops.windows`."""
    image = x[row:].reshape(len(x) - row, x.shape[1], -1, depth)  # (H, W, N, C)
    target = out[: height * width * depth].reshape(height * width, depth, *count, -1)  # (pixels, C, *count, N)
    for k, pixel in enumerate(_pixels(image, count, height, width, down, across)):
        target[k] = pixel.transpose(3, 0, 1, 2)


def maxpool(
    x: Array, height: int, width: int, down: int, across: int, rectify: bool, out: Array, winner: Winner
) -> None:
    """Implement `Loops.maxpool`."""
    # With a sign of 1 everywhere the extreme is the maximum.
    extremes(x, np.ones(x.shape[2], x.dtype), height, width, down, across, out, winner)
    if rectify:
        np.copyto(winner, winner.dtype.type(height * width), where=~(out > 0))  # NaN too has no winner
        np.maximum(out, 0, out=out)
    out += 0  # turns -0 into +0


def maxpool_gradient(
    dy: Array, winner: Winner, height: int, width: int, down: int, across: int, overlap: bool, out: Array
) -> None:
    """Implement `Loops.maxpool_gradient`."""
    pixels = list(_pixels(out, dy.shape, height, width, down, across))  # views (rows, columns, P)
    for k in reversed(range(len(pixels))):  # a pixel in several windows: the upper left window is added first
        if overlap:
            pixels[k] += dy * (winner == k)
        else:
            np.multiply(dy, winner == k, out=pixels[k])


def relu_gradient(dy: Array, y: Array, out: Array) -> None:
    """Implement `Loops.relu_gradient`."""
    np.multiply(dy, y > 0, out=out)


def moments(x: Array, y: Array, out: Statistics) -> None:
    """Implement `Loops.moments`."""
    out.fill(0)
    for first, second in zip(x.reshape(-1, x.shape[2]), y.reshape(-1, y.shape[2]), strict=True):  # pixels, each (P,)
        out[0] += first
        out[1] += np.multiply(first, second, dtype=np.float64)  # exact for float32: no rounding before the sum


def affine(x: Array, scale: Array, shift: Array, rectify: bool, out: Array) -> None:
    """Implement `Loops.affine`."""
    np.multiply(x, scale, out=out)
    out += shift
    if rectify:
        np.maximum(out, 0, out=out)
        out += 0  # turns -0 into +0


def affine_gradient(dy: Array, x: Array, slope: Array, scale: Array, shift: Array, out: Array) -> None:
    """Implement `Loops.affine_gradient`."""
    affine(x, scale, shift, False, out)  # rounded before dy * slope is added
    np.add(dy * slope, out, out=out)


def rectified_moments(dy: Array, x: Array, scale: Array, shift: Array, out: Statistics) -> None:
    """Implement `Loops.rectified_moments`."""
    moments(_passed(dy, x, scale, shift), x, out)


def rectified_gradient(
    dy: Array, x: Array, before: tuple[Array, Array], numbers: tuple[Array, Array, Array], out: Array
) -> None:
    """Implement `Loops.rectified_gradient`."""
    affine_gradient(_passed(dy, x, *before), x, *numbers, out)


def _passed(dy: Array, x: Array, scale: Array, shift: Array) -> Array:
    """Return the gradient dy of a relu that is behind x * scale + shift."""
    return dy * (x * scale + shift > 0)


def weighted_sums(x: Array, starts: Indices, places: Indices, weights: Array, out: Array) -> None:
    """Implement `Loops.weighted_sums`."""
    for column, (first, stop) in enumerate(pairwise(starts)):
        np.multiply(x[:, places[first]], weights[first], out=out[:, column])
        for place, weight in zip(places[first + 1 : stop], weights[first + 1 : stop], strict=True):
            out[:, column] += x[:, place] * weight


def extremes(
    x: Array, sign: Array, height: int, width: int, down: int, across: int, out: Array, winner: Winner
) -> None:
    """Implement `Loops.extremes`."""
    winner.fill(0)
    larger, number = np.empty(out.shape, bool), np.empty(out.shape, winner.dtype)
    for k, pixel in enumerate(_pixels(x, out.shape, height, width, down, across)):
        value = pixel * sign
        if k == 0:
            out[...] = value
            continue
        # k grows, so this maximum is k wherever the pixel is larger than all before it.
        np.greater(value, out, out=larger)
        np.multiply(larger, winner.dtype.type(k), out=number)
        np.maximum(winner, number, out=winner)
        np.maximum(value, out, out=out)
    out *= sign  # exact: 1 or -1


def extremes_gradient(
    dy: Array,
    winner: Winner,
    x: Array,
    scale: Array,
    shift: Array,
    height: int,
    width: int,
    down: int,
    across: int,
    out: Array,
) -> None:
    """Implement `Loops.extremes_gradient`."""
    affine(x, scale, shift, False, out)
    for k, pixel in enumerate(_pixels(out, dy.shape, height, width, down, across)):
        pixel += dy * (winner == k)


def depthwise(x: Array, kernel: Array, stride: Pair, dilation: Pair, out: Array) -> None:
    """Implement `Loops.depthwise`."""
    height, width, _ = kernel.shape
    term = np.empty(out.shape[1:], out.dtype)  # (columns, P)
    for r, row in enumerate(out):  # (columns, P): a row at a time stays in a cache
        for i, j in np.ndindex(height, width):
            pixels = _row(x[r * stride[0] + i * dilation[0]], j * dilation[1], stride[1], len(row))
            row += np.multiply(pixels, kernel[i, j], out=term)


def depthwise_gradient(x: Array, dy: Array, stride: Pair, dilation: Pair, out: Array) -> None:
    """Implement `Loops.depthwise_gradient`."""
    height, width, _ = out.shape
    term, column = np.empty(dy.shape[1:], dy.dtype), np.empty(dy.shape[1:], dy.dtype)  # (columns, P)
    out.fill(0)
    for i, j in np.ndindex(height, width):
        column.fill(0)
        for r, row in enumerate(dy):  # from top to bottom
            pixels = _row(x[r * stride[0] + i * dilation[0]], j * dilation[1], stride[1], len(row))
            column += np.multiply(pixels, row, out=term)
        for pixel in column:  # from left to right
            out[i, j] += pixel


def _row(pixels: Array, first: int, step: int, count: int) -> Array:
    """Return a view of `count` pixels of a row, from `first` on and `step` apart."""
    return pixels[first : first + step * (count - 1) + 1 : step]


def _points(array: Array, rows: int, columns: int, size: int) -> Array:
    """Return a view of the points of rows x columns tiles: (6, 6, rows, columns, P), with P = `size`."""
    return array[:, : rows * columns * size].reshape(6, 6, rows, columns, size)


def _cut(x: Array, top: int, left: int, height: int, width: int) -> Array:
    """Return height x width pixels of an image from (top, left) on, 0 where they lie outside of it."""
    out = np.zeros((height, width, x.shape[2]), x.dtype)
    copy_pixels(x, (top, left), out)
    return out


def _pixels(image: Array, count: tuple[int, ...], height: int, width: int, down: int, across: int) -> Iterator[Array]:
    """Yield the view of the image that holds pixel 0, 1, ... (in row-major order) of all `count` windows."""
    pixels = window_pixels((height, width), (down, across), (count[0], count[1]))
    return (image[slices] for slices in pixels)
