"""What the layers do number by number: moving, comparing, adding; in numpy, and as the reference for the compiled form.

Images are (H, W, P): pixels of P numbers, the channels of all samples. Points are (36, rows * columns * P, or more):
`rows` x `columns` tiles of an image, as factors or products at the 36 points of minimal filtering; see
`cnnpar.nn.winograd`.

`cnnpar.nn.compiled` has the same functions for float32; a test compares them bit by bit. Zeros that come out of a
comparison are positive zeros, since nothing promises which one `numpy.maximum` returns.
"""

import sys
from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

import cnnpar.nn.formulas as formulas
from cnnpar.compiling import compiled

Array: TypeAlias = NDArray[np.floating[Any]]
Pair: TypeAlias = tuple[int, int]
Slices: TypeAlias = tuple[slice, slice]
Winner: TypeAlias = NDArray[Any]  # uint8, or uint32 for windows of more than 256 pixels

_OUTPUTS: dict[int, Any] = {2: formulas.outputs2, 3: formulas.outputs3, 4: formulas.outputs4}
_GRADIENTS: dict[int, Any] = {2: formulas.gradients2, 3: formulas.gradients3, 4: formulas.gradients4}
_WORTH = 1_000_000  # products of a sample; with fewer, a network is done before compiled loops are even loaded


class Loops(Protocol):
    """This module, or the compiled one."""

    def input_points(
        self, x: Array, top: int, left: int, down: int, across: int, rows: int, columns: int, out: Array
    ) -> None:
        """Write the factors of tiles of 6 x 6 inputs, which are `down` and `across` pixels apart.

        The first tile begins at the pixel (top, left) of x; outside of the image there are zeros.
        """

    def outputs(
        self, products: Array, bias: Array, top: int, down: int, across: int, rows: int, columns: int, out: Array
    ) -> None:
        """Write the outputs, `down` x `across` of each tile, from the row `top` on, as far as `out` has them.

        `bias` (P,) is added.
        """

    def gradient_points(self, dy: Array, top: int, down: int, across: int, rows: int, columns: int, out: Array) -> None:
        """Write the gradient of the products, given that of the outputs."""

    def maxpool(self, x: Array, height: int, width: int, down: int, across: int, out: Array, winner: Winner) -> None:
        """Write the maximum of every window, and the first pixel in it, in row-major order, that has it."""

    def maxpool_gradient(
        self, dy: Array, winner: Winner, height: int, width: int, down: int, across: int, overlap: bool, out: Array
    ) -> None:
        """Write, or add where windows overlap, the gradient of the pixels; those in no window are left as they are."""

    def relu_gradient(self, dy: Array, y: Array, out: Array) -> None:
        """Write dy where y > 0, else 0; all are vectors."""


def input_points(x: Array, top: int, left: int, down: int, across: int, rows: int, columns: int, out: Array) -> None:
    """See Loops."""
    points = _points(out, rows, columns, x.shape[2])
    image = _cut(x, top, left, (rows - 1) * down + 6, (columns - 1) * across + 6)
    half = formulas.inputs(*(image[i : i + (rows - 1) * down + 1 : down] for i in range(6)))
    for i, row in enumerate(half):
        values = formulas.inputs(*(row[:, j : j + (columns - 1) * across + 1 : across] for j in range(6)))
        for j, value in enumerate(values):
            points[i, j] = value


def outputs(
    products: Array, bias: Array, top: int, down: int, across: int, rows: int, columns: int, out: Array
) -> None:
    """See Loops."""
    half = _OUTPUTS[down](*_points(products, rows, columns, out.shape[2]))  # each (6, rows, columns, P)
    for i, row in enumerate(half):
        target = out[top + i :: down][: row.shape[1]]
        for j, value in enumerate(_OUTPUTS[across](*row)):
            place = target[:, j::across]
            place[...] = value[: place.shape[0], : place.shape[1]] + bias


def gradient_points(dy: Array, top: int, down: int, across: int, rows: int, columns: int, out: Array) -> None:
    """See Loops."""
    points = _points(out, rows, columns, dy.shape[2])
    image = _cut(dy, top, 0, rows * down, columns * across)
    half = _GRADIENTS[down](*(image[i::down] for i in range(down)))
    for i, row in enumerate(half):
        for j, value in enumerate(_GRADIENTS[across](*(row[:, j::across] for j in range(across)))):
            points[i, j] = value


def maxpool(x: Array, height: int, width: int, down: int, across: int, out: Array, winner: Winner) -> None:
    """See Loops."""
    winner.fill(0)
    larger, number = np.empty(out.shape, bool), np.empty(out.shape, winner.dtype)
    for k, pixel in enumerate(_pixels(x, out.shape, height, width, down, across)):
        if k == 0:
            out[...] = pixel
            continue
        np.greater(pixel, out, out=larger)
        np.multiply(larger, winner.dtype.type(k), out=number)
        np.maximum(winner, number, out=winner)
        np.maximum(pixel, out, out=out)
    out += 0


def maxpool_gradient(
    dy: Array, winner: Winner, height: int, width: int, down: int, across: int, overlap: bool, out: Array
) -> None:
    """See Loops."""
    pixels = list(_pixels(out, dy.shape, height, width, down, across))
    for k in reversed(range(len(pixels))):
        if overlap:
            pixels[k] += dy * (winner == k)
        else:
            np.multiply(dy, winner == k, out=pixels[k])


def relu_gradient(dy: Array, y: Array, out: Array) -> None:
    """See Loops."""
    np.multiply(dy, y > 0, out=out)


def window_pixels(window: Pair, stride: Pair, count: Pair) -> Iterator[Slices]:
    """For every pixel of an unpadded window, in row-major order, the slices of an image that hold it for all windows.

    `count` windows by axis, so image[slices] has the shape (*count, ...).
    """
    for y in range(window[0]):
        for x in range(window[1]):
            yield (
                slice(y, y + stride[0] * (count[0] - 1) + 1, stride[0]),
                slice(x, x + stride[1] * (count[1] - 1) + 1, stride[1]),
            )


def best(dtype: np.dtype[Any], products: int) -> Loops:
    """The loops for a network of so many products a sample: compiled ones, where they are to be had and pay."""
    worth = dtype == np.float32 and products >= _WORTH
    return cast("Loops", (compiled("cnnpar.nn.compiled") if worth else None) or NUMPY)


def _points(array: Array, rows: int, columns: int, size: int) -> Array:
    """The points of so many tiles, (6, 6, rows, columns, P): a view."""
    return array[:, : rows * columns * size].reshape(6, 6, rows, columns, size)


def _cut(x: Array, top: int, left: int, height: int, width: int) -> Array:
    """So many pixels of an image from (top, left) on; outside of it they are 0."""
    out = np.zeros((height, width, x.shape[2]), x.dtype)
    copy_pixels(x, (top, left), out)
    return out


def copy_pixels(x: Array, start: Pair, out: Array) -> None:
    """Copy the pixels of an image from `start` on into `out`, whose others, outside of the image, are left alone."""
    (rows, from_rows), (columns, from_columns) = (
        _common(x.shape[axis], start[axis], out.shape[axis]) for axis in (0, 1)
    )
    out[rows, columns] = x[from_rows, from_columns]


def _common(size: int, start: int, count: int) -> Slices:
    """Which of `count` pixels from `start` on lie in an axis of `size`, and where in the axis."""
    first, last = max(0, -start), max(0, min(count, size - start), -start)
    return slice(first, last), slice(first + start, last + start)


def _pixels(image: Array, count: tuple[int, ...], height: int, width: int, down: int, across: int) -> Iterator[Array]:
    """For every pixel of a window, in row-major order, the view of the image that holds it for `count` windows."""
    pixels = window_pixels((height, width), (down, across), (count[0], count[1]))
    return (image[slices] for slices in pixels)


NUMPY = cast("Loops", sys.modules[__name__])
